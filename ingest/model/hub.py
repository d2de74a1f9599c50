"""Why the Hugging Face Hub did not hand something out, in words."""

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

Reason = tuple[str, str, str]
"""Found, expected, do: what every AtlasError is made of."""


def hub_reason(name: str, error: BaseException) -> Reason | None:
    """The known cause behind an error of huggingface_hub or transformers; None if it is none of the Hub's."""
    chain = _chain(error)

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    known: list[tuple[bool, Reason]] = [
        (
            has(GatedRepoError),
            (
                f"{name} is gated and no token opened it",
                "a Hugging Face token with access",
                "Accept the licence on its page, then run `hf auth login` or set HF_TOKEN",
            ),
        ),
        (
            has(RevisionNotFoundError),
            (
                f"{name} has no such revision",
                "a branch, tag or commit of it",
                "Check the revision",
            ),
        ),
        (
            has(RepositoryNotFoundError, HFValidationError),
            (
                f"no repository {name} on the Hub",
                "a folder or a repository",
                "Check the name",
            ),
        ),
        (
            has(LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError),
            (
                f"{name} is not on this machine and the Hub cannot be reached",
                "a folder or a repository",
                "Check the name and the network, unset HF_HUB_OFFLINE, or name a folder",
            ),
        ),
        (
            has(EntryNotFoundError),
            (
                f"{name} lacks a file that is needed ({first_line(error)})",
                "a complete repository",
                "Check the name",
            ),
        ),
        (
            has(HfHubHTTPError),
            (
                f"the Hub refused {name} ({first_line(error)})",
                "a repository that can be read",
                "Try again later",
            ),
        ),
    ]
    return next((reason for applies, reason in known if applies), None)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain
