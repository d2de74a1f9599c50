"""Inputs that could not be traced or imported, each with its reason: artefacts/failures.jsonl, append-only.

A failure is settled when the same source goes in later: a line {"settled": SOURCE} is added, and it is listed no more.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from atlas.artefact.journal import Journal
from atlas.config import Home


@dataclass(frozen=True)
class Failure:
    """One input that failed."""

    number: int
    """Line in the file, from 1."""
    time: str
    """When, UTC, ISO 8601."""
    job: str
    """ingest or import."""
    source: str
    """File and line, or file, or the prompt."""
    prompt: str | None
    """The prompt, if the line could be read."""
    reason: str
    """What was found, expected, and to be done."""

    def as_row(self) -> dict[str, Any]:
        """Its fields by name."""
        return asdict(self)


def append_failure(home: Home, job: str, source: str, prompt: str | None, reason: str) -> None:
    """Add a failure; it is on disk when this returns."""
    with _journal(home).writing() as journal:
        journal.append([{"time": _now(), "job": job, "source": source, "prompt": prompt, "reason": reason}])


def settle_failure(home: Home, source: str) -> None:
    """Note that an input that failed before is in now; it is on disk when this returns."""
    with _journal(home).writing() as journal:
        journal.append([{"time": _now(), "settled": source}])


def read_failures(home: Home) -> list[Failure]:
    """The failures that are not settled, the last one of each source, oldest first."""
    open_ones: dict[str, Failure] = {}
    for number, record in enumerate(_journal(home).read(), start=1):
        if "settled" in record:
            open_ones.pop(_text(record["settled"]), None)
            continue
        source = _text(record.get("source"))
        prompt = None if record.get("prompt") is None else _text(record["prompt"])
        open_ones.pop(source, None)
        open_ones[source] = Failure(
            number, _text(record.get("time")), _text(record.get("job")), source, prompt, _text(record.get("reason"))
        )
    return list(open_ones.values())


def _journal(home: Home) -> Journal:
    return Journal(home.artefacts / "failures.jsonl")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _text(value: Any) -> str:
    return "" if value is None else str(value)
