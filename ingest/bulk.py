"""A first load of Neo4j by its own import tool: several times as fast as the driver, for hundreds of graphs and more.

DuckDB and the vectors are brought up to date, written as files, imported beside the database that is there and put
in its place. Neo4j holds nothing but projections, so what was there may go; a kill leaves the old database or the new
one, and the next `atlas load` or `atlas neo4j bulk` finishes.
"""

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from atlas.config import Home
from atlas.errors import StoreError
from atlas.stores.duck import Duck
from atlas.stores.local_neo4j.admin import admin
from atlas.stores.local_neo4j.java import is_calendar
from atlas.stores.local_neo4j.server import last_server, running, start, stop
from atlas.stores.neo.address import address
from atlas.stores.neo.bulk import BulkFile, Form, holds_empty_text, import_arguments, write_files
from atlas.stores.neo.connection import Neo
from atlas.stores.neo.exchange import (
    DATABASE,
    begin_exchange,
    commit_exchange,
    database_folder,
    finish_exchange,
    import_folder,
)
from atlas.stores.neo.graphs import NeoGraphs
from atlas.stores.neo.identity import check_empty, mine, other_labels
from atlas.stores.neo.shared import stamp_if_all_there, stamp_of
from ingest.load import LOADER_WAIT, Progress, Projections, Run, loading

_LOCAL = "atlas neo4j start"


@dataclass(frozen=True)
class BulkReport:
    """What was imported."""

    graphs: int
    """Graphs."""
    edges: int
    """Edges (ATTR)."""
    write_seconds: float
    """Time to write the files."""
    import_seconds: float
    """Time of the import tool."""
    seconds: float
    """Time until the database answered with its indexes, after DuckDB was loaded."""
    peak_mb: float | None = None
    """Peak memory of the import tool, if it says so."""

    def __str__(self) -> str:
        rate = self.edges / max(self.seconds, 1e-9)
        return f"{self.graphs} graphs, {self.edges} edges imported in {self.seconds:.1f} s ({rate:,.0f} edges/s)"


def bulk(home: Home, yes: bool = False, progress: Progress | None = None, wait: float = LOADER_WAIT) -> BulkReport:
    """Replace the local server's database by an import of everything; the server runs afterwards.

    Raises StoreError if another server is configured, if the database holds another atlas, or, unless `yes`, if it
    holds nodes that no atlas wrote: those would be lost.
    """
    with loading(home, progress, wait):
        _check_local(home)
        Run(home, progress).embedded(Projections(Duck(home), home.vectors))
        return bulk_from(home, yes, progress)


def bulk_from(home: Home, yes: bool = False, progress: Progress | None = None) -> BulkReport:
    """The same of what DuckDB holds, for a caller that holds `loading`."""
    if running(home) is None:
        finish_exchange(home)
    if database_folder(home).exists():
        _check_replaceable(home, yes)
        stop(home)
    begin = time.monotonic()
    stamp = stamp_of(Duck(home))
    try:
        files, written, peak = _import(home, progress)
    finally:
        server = start(home)
    imported = time.monotonic()
    with Neo(server.address(home)) as neo:
        NeoGraphs(neo, home.identity).prepare()
        stamp_if_all_there(neo, home.identity, Duck(home), stamp)
    rows = {file.name: file.rows for file in files}
    return BulkReport(
        rows.get("Graph", 0),
        rows.get("ATTR", 0),
        written - begin,
        imported - written,
        time.monotonic() - begin,
        peak,
    )


def write_csv(home: Home, folder: Path, progress: Progress | None = None, wait: float = LOADER_WAIT) -> list[str]:
    """Only write the files; the arguments of `neo4j-admin` for the machine of a server elsewhere. Raises StoreError."""
    if folder.exists() and any(folder.iterdir()):
        raise StoreError(f"{folder} is not empty", "an empty or a new folder", "Name another with --csv DIR")
    with loading(home, progress, wait):
        Run(home, progress).embedded(Projections(Duck(home), home.vectors))
        folder.mkdir(parents=True, exist_ok=True)
        files = write_files(Duck(home), home.identity, folder.absolute(), "csv", progress)
    return import_arguments(files, DATABASE, own=False)


def _import(home: Home, progress: Progress | None) -> tuple[list[BulkFile], float, float | None]:
    """(files imported, when they were written, peak memory of the import tool in MB)."""
    configuration = begin_exchange(home)
    folder = import_folder(home) / "files"
    folder.mkdir()
    files = write_files(Duck(home), home.identity, folder, _form(home), progress)
    written = time.monotonic()
    if progress is not None:
        progress(0, 1, f"importing {sum(file.rows for file in files)} rows")
    arguments = import_arguments(files, DATABASE)
    done = admin(home, [*arguments[:4], f"--additional-config={configuration}", *arguments[4:]])
    shutil.rmtree(folder)
    commit_exchange(home)
    said = re.search(r"Peak memory usage: ([0-9.]+)([MG])iB", done.stdout)
    return files, written, None if said is None else float(said[1]) * (1024 if said[2] == "G" else 1)


def _form(home: Home) -> Form:
    """What the home's import tool reads without loss."""
    last = last_server(home)
    reads_parquet = last is None or is_calendar(last.version)
    return "parquet" if reads_parquet and not holds_empty_text(Duck(home)) else "csv"


def _check_local(home: Home) -> None:
    server = address(home)
    if server is not None and server.source != _LOCAL:
        raise StoreError(
            f"the Neo4j server in use is {server.uri} ({server.source})",
            "the local server of this home, whose files can be replaced",
            "Write the files with `atlas neo4j bulk --csv DIR` and import them on the server's machine",
        )


def _check_replaceable(home: Home, yes: bool) -> None:
    """Raise StoreError if the local database holds what an import would lose."""
    with Neo(start(home).address(home)) as neo:
        if mine(neo, home.identity) is None:
            check_empty(neo)
        others = other_labels(neo)
        if others and not yes:
            raise StoreError(
                f"the database holds {others[0][1]} nodes with the label {others[0][0]}, which no atlas wrote",
                "only what can be made again from the artefacts",
                "Save them; then give --yes to lose them here, or use `atlas load`, which leaves them alone",
            )
