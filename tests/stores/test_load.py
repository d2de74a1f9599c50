"""Loading: repeatable, healing, and independent of the order in which graphs came."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from atlas.artefact.failures import append_failure
from atlas.artefact.format import graph_folder
from atlas.artefact.ledger import Ledger
from atlas.artefact.write import write_circuit, write_description
from atlas.config import Home, open_home
from atlas.domain.circuit import Circuit
from atlas.errors import ArtefactError, NotFoundError, StoreBusyError
from atlas.stores.duck import Duck
from atlas.stores.vectors import open_indexes
from ingest.load import delete, gc, load, rebuild
from ingest.verify import verify
from tests.factory import make_circuit
from tests.stores.atlas_state import assert_whole, state


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home", create=True)


def world() -> list[Circuit]:
    """Two sets, two models, a shared picture, labels, an import, and a graph without picture."""
    return [
        make_circuit(0, picture=1, labels=True, concept="mars"),
        make_circuit(1, picture=1),
        make_circuit(2, transcoders="set-b"),
        make_circuit(3, with_images=False, labels=True),
        make_circuit(4, partial=True),
        make_circuit(5, model="other", d_model=8),
        make_circuit(6, extra={"author": "x"}, pair="p1", expected="no"),
        make_circuit(7, n_features=0),
    ]


def fill(home: Home, circuits: list[Circuit]) -> None:
    for circuit in circuits:
        write_circuit(home, circuit)


def test_every_graph_is_loaded_and_equals_its_artefact(home: Home) -> None:
    circuits = world()
    fill(home, circuits)
    append_failure(home, "ingest", "p.jsonl:3", None, "no image")
    told: list[tuple[int, int, str]] = []
    report = load(home, lambda done, total, label="": told.append((done, total, label)))
    assert (report.loaded, report.unchanged, report.removed, report.damaged, report.failures) == (8, 0, 0, (), 1)
    assert report.near_duplicates > 0 and "8 graphs loaded" in str(report)
    assert told[0] == (8, 8, "graphs in duckdb")
    assert assert_whole(home) == 8 and verify(home) == []
    duck = Duck(home)
    assert duck.arrow("SELECT count(*) AS n FROM image")["n"].to_pylist() == [6], (
        "a picture that two graphs share is one row"
    )
    row = duck.arrow("SELECT * FROM graph WHERE id = ?", [circuits[6].id]).to_pylist()[0]
    assert (row["pair"], row["correct"], row["extra"], row["answer"]) == ("p1", False, '{"author": "x"}', "7")
    assert (row["convention"], row["precision"], row["node_threshold"], row["width"]) == ("exact", "fp32", 0.8, 16)
    named = duck.arrow("SELECT name, label FROM feature WHERE label IS NOT NULL").to_pylist()
    assert named and all(entry["label"] == f"label of {entry['name']}" for entry in named)
    shown = duck.arrow(
        "SELECT DISTINCT image_sha IS NOT NULL AS shown, modality FROM position ORDER BY shown"
    ).to_pylist()
    assert shown == [{"shown": False, "modality": "text"}, {"shown": True, "modality": "image"}]


def test_edges_lie_sorted_by_graph_and_source(home: Home) -> None:
    fill(home, world()[:3])
    load(home)
    rows = Duck(home).arrow("SELECT gid, source FROM edge ORDER BY rowid").to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["gid"], row["source"]))


def test_loading_twice_equals_once(home: Home) -> None:
    fill(home, world())
    load(home)
    before, files = state(home), {path: path.stat().st_mtime_ns for path in home.stores.rglob("*.f*")}
    report = load(home)
    assert (report.loaded, report.unchanged, report.vectors) == (0, 8, 0)
    assert state(home) == before
    assert {path: path.stat().st_mtime_ns for path in home.stores.rglob("*.f*")} == files


def test_one_by_one_in_any_order_equals_all_at_once(home: Home, tmp_path: Path) -> None:
    fill(home, world())
    load(home)
    other = open_home(tmp_path / "other", create=True)
    shutil.copy(home.ledger, other.ledger)
    for circuit in reversed(world()):
        write_circuit(other, circuit)
        load(other)
    assert state(other) == state(home) and verify(other) == []


def test_rebuild_equals_load(home: Home) -> None:
    fill(home, world())
    append_failure(home, "ingest", "p.jsonl:3", None, "no image")
    load(home)
    before = state(home)
    assert rebuild(home).loaded == 8
    assert state(home) == before and verify(home) == []
    shutil.rmtree(home.stores)
    load(home)
    assert state(home) == before
    assert list(home.tmp.iterdir()) == []


def test_rebuild_mends_stores_that_cannot_be_opened(home: Home) -> None:
    fill(home, world()[:3])
    load(home)
    before = state(home)
    home.duckdb.write_bytes(b"broken" * 1000)
    (open_indexes(home.vectors)[0].folder / "manifest.json").write_text("{")
    rebuild(home)
    assert state(home) == before


def test_a_changed_description_replaces_the_graph(home: Home) -> None:
    circuits = world()
    fill(home, circuits)
    load(home)
    before = state(home)
    write_description(home, circuits[0].id, dataclasses.replace(circuits[0].description, concept="venus", expected="8"))
    report = load(home)
    assert (report.loaded, report.unchanged) == (1, 7)
    row = Duck(home).arrow("SELECT concept, correct FROM graph WHERE id = ?", [circuits[0].id]).to_pylist()[0]
    assert row == {"concept": "venus", "correct": False} and verify(home) == []
    write_description(home, circuits[0].id, circuits[0].description)
    load(home)
    assert state(home) == before


def test_delete_takes_what_nobody_else_uses_and_no_more(home: Home, tmp_path: Path) -> None:
    circuits = world()
    fill(home, circuits)
    load(home)
    without = open_home(tmp_path / "without", create=True)
    shutil.copy(home.ledger, without.ledger)
    fill(without, [circuit for at, circuit in enumerate(circuits) if at not in {0, 2}])
    load(without)
    everything = state(home)
    assert delete(home, circuits[0].id).removed == 1
    delete(home, circuits[2].id)
    assert not graph_folder(home, circuits[0].id).exists() and verify(home) == []
    assert state(home) == state(without)
    with pytest.raises(NotFoundError):
        delete(home, circuits[0].id)
    fill(home, circuits)
    load(home)
    assert state(home) == everything, "a graph made again has its number again"


def test_deleting_the_last_graph_leaves_empty_stores(home: Home) -> None:
    circuit = make_circuit()
    write_circuit(home, circuit)
    load(home)
    delete(home, circuit.id)
    assert all(not rows for rows in state(home).values()) and open_indexes(home.vectors) == []
    assert Ledger(home).numbers("graph") == {circuit.id: 1}


def test_an_empty_home_loads_to_nothing(home: Home) -> None:
    assert load(home).loaded == 0 and verify(home) == [] and rebuild(home).loaded == 0 and gc(home) == 0


def test_a_damaged_graph_is_reported_and_the_rest_is_loaded(home: Home) -> None:
    circuits = world()
    fill(home, circuits)
    (graph_folder(home, circuits[1].id) / "edges.parquet").write_bytes(b"PAR1")
    report = load(home)
    assert report.loaded == 7 and [name for name, _ in report.damaged] == [circuits[1].id]
    assert "edges.parquet" in report.damaged[0][1]
    assert {d.graph for d in verify(home)} == {circuits[1].id}
    assert load(home).unchanged == 7


def test_a_graph_damaged_after_loading_keeps_its_rows(home: Home) -> None:
    circuits = world()[:2]
    fill(home, circuits)
    load(home)
    before = state(home)
    (graph_folder(home, circuits[1].id) / "manifest.json").write_text("{")
    report = load(home)
    assert report.removed == 0 and len(report.damaged) == 1
    assert state(home) == before
    with pytest.raises(ArtefactError, match=r"1 artefacts are damaged: .*the stores stay as they were"):
        rebuild(home)
    assert state(home) == before


_LOADER = """
import sys
from pathlib import Path
from atlas.config import Home
from ingest.load import loading
with loading(Home(Path(sys.argv[1]))):
    print("loading", flush=True)
    sys.stdin.readline()
"""


def test_a_second_loader_waits_says_for_whom_and_takes_over_from_the_dead(home: Home) -> None:
    write_circuit(home, make_circuit())
    first = subprocess.Popen(
        [sys.executable, "-c", _LOADER, str(home.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    first.stdout.readline()
    told: list[str] = []
    with pytest.raises(StoreBusyError, match=f"the loader of .* is held by process {first.pid} on"):
        load(home, lambda done, total, label="": told.append(label), wait=0.3)
    assert len(told) == 1 and f"waiting for process {first.pid} on" in told[0]
    first.kill()
    first.wait()
    assert load(home, wait=5).loaded == 1


def test_gc_throws_away_left_overs_only(home: Home) -> None:
    fill(home, world()[:2])
    orphan = home.artefacts / "description" / "ab" / ("ab" * 32 + ".json")
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_text("{}")
    (home.tmp / "x.other-host.1.abcdef01").mkdir()
    assert gc(home) == 0, "a writer of another host may be at work"
    (home.tmp / "x.other-host.1.abcdef01").rmdir()
    assert gc(home) == 1 and not orphan.exists()
    assert load(home).loaded == 2
