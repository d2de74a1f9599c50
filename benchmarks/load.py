"""How fast graphs get into the stores, how large they are there, and what memory that takes.

    python benchmarks/load.py --graphs 100
    python benchmarks/load.py --graphs 1000 --neo4j driver,import --json

Graphs of 5,000 nodes and 50,000 edges (benchmarks/sized.py) are put into DuckDB, into Neo4j by the driver, one
transaction each, and into an empty Neo4j by its import tool, as the loader does it; making them does not count. Bytes
are those of the data files after a checkpoint; of Neo4j without its transaction log, which does not grow for ever.
Peak memory of this process and of the server is what the kernel says.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sized import sized

from atlas.artefact.ledger import Ledger
from atlas.config import Home, open_home
from atlas.stores.duck import Duck
from atlas.stores.graphs import DuckGraphs
from atlas.stores.local_neo4j.server import running, start, stop
from atlas.stores.neo.connection import Neo
from atlas.stores.neo.exchange import database_folder
from atlas.stores.neo.graphs import NeoGraphs
from atlas.stores.neo.shared import sync_shared
from atlas.stores.rows import GraphToLoad
from ingest.bulk import bulk_from
from ingest.load import GraphStore

WAYS = ("duckdb", "neo4j by driver", "neo4j by import")
_TOGETHER = 16  # graphs of this size that the loader gives DuckDB at once
_TOGETHER_NEO4J = 8  # and the driver
_WARM = 16  # graphs after which Java has compiled what it needs


@dataclass(frozen=True)
class Row:
    """One way of loading."""

    way: str
    """duckdb, neo4j by driver, or neo4j by import."""
    graphs: int
    """How many."""
    edges: int
    """Of all of them."""
    seconds: float
    """Without making the graphs."""
    edges_a_second: float
    """Over all."""
    warm_edges_a_second: float | None
    """Without the first graphs, which Java's compiler slows."""
    bytes_an_edge: float
    """Of the data files, nodes, indexes and all."""
    client_peak_mb: float
    """Peak resident memory of the loading process."""
    server_peak_mb: float | None
    """Peak resident memory of the server, or of the import tool by its own words."""


def main() -> None:
    """Measure each way in a process of its own; print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=5_000)
    parser.add_argument("--edges", type=int, default=50_000)
    parser.add_argument("--active", type=int, default=20_000, help="Unpruned activations a graph; DuckDB holds them.")
    parser.add_argument("--neo4j", default="driver,import", help="Which of driver and import; empty for neither.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(asdict(_measure(chosen))))
        return
    ways = ["duckdb", *(way for way in WAYS if way.rpartition(" ")[2] in chosen.neo4j.split(","))]
    with tempfile.TemporaryDirectory() as folder:
        rows = [_in_a_process(way, chosen, Path(folder) / "home") for way in ways]
    if chosen.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    print(
        "| way | graphs | edges | seconds | edges/s | warm edges/s | bytes an edge | client peak MB | server peak MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(_cell(value) for value in asdict(row).values()) + " |")


def _in_a_process(way: str, chosen: argparse.Namespace, home: Path) -> Row:
    options = [f"--{name}={getattr(chosen, name)}" for name in ("graphs", "nodes", "edges", "active")]
    command = [sys.executable, __file__, *options, f"--one={way}", f"--home={home}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Row(**json.loads(done.stdout.splitlines()[-1]))


def _measure(chosen: argparse.Namespace) -> Row:
    home = open_home(chosen.home, create=True)
    if chosen.one == "duckdb":
        return _duckdb(chosen, home)
    try:
        return _driver(chosen, home) if chosen.one.endswith("driver") else _import(chosen, home)
    finally:
        stop(home)


def _duckdb(chosen: argparse.Namespace, home: Home) -> Row:
    times = _put(DuckGraphs(Duck(home)), chosen, home, _TOGETHER)
    return _row(chosen, sum(times), None, home.duckdb.stat().st_size, None)


def _driver(chosen: argparse.Namespace, home: Home) -> Row:
    server = start(home)
    with Neo(server.address(home)) as neo:
        store = NeoGraphs(neo, home.identity)
        store.prepare()
        times = _put(store, chosen, home, _TOGETHER_NEO4J)
        last = _timed(sync_shared, neo, home.identity, Duck(home))
    peak = _peak_mb(server.pid)
    stop(home)
    warm = times[_WARM // _TOGETHER_NEO4J :]
    rate = chosen.edges * (chosen.graphs - _WARM) / sum(warm) if warm else None
    return _row(chosen, sum(times) + last, rate, _size(home), peak)


def _put(store: GraphStore, chosen: argparse.Namespace, home: Home, together: int) -> list[float]:
    """Seconds of each batch of so many graphs."""
    times = []
    batch: list[GraphToLoad] = []
    for graph in _graphs(chosen, home):
        batch.append(graph)
        if len(batch) == together or graph.gid == chosen.graphs:
            times.append(_timed(store.put, batch))
            batch = []
    return times


def _import(chosen: argparse.Namespace, home: Home) -> Row:
    stop(home)
    report = bulk_from(home)
    peak = report.peak_mb
    stop(home)
    return _row(chosen, report.seconds, None, _size(home), peak)


def _graphs(chosen: argparse.Namespace, home: Home) -> Iterator[GraphToLoad]:
    ledger = Ledger(home)
    for seed in range(1, chosen.graphs + 1):
        circuit = sized(seed, chosen.nodes, chosen.edges, chosen.active)
        yield GraphToLoad(ledger.graph_number(circuit.id), ledger.set_number(circuit.transcoders), circuit.id, circuit)


def _timed(work: Callable[..., object], *arguments: object) -> float:
    begin = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begin


def _row(chosen: argparse.Namespace, seconds: float, warm: float | None, size: int, server: float | None) -> Row:
    edges = chosen.graphs * chosen.edges
    mine = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Row(chosen.one, chosen.graphs, edges, seconds, edges / seconds, warm, size / edges, mine, server)


def _size(home: Home) -> int:
    """Bytes of the database's files, its transaction log aside."""
    assert running(home) is None
    return sum(path.stat().st_size for path in database_folder(home).rglob("*") if path.is_file())


def _peak_mb(pid: int) -> float | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
