"""Killed anywhere in load, rebuild or delete: no half graph is seen, and one more run heals everything.

A child process kills itself at the n-th call of a function of the house, or is killed from outside at a random time
(in the middle of what DuckDB, FAISS or the file system are doing).
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atlas.artefact.format import graph_folder
from atlas.artefact.write import write_circuit, write_description
from atlas.config import Home, open_home
from atlas.domain.circuit import Description
from atlas.stores.duck import Duck
from ingest.load import delete, gc, load
from ingest.verify import verify
from tests.factory import make_circuit
from tests.stores.atlas_state import assert_whole, state

KILLS_AT_CALLS = {"load": 4, "rebuild": 3, "delete": 2}
KILLS_AT_TIMES = {"load": 2, "rebuild": 2, "delete": 1}
_NURSERY = """
import json, os, sys
from pathlib import Path
from atlas.config import Home
import atlas.stores.vector_update, atlas.stores.feature_index, alembic.command, duckdb_sqlalchemy.alembic_impl
from ingest import load as jobs
ours = tuple(str(Path(jobs.__file__).parents[1] / room) for room in ("atlas", "ingest", "migrations"))
def work(home, action, graph, last):
    calls = 0
    def watch(frame, event, argument):
        nonlocal calls
        if event in ("call", "return") and frame.f_code.co_filename.startswith(ours):
            calls += 1
            if calls == last:
                os.kill(os.getpid(), 9)
    if last >= 0:
        sys.setprofile(watch)
    getattr(jobs, action)(Home(Path(home)), *([graph] if action == "delete" else []))
    sys.setprofile(None)
    return calls
for line in sys.stdin:
    child = os.fork()  # everything is imported, and no database was opened yet in this process
    if child == 0:
        print("calls", work(*json.loads(line)), flush=True)
        os._exit(0)
    print("pid", child, flush=True)
    print("status", os.waitpid(child, 0)[1], flush=True)
"""


class Nursery:
    """A process that has everything imported and forks one child per job."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, home: Home, action: str, graph: str, last: int, after: float | None = None) -> tuple[bool, int]:
        """(killed, calls) of a job that kills itself at call `last` or is killed after some seconds."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(home.root), action, graph, last]) + "\n")
        self.process.stdin.flush()
        said = {"calls": 0}
        while "status" not in said:
            key, _, value = self.process.stdout.readline().partition(" ")
            said[key] = int(value)
            if key == "pid" and after is not None:
                time.sleep(after)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(said["pid"], 9)
        return said["status"] == 9, said["calls"]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.process.communicate()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Four graphs loaded; then one added, one gone, one described anew."""
    home = open_home(tmp_path_factory.mktemp("kill") / "home", create=True)
    circuits = [make_circuit(seed, n_features=20, labels=seed == 1, picture=0) for seed in range(6)]
    for circuit in circuits[:4]:
        write_circuit(home, circuit)
    load(home)
    for circuit in circuits[4:]:
        write_circuit(home, circuit)
    shutil.rmtree(graph_folder(home, circuits[0].id))
    write_description(home, circuits[1].id, Description("new", "new", concept="new"))
    return home


@pytest.mark.parametrize("action", ["load", "rebuild", "delete"])
def test_a_kill_anywhere_is_healed_by_one_more_run(
    template: Home, nursery: Nursery, tmp_path: Path, action: str
) -> None:
    doomed = make_circuit(2, n_features=20, picture=0).id
    undisturbed = _copy(template, tmp_path / "undisturbed")
    begin = time.monotonic()
    killed, total = nursery.run(undisturbed, action, doomed, 0)
    seconds = time.monotonic() - begin
    load(undisturbed)
    expected = state(undisturbed)
    assert verify(undisturbed) == [] and total > 300 and not killed
    rng = random.Random(action)
    points: list[tuple[int, float | None]] = [(rng.randrange(1, total), None) for _ in range(KILLS_AT_CALLS[action])]
    points += [(-1, rng.uniform(0, seconds / 2)) for _ in range(KILLS_AT_TIMES[action])]
    kills = 0
    for number, (call, after) in enumerate(points):
        home = _copy(template, tmp_path / str(number))
        kills += nursery.run(home, action, doomed, call, after)[0]
        _heal(home, action, doomed)
        assert verify(home) == [], f"killed at call {call} of {total}, or after {after} s"
        assert state(home) == expected, f"killed at call {call} of {total}, or after {after} s"
        assert list(home.tmp.iterdir()) == []
        shutil.rmtree(home.root)
    print(f"{action}: {kills} of {len(points)} kills healed, {total} calls")
    assert kills >= KILLS_AT_CALLS[action]


def _copy(template: Home, to: Path) -> Home:
    shutil.copytree(template.root, to)
    return Home(to)


def _heal(home: Home, action: str, doomed: str) -> None:
    assert_whole(home)
    if action == "delete" and graph_folder(home, doomed).exists():
        delete(home, doomed)
    load(home)
    gc(home)
    assert Duck(home).arrow("SELECT count(*) AS n FROM graph")["n"].to_pylist() == [4 if action == "delete" else 5]
