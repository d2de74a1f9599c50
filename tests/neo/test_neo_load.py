"""Loading Neo4j: what is there equals the artefacts, whatever happened before; a server away stops little."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from atlas.artefact.write import write_circuit, write_description
from atlas.config import Home, open_home
from atlas.domain.circuit import Circuit
from atlas.errors import StoreAwayError, StoreError
from atlas.stores.duck import Duck
from atlas.stores.neo.address import Address
from atlas.stores.neo.connection import Neo
from atlas.stores.neo.graphs import NeoGraphs
from atlas.stores.neo.rows import graph_elements
from atlas.stores.neo.shared import complete
from atlas.stores.rows import GraphToLoad
from ingest.load import delete, load, rebuild
from ingest.verify import verify
from tests.factory import make_circuit
from tests.neo.neo_state import assert_all_whole, connect, expected_graphs, neo_state, to_load
from tests.stores.noted import take_notes

NOTED = ("Supernode", "Evidence", "NEAR_DUP", "HAS", "PINS", "EVIDENCE_OF", "OF_SOURCE", "ON_TARGET", "OF_SUPERNODE")


def world() -> list[Circuit]:
    """Two sets, two models, a shared picture, labels, an import, no picture, no feature, strange texts."""
    strange = make_circuit(6, extra={"author": "x"}, pair="p1", expected="no")
    nodes = dataclasses.replace(strange.nodes, text=[odd(at, text) for at, text in enumerate(strange.nodes.text)])
    return [
        make_circuit(0, picture=1, labels=True, concept="mars"),
        make_circuit(1, picture=1),
        make_circuit(2, transcoders="set-b"),
        make_circuit(3, with_images=False, labels=True),
        make_circuit(4, partial=True),
        make_circuit(5, model="other", d_model=8),
        dataclasses.replace(strange, nodes=nodes),
        make_circuit(7, n_features=0),
    ]


def odd(at: int, text: str | None) -> str | None:
    """A strange text in the place of one; every fifteenth is empty."""
    strange = [
        "",
        " ",
        '"',
        "a,b",
        "line\nbreak",
        "\r\n",
        "\\",
        "\\n",
        "日本\u2028",
        "'",
        "\t",
        '""',
        "null",
        "🪐",
        "\ufeff",
    ]
    return text if text is None else strange[at % len(strange)]


@pytest.fixture
def home(tmp_path: Path, server: Address) -> Home:
    """A home that uses the empty server, with all graphs of the world written and noted, none loaded."""
    return filled(tmp_path / "home", server)


NEWEST = pytest.mark.parametrize("server", ["empty_neo4j"], indirect=True)
"""For what does not depend on the version."""


def filled(root: Path, server: Address | None, circuits: list[Circuit] | None = None) -> Home:
    home = open_home(root, create=True)
    circuits = world() if circuits is None else circuits
    for circuit in circuits:
        write_circuit(home, circuit)
    take_notes(home, [c for c in circuits if (c.nodes.kind == "feature").any()])
    if server is not None:
        connect(home, server)
    return home


def test_all_is_loaded_and_equals_the_artefacts(home: Home, neo: Neo) -> None:
    told: list[tuple[int, int, str]] = []
    report = load(home, lambda done, total, label="": told.append((done, total, label)))
    assert (report.loaded, report.unchanged, report.removed) == (8, 0, 0)
    assert (8, 8, "graphs in neo4j") in told
    assert assert_all_whole(neo) == 8 and verify(home) == []
    found, expected = neo_state(neo), expected_graphs(to_load(home))
    assert {name: rows for name, rows in found.items() if name in expected and name != "Feature"} == {
        name: rows for name, rows in expected.items() if name != "Feature"
    }
    assert all(found[name] for name in NOTED)
    labels = Duck(home).arrow("SELECT fid, label FROM feature WHERE fid IN (SELECT fid FROM node) ORDER BY fid")
    held = neo.rows("MATCH (f:Feature) RETURN f.fid AS fid, f.label AS label ORDER BY fid")
    assert held == labels.to_pylist() and any("ours" in (row["label"] or "") for row in held)
    assert complete(neo, Duck(home), home.identity)


@NEWEST
def test_loading_again_changes_nothing(home: Home, neo: Neo) -> None:
    load(home)
    before = neo_state(neo)
    assert (load(home).loaded, load(home).unchanged) == (0, 8)
    assert neo_state(neo) == before


@NEWEST
def test_a_home_without_a_server_catches_up_when_it_gets_one(tmp_path: Path, server: Address, neo: Neo) -> None:
    home = filled(tmp_path / "home", None)
    assert load(home).loaded == 8 and verify(home) == []
    connect(home, server)
    assert {(d.store, d.table) for d in verify(home)} == {("neo4j", None)}
    assert load(home).loaded == 8 and load(home).loaded == 0
    assert verify(home) == [] and assert_all_whole(neo) == 8


@NEWEST
def test_a_changed_description_and_new_notes_are_carried_over(home: Home, neo: Neo) -> None:
    load(home)
    first = world()[0]
    write_description(home, first.id, dataclasses.replace(first.description, concept="venus", task=None))
    assert verify(home) != []
    assert load(home).loaded == 1
    rows = neo.rows("MATCH (g:Graph {id: $id}) RETURN g.concept AS concept, g.task AS task", {"id": first.id})
    assert rows == [{"concept": "venus", "task": None}] and verify(home) == []
    take_notes(home, world()[1:3])
    assert load(home).loaded == 0 and verify(home) == [] and complete(neo, Duck(home), home.identity)


def test_delete_leaves_nothing_that_nobody_else_uses(home: Home, neo: Neo, tmp_path: Path) -> None:
    load(home)
    everything = neo_state(neo)
    doomed = [circuit.id for at, circuit in enumerate(world()) if at in {0, 2, 5}]
    for graph_id in doomed:
        delete(home, graph_id)
    assert verify(home) == []
    after = neo_state(neo)
    assert {name for name in after if len(after[name]) < len(everything[name])} >= {"FeatureSet", "Image", "Token"}
    shutil.rmtree(home.stores)
    neo.run("MATCH (n) DETACH DELETE n")
    load(home)
    assert neo_state(neo) == after, "loading the rest alone gives the same"
    for circuit in world():
        write_circuit(home, circuit)
    load(home)
    assert neo_state(neo) == everything, "a graph made again has its number again"


@NEWEST
def test_deleting_all_leaves_nothing(home: Home, neo: Neo) -> None:
    load(home)
    for circuit in world():
        delete(home, circuit.id)
    assert neo.rows("MATCH (n) RETURN DISTINCT labels(n) AS l ORDER BY l") == [{"l": ["Atlas"]}, {"l": ["Migration"]}]
    assert verify(home) == [] and complete(neo, Duck(home), home.identity)


@NEWEST
def test_a_wiped_server_is_filled_again(home: Home, neo: Neo) -> None:
    load(home)
    before = neo_state(neo)
    neo.run("MATCH (n) DETACH DELETE n")
    assert load(home).loaded == 8 and neo_state(neo) == before and verify(home) == []


def test_rebuild_replaces_every_graph_and_removes_strays(home: Home, neo: Neo) -> None:
    load(home)
    before = neo_state(neo)
    neo.run("MATCH (n:Node) WHERE n.gid = 2 SET n.influence = -1, n.kind = 'x'")
    neo.run("MATCH (a:Node {gid: 1})-[r:ATTR]->() WITH r LIMIT 5 DELETE r")
    neo.run("CREATE (:Node {nid: 1, gid: 99}), (:Position {pid: 1, gid: 99}), (:Feature {fid: 1}), (:Token {tid: 'x'})")
    neo.run("CREATE (:Image {sha: 'x'}), (:FeatureSet {set_number: 77}), (:Supernode {sid: 9}), (:Evidence {eid: 99})")
    neo.run("DROP INDEX graph_slug")
    assert rebuild(home).loaded == 8
    assert neo_state(neo) == before and verify(home) == []


OWN = ("Graph", "Position", "Node", "ATTR", "AT", "PREDICTS", "SHOWS")
PLANTED = {
    "Graph": "MATCH (x:Graph {gid: 1}) SET x.completeness = x.completeness + 1e-9",
    "Position": "MATCH (x:Position {gid: 1, position: 2}) SET x.heat_map = NULL",
    "Node": "MATCH (x:Node {gid: 1}) WITH x LIMIT 1 SET x.influence = x.influence + 1e-12",
    "Feature": "MATCH (x:Feature) WHERE x.label IS NOT NULL WITH x LIMIT 1 SET x.label = 'other'",
    "FeatureSet": "MATCH (x:FeatureSet) WITH x LIMIT 1 SET x.transcoders = 'other'",
    "Image": "MATCH (x:Image) WITH x LIMIT 1 SET x.width = x.width + 1",
    "Token": "MATCH (x:Token) WITH x LIMIT 1 SET x.text = 'other'",
    "Supernode": "MATCH (x:Supernode) WITH x LIMIT 1 SET x.name = 'other'",
    "Evidence": "MATCH (x:Evidence) WITH x LIMIT 1 SET x.observed = x.observed + 1e-9",
    "ATTR": "MATCH (:Node {gid: 1})-[r:ATTR]->() WITH r LIMIT 1 SET r.weight = -r.weight",
    "IN_GRAPH": "MATCH (:Node {gid: 1})-[r:IN_GRAPH]->() WITH r LIMIT 1 DELETE r",
    "AT": "MATCH (n:Node {gid: 1})-[r:AT]->(p) WITH n, r, p LIMIT 1 MATCH (q:Position {gid: 1}) WHERE q <> p "
    "WITH n, r, q LIMIT 1 DELETE r CREATE (n)-[:AT]->(q)",
    "OF": "MATCH (n:Node {gid: 1})-[r:OF]->(f) WITH n, r LIMIT 1 CREATE (n)-[:OF]->(:Feature {fid: 1})",
    "PREDICTS": "MATCH (:Node {gid: 1})-[r:PREDICTS]->() WITH r LIMIT 1 SET r.probability = 0.5",
    "OF_IMAGE": "MATCH (:Position {gid: 1})-[r:OF_IMAGE]->() WITH r LIMIT 1 DELETE r",
    "SHOWS": "MATCH (:Graph {gid: 1})-[r:SHOWS]->() SET r.image = 7",
    "OF_SET": "MATCH (:Feature)-[r:OF_SET]->() WITH r LIMIT 1 DELETE r",
    "NEAR_DUP": "MATCH (a)-[r:NEAR_DUP]->(b) WITH a, r, b LIMIT 1 DELETE r",
    "HAS": "MATCH (s:Supernode), (f:Feature) WHERE NOT (s)-[:HAS]->(f) WITH s, f LIMIT 1 CREATE (s)-[:HAS]->(f)",
    "PINS": "MATCH ()-[r:PINS]->() WITH r LIMIT 1 DELETE r",
    "EVIDENCE_OF": "MATCH ()-[r:EVIDENCE_OF]->() WITH r LIMIT 1 DELETE r",
    "OF_SOURCE": "MATCH ()-[r:OF_SOURCE]->() WITH r LIMIT 1 DELETE r",
    "ON_TARGET": "MATCH (e)-[r:ON_TARGET]->(n) WITH e, n LIMIT 1 CREATE (e)-[:ON_TARGET]->(n)",
    "OF_SUPERNODE": "MATCH ()-[r:OF_SUPERNODE]->() WITH r LIMIT 1 DELETE r",
}


def test_verify_finds_a_change_in_every_label_and_type(empty_neo4j: Address, tmp_path: Path) -> None:
    home = filled(
        tmp_path / "home", empty_neo4j, [make_circuit(seed, labels=seed == 0, picture=0) for seed in range(2)]
    )
    load(home)
    with Neo(empty_neo4j) as neo:
        before = neo_state(neo)
        assert set(before) == set(PLANTED)
        known: set[str | None] = set()
        for name, text in PLANTED.items():
            neo.run(text)
            found = verify(home)
            assert {d.store for d in found} == {"neo4j"} and name in {d.table for d in found}, (name, found)
            if name in OWN:
                assert name not in known and {d.graph is None for d in found if d.table == name} == {False}
            known |= {d.table for d in found}
        rebuild(home)
        assert neo_state(neo) == before and verify(home) == []
        neo.run("MATCH (a:Atlas) REMOVE a.stamp")
        assert [d.table for d in verify(home)] == ["Atlas"]
        load(home)
        neo.run("MATCH (x:Node {gid: 2}) WITH x LIMIT 1 SET x.layer = 'three'")
        assert ["another type" in d.what for d in verify(home)] == [True]


def test_a_server_that_is_away_stops_neither_duckdb_nor_the_vectors(tmp_path: Path) -> None:
    home = filled(tmp_path / "home", Address("bolt://127.0.0.1:9", "neo4j", "", "test"))
    with pytest.raises(StoreAwayError, match=r"does not answer .*; DuckDB and the vectors are up to date"):
        load(home)
    assert Duck(home).arrow("SELECT count(*) AS n FROM graph")["n"].to_pylist() == [8]
    found = verify(home)
    assert [d.store for d in found] == ["neo4j"] and "does not answer" in found[0].what
    with pytest.raises(StoreAwayError):
        delete(home, world()[0].id)
    assert Duck(home).arrow("SELECT count(*) AS n FROM graph")["n"].to_pylist() == [7]
    assert list(home.tmp.iterdir()) == []
    home.config.unlink()
    assert load(home).loaded == 0 and verify(home) == []


@NEWEST
def test_a_server_of_another_atlas_is_left_alone(home: Home, neo: Neo) -> None:
    NeoGraphs(neo, "theirs").put([dataclasses.replace(graph, gid=5) for graph in _numbered(world()[:1])])
    before = neo_state(neo)
    with pytest.raises(StoreError, match="holds another atlas"):
        load(home)
    assert neo_state(neo) == before and len(Duck(home).arrow("FROM graph")) == 8
    assert ["another atlas" in d.what for d in verify(home)] == [True]


@NEWEST
def test_of_several_graphs_those_before_a_fault_are_there_and_none_after_it(
    neo: Neo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are on their way at a time; the second one of these is not committed before the first."""
    store, graphs = NeoGraphs(neo, "me"), _numbered(world()[:4])

    def failing(graph: GraphToLoad) -> dict[str, Any]:
        if graph.gid == 3:
            raise StoreError("no such graph", "one")
        return graph_elements(graph)

    monkeypatch.setattr("atlas.stores.neo.graphs.graph_elements", failing)
    with pytest.raises(StoreError, match="no such graph"):
        store.put(graphs)
    assert set(store.loaded()) == {1, 2} and assert_all_whole(neo) == 2


def _numbered(circuits: list[Circuit]) -> list[GraphToLoad]:
    return [GraphToLoad(gid, 1, "", circuit) for gid, circuit in enumerate(circuits, start=1)]


@NEWEST
def test_a_damaged_graph_keeps_what_was_loaded_and_all_is_said(home: Home, neo: Neo) -> None:
    from atlas.artefact.format import graph_folder

    load(home)
    before = neo_state(neo)
    (graph_folder(home, world()[1].id) / "manifest.json").write_text("{")
    report = load(home)
    assert len(report.damaged) == 1 and report.removed == 0 and neo_state(neo) == before
    neo.run("MATCH (n) DETACH DELETE n")
    assert len(load(home).damaged) == 1 and assert_all_whole(neo) == 7
    assert not complete(neo, Duck(home), home.identity), "one graph is in DuckDB and cannot be loaded here"
