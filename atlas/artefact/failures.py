"""Inputs that could not be traced or imported, each with its reason: artefacts/failures.jsonl, append-only."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from atlas.artefact.journal import Journal
from atlas.config import Home


@dataclass(frozen=True)
class Failure:
    """One input that failed."""

    time: str
    """When, UTC, ISO 8601."""
    job: str
    """ingest or import."""
    source: str
    """File and line, or file."""
    prompt: str | None
    """The prompt, if the line could be read."""
    reason: str
    """What was found, expected, and to be done."""

    def as_row(self) -> dict[str, Any]:
        """Its fields by name."""
        return asdict(self)


def append_failure(home: Home, job: str, source: str, prompt: str | None, reason: str) -> Failure:
    """Add a failure; it is on disk when this returns."""
    failure = Failure(datetime.now(UTC).isoformat(timespec="seconds"), job, source, prompt, reason)
    with _journal(home).writing() as journal:
        journal.append([asdict(failure)])
    return failure


def read_failures(home: Home) -> list[Failure]:
    """All failures, oldest first."""
    return [
        Failure(_text(record.get("time")), _text(record.get("job")), _text(record.get("source")),
                None if record.get("prompt") is None else _text(record["prompt"]), _text(record.get("reason")))
        for record in _journal(home).read()
    ]


def _journal(home: Home) -> Journal:
    return Journal(home.artefacts / "failures.jsonl")


def _text(value: Any) -> str:
    return "" if value is None else str(value)
