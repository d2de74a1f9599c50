"""A job: many examples traced one after the other, safely.

One model load for all; a graph that is there already is not traced again; an input that cannot be traced becomes a row
with its reason; the first Ctrl-C finishes the graph at hand, the second drops it. Nothing here knows a database.
"""

import logging
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

import torch

from atlas.artefact.failures import append_failure
from atlas.artefact.read import graph_ids
from atlas.artefact.write import write_circuit, write_description
from atlas.config import Home
from atlas.domain.example import Line
from atlas.errors import AtlasError, InputError
from ingest.assemble import describe
from ingest.pipeline import Tracer

log = logging.getLogger(__name__)

# What one example may do to a trace without ending the job: memory, and shapes or values that libraries refuse.
_PER_EXAMPLE = (AtlasError, MemoryError, RuntimeError, ValueError, IndexError, OSError)


class Watch(Protocol):
    """Whoever shows progress."""

    def start(self, label: str) -> None:
        """A new example is at hand."""

    def phase(self, phase: str, done: int, total: int) -> None:
        """It has come this far."""

    def finish(self, outcome: str) -> None:
        """It is traced, there already, or failed."""


@dataclass
class JobReport:
    """What became of a job."""

    traced: list[str] = field(default_factory=list)
    """Ids of the graphs made now."""
    present: list[str] = field(default_factory=list)
    """Ids that were there already."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """(source, reason) of each input that failed."""
    stopped: bool = False
    """Whether the user ended it early."""
    seconds: float = 0.0
    """Wall time."""


def ingest_lines(
    home: Home, lines: Iterable[Line], source: str, tracer: Tracer, watch: Watch,
) -> JobReport:
    """Trace every line; see the module's text. `source` names the file in failures."""
    report = JobReport()
    present = set(graph_ids(home))
    begin = time.perf_counter()
    with _stop_on_interrupt() as stop:
        for line in lines:
            if stop:
                report.stopped = True
                break
            _one(home, line, f"{source}:{line.number}", tracer, watch, present, report)
    report.seconds = time.perf_counter() - begin
    return report


def _one(
    home: Home, line: Line, where: str, tracer: Tracer, watch: Watch, present: set[str], report: JobReport,
) -> None:
    watch.start(where if line.example is None else line.example.slug or line.example.prompt)
    try:
        if line.example is None:
            raise line.error or InputError(f"{where} cannot be read")
        prepared = tracer.prepare(line.example)
        if prepared.id in present:
            write_description(home, prepared.id, describe(line.example, prepared.id))
            report.present.append(prepared.id)
            watch.finish("present")
            return
        write_circuit(home, tracer.trace(prepared, watch.phase))
    except _PER_EXAMPLE as error:
        reason = str(error) if isinstance(error, AtlasError) else _explain(error)
        log.warning("failed source=%s reason=%s", where, reason, exc_info=not isinstance(error, AtlasError))
        prompt = None if line.example is None else line.example.prompt
        append_failure(home, job="ingest", source=where, prompt=prompt, reason=reason)
        report.failed.append((where, reason))
        watch.finish("failed")
        return
    present.add(prepared.id)
    report.traced.append(prepared.id)
    log.info("traced id=%s source=%s", prepared.id, where)
    watch.finish("traced")


def _explain(error: BaseException) -> str:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out of memory. Lower --batch-size or --max-nodes, or use --precision bf16."
    return f"{type(error).__name__}: {error}"


@contextmanager
def _stop_on_interrupt() -> Iterator[list[bool]]:
    """A list that is no longer empty after Ctrl-C; a second Ctrl-C raises KeyboardInterrupt at once."""
    stop: list[bool] = []

    def note(number: int, frame: FrameType | None) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.append(True)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: nobody presses Ctrl-C there
        yield stop
        return
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def count_lines(path: Path) -> int:
    """Lines of a prompts file that are not blank. Raises InputError if it cannot be read."""
    try:
        return sum(1 for line in path.read_bytes().splitlines() if line.strip())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "a prompts file (JSON lines)", "See `atlas ingest --help`") from error
