"""The loader: from artefacts to stores. Reads files, knows no torch, and may be run at any time, any number of times.

    1. look      which graphs lie in the artefacts, and with what checksum
    2. remove    rows of graphs whose artefact is gone
    3. put       graphs that a store lacks or has of another checksum, store by store, whole or not at all
    4. index     vectors and near-duplicates, once per run
    5. failures  the file of failed inputs

Every step compares what is with what should be, so a run after a crash does what the crash left undone. One loader
works at a time; a second waits for it. `rebuild`, `delete` and `gc` are loaders too.
"""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from atlas.artefact.aside import aside, sweep
from atlas.artefact.failures import read_failures
from atlas.artefact.format import description_file, graph_folder
from atlas.artefact.ledger import Ledger
from atlas.artefact.read import artefact_checksum, graph_ids, read_circuit
from atlas.config import Home
from atlas.errors import ArtefactError, NotFoundError
from atlas.stores.duck import Duck
from atlas.stores.failures import sync_failures
from atlas.stores.feature_index import sync_vectors
from atlas.stores.gate import LockFile
from atlas.stores.graphs import DuckGraphs
from atlas.stores.rows import GraphToLoad

LOADER_WAIT = 3600.0
"""Seconds a second loader waits for the first."""
_BATCH_ROWS = 1_000_000
_BATCH_GRAPHS = 32
_NAMED = 3
_log = logging.getLogger(__name__)


class Progress(Protocol):
    """Told how far a job is: how many are done, of how many, and of what."""

    def __call__(self, done: int, total: int, label: str = "") -> None: ...


class GraphStore(Protocol):
    """A store that graphs are put into one by one. Every store in the list of `_stores` is one."""

    name: str

    def loaded(self) -> dict[int, str]:
        """Ledger number -> checksum of the graphs there."""
        ...

    def put(self, graphs: Sequence[GraphToLoad]) -> None:
        """Insert or replace graphs; a reader sees each whole or not at all."""
        ...

    def remove(self, gids: Sequence[int]) -> None:
        """Remove graphs; a reader sees each whole or not at all."""
        ...


@dataclass(frozen=True)
class LoadReport:
    """What a run of the loader did."""

    loaded: int
    """Graphs put into at least one store."""
    unchanged: int
    """Graphs that were there already."""
    removed: int
    """Graphs whose artefact is gone."""
    damaged: tuple[tuple[str, str], ...]
    """(id, reason) of artefacts that could not be read; what was loaded of them before stays."""
    vectors: int
    """Features added to the indexes."""
    near_duplicates: int
    """Near-duplicate pairs stored now."""
    failures: int
    """Failed inputs on record."""
    seconds: float
    """Time it took, without waiting for another loader."""

    def __str__(self) -> str:
        counts = [
            (self.loaded, "graphs loaded"),
            (self.unchanged, "unchanged"),
            (self.removed, "removed"),
            (len(self.damaged), "damaged"),
            (self.vectors, "vectors added"),
            (self.near_duplicates, "near-duplicates stored"),
        ]
        return (
            ", ".join(f"{count} {what}" for count, what in counts if count or what == "graphs loaded")
            + f" in {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class Projections:
    """Where one set of projections lies."""

    duck: Duck
    """The DuckDB store."""
    vectors: Path
    """Folder of the FAISS indexes."""


def load(home: Home, progress: Progress | None = None, wait: float = LOADER_WAIT) -> LoadReport:
    """Bring the stores in line with the artefacts. Raises StoreBusyError if another loader works longer than `wait`."""
    with loading(home, progress, wait):
        return project(home, Projections(Duck(home), home.vectors), progress)


def rebuild(home: Home, progress: Progress | None = None, wait: float = LOADER_WAIT) -> LoadReport:
    """Make the stores again from the artefacts. The old ones answer until the new ones are ready.

    Raises ArtefactError, and keeps the old stores, if an artefact is damaged: the new ones would lack its graph.
    """
    with loading(home, progress, wait):
        half = aside(home, "rebuild")
        half.mkdir()
        fresh = Projections(Duck(home, half / home.duckdb.name), half / "vectors")
        report = project(home, fresh, progress)
        if report.damaged:
            shutil.rmtree(half)
            raise _incomplete(report.damaged)
        _swap(home, fresh, half)
        shutil.rmtree(half)
    return report


def _incomplete(damaged: tuple[tuple[str, str], ...]) -> ArtefactError:
    named = "; ".join(f"{graph_id[:12]} ({reason.rstrip('.')})" for graph_id, reason in damaged[:_NAMED])
    more = f" and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
    return ArtefactError(
        f"{len(damaged)} artefacts are damaged: {named}{more}",
        "sound artefacts; the stores stay as they were",
        "Restore them, or `atlas delete` them and trace them again",
    )


def delete(home: Home, graph_id: str, progress: Progress | None = None, wait: float = LOADER_WAIT) -> LoadReport:
    """Remove a graph from artefacts and stores. Raises NotFoundError, StoreBusyError.

    Its folder is renamed away first: from then on the graph is gone, and what a crash leaves in the stores is removed
    by the next run of the loader. Its number stays in the ledger, so the same graph made again gets it back.
    """
    folder = graph_folder(home, graph_id)
    with loading(home, progress, wait):
        if not folder.exists():
            raise NotFoundError(
                f"no graph {graph_id[:12]} in {home.root}", "the id of a graph there", "See `atlas list`"
            )
        away = aside(home, "deleted")
        os.rename(folder, away)
        description_file(home, graph_id).unlink(missing_ok=True)
        report = project(home, Projections(Duck(home), home.vectors), progress)
        shutil.rmtree(away)
    return report


def gc(home: Home, wait: float = LOADER_WAIT) -> int:
    """Throw away half-written things of processes that are gone, and descriptions without a graph; how many.

    Descriptions are left alone while a writer of this home is at work, because a description comes before its graph.
    """
    with loading(home, None, wait) as swept:
        busy = home.tmp.exists() and any(home.tmp.iterdir())
        known = set(graph_ids(home))
        described = [] if busy else (home.artefacts / "description").glob("*/*.json")
        orphans = [path for path in described if path.stem not in known]
        for path in orphans:
            path.unlink()
    return len(swept) + len(orphans)


def project(home: Home, to: Projections, progress: Progress | None = None) -> LoadReport:
    """The steps of a run, for a caller that holds `loading`."""
    start = time.monotonic()
    wanted, damaged = _wanted(home)
    loaded: set[int] = set()
    removed: set[int] = set()
    for store in _stores(to):
        found = store.loaded()
        gone = sorted(set(found) - set(wanted) - {gid for gid, _, _ in damaged})
        store.remove(gone)
        removed |= set(gone)
        pending = [gid for gid, (_, checksum) in sorted(wanted.items()) if found.get(gid) != checksum]
        done = 0
        for batch in _batches(home, wanted, pending, damaged):
            store.put(batch)
            loaded |= {graph.gid for graph in batch}
            done += len(batch)
            _tell(progress, done, len(pending), f"graphs in {store.name}")
    vectors = sync_vectors(home, to.duck, to.vectors, lambda at, of: _tell(progress, at, of, "indexes of vectors"))
    failures = sync_failures(to.duck, read_failures(home))
    report = LoadReport(
        loaded=len(loaded),
        unchanged=len(set(wanted) - loaded - {gid for gid, _, _ in damaged}),
        removed=len(removed),
        damaged=tuple((name, reason) for _, name, reason in damaged),
        vectors=vectors.added,
        near_duplicates=vectors.pairs,
        failures=failures,
        seconds=time.monotonic() - start,
    )
    _log.info(
        "loaded=%d unchanged=%d removed=%d damaged=%d vectors=%d seconds=%.2f",
        report.loaded,
        report.unchanged,
        report.removed,
        len(damaged),
        report.vectors,
        report.seconds,
    )
    return report


@contextmanager
def loading(home: Home, progress: Progress | None = None, wait: float = LOADER_WAIT) -> Iterator[list[Path]]:
    """Be the only loader of this home; yields what of dead processes was swept from tmp/.

    The lock dies with its process, so that of a loader that was killed is taken over.
    """

    def on_wait(holder: str) -> None:
        _log.warning("waiting for the loader: %s", holder)
        _tell(progress, 0, 1, f"waiting for {holder}")

    with LockFile(home.stores / "loader.lock").hold(True, wait, f"the loader of {home.root}", on_wait):
        yield sweep(home)


def _stores(to: Projections) -> list[GraphStore]:
    """The stores that graphs are put into, in order."""
    return [DuckGraphs(to.duck)]


def _wanted(home: Home) -> tuple[dict[int, tuple[str, str]], list[tuple[int, str, str]]]:
    """(ledger number -> (id, checksum) of the artefacts, (number, id, reason) of those that cannot be read)."""
    names = graph_ids(home)
    numbers = Ledger(home).assign("graph", names)
    wanted: dict[int, tuple[str, str]] = {}
    damaged = []
    for name in names:
        try:
            wanted[numbers[name]] = name, artefact_checksum(home, name)
        except ArtefactError as error:
            damaged.append((numbers[name], name, str(error)))
    return wanted, damaged


def _batches(
    home: Home, wanted: dict[int, tuple[str, str]], gids: list[int], damaged: list[tuple[int, str, str]]
) -> Iterator[list[GraphToLoad]]:
    """Read circuits in batches that share one opening of a store; a damaged one goes to `damaged`."""
    ledger = Ledger(home)
    sets: dict[str, int] = ledger.numbers("set")
    batch: list[GraphToLoad] = []
    for gid in gids:
        name, checksum = wanted[gid]
        try:
            circuit = read_circuit(home, name)
        except ArtefactError as error:
            damaged.append((gid, name, str(error)))
            _log.error("graph=%s damaged: %s", name[:12], error)
            continue
        if circuit.transcoders not in sets:
            sets[circuit.transcoders] = ledger.set_number(circuit.transcoders)
        batch.append(GraphToLoad(gid, sets[circuit.transcoders], checksum, circuit))
        if len(batch) >= _BATCH_GRAPHS or sum(graph.size for graph in batch) >= _BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _swap(home: Home, fresh: Projections, half: Path) -> None:
    """Rename the new stores into place. Between the renames both are projections of the same artefacts, old or new."""
    with fresh.duck.closed(), Duck(home).closed():
        home.stores.mkdir(parents=True, exist_ok=True)
        home.duckdb.with_name(home.duckdb.name + ".wal").unlink(missing_ok=True)  # it belongs to the old file
        os.replace(fresh.duck.path, home.duckdb)
    if home.vectors.exists():
        os.rename(home.vectors, half / "old-vectors")
    if fresh.vectors.exists():
        os.rename(fresh.vectors, home.vectors)


def _tell(progress: Progress | None, done: int, total: int, label: str) -> None:
    if progress is not None:
        progress(done, total, label)
