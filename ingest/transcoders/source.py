"""Where a transcoder set comes from: a folder, or `hf://org/repo[//sub][@rev]`, fetched to a folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from atlas.errors import TranscoderError
from ingest.model.hub import first_line, hub_reason

HUB = "hf://"
_SOURCE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?://(?P<sub>[\w./-]+?))?(?:@(?P<rev>[\w./-]+))?")
_FILE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)/(?P<path>[^?@]+?)(?:(?:\?revision=|@)(?P<rev>[\w./-]+))?")


@dataclass(frozen=True)
class Place:
    """A set's folder on this machine, and where it came from."""

    folder: Path
    """Holds config.yaml."""
    name: str
    """Repository with subfolder, or the folder's name."""
    revision: str | None
    """Commit of the repository; None for a local folder."""


@dataclass(frozen=True)
class FetchedFile:
    """One file on this machine."""

    path: Path
    """The file."""
    origin: str | None
    """repository/path@commit; None for a local one."""


def find_set(source: str) -> Place:
    """The folder of a set, fetched first if it is on the Hub. Raises TranscoderError."""
    if source.startswith(HUB):
        return _fetch_set(source)
    folder = Path(source).expanduser()
    if folder.is_file():
        raise TranscoderError(
            f"{folder} is a file",
            "the folder that holds config.yaml and layer_{i}.safetensors",
            "Name the folder; convert pickled files (.pt, .bin, .pkl) to safetensors first",
        )
    if not folder.is_dir():
        raise TranscoderError(
            f"no folder {source}",
            "a folder, or hf://org/repo[//sub][@rev]",
            "Check the path, or write hf:// before it",
        )
    return Place(folder, folder.resolve().name, None)


def find_file(entry: str, folder: Path) -> FetchedFile:
    """A file that a config lists: hf://org/repo/path[?revision=...], absolute, or relative to the config's folder."""
    if not entry.startswith(HUB):
        return FetchedFile(folder / entry, None)
    match = _FILE.fullmatch(entry)
    if match is None:
        raise TranscoderError(f"{entry} is not a file on the Hub", "hf://org/repo/path[?revision=...]")
    from huggingface_hub import hf_hub_download

    repo, path = match["repo"], match["path"]
    try:
        local = Path(hf_hub_download(repo, path, revision=match["rev"]))
    except (OSError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled) as error:
        raise _refused(entry, error) from error
    return FetchedFile(local, f"{repo}/{path}@{_commit(local)}")


def _fetch_set(source: str) -> Place:
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise TranscoderError(f"{source} is not a set on the Hub", "hf://org/repo[//sub][@rev]")
    from huggingface_hub import snapshot_download

    repo, sub = match["repo"], match["sub"]
    inside = f"{sub}/" if sub else ""
    wanted = [f"{inside}config.yaml", f"{inside}layer_*.safetensors"]
    try:
        root = Path(snapshot_download(repo, revision=match["rev"], allow_patterns=wanted))
    except (OSError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled) as error:
        raise _refused(source, error) from error
    return Place(root / sub if sub else root, f"{repo}//{sub}" if sub else repo, root.name)


def _commit(path: Path) -> str:
    """The commit in a path of the Hub's cache: .../snapshots/COMMIT/..."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else "unknown"


def _refused(name: str, error: BaseException) -> TranscoderError:
    reason = hub_reason(name, error)
    return TranscoderError(*reason) if reason else TranscoderError(f"{name} cannot be fetched ({first_line(error)})")
