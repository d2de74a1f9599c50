"""supernode, label, pin: what they note is in the stores at once, and what is not there is one error."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from atlas.artefact.notes import read_notes
from atlas.artefact.write import write_circuit
from atlas.cli import cli
from atlas.config import Home, open_home
from atlas.domain.circuit import Circuit
from atlas.errors import AtlasError
from atlas.interop.saved_view import node_names
from atlas.stores.duck import Duck
from ingest.load import load
from ingest.verify import verify
from tests.factory import make_circuit
from tests.interop import foreign

A, B = make_circuit(0, n_features=12), make_circuit(1, n_features=12, transcoders="set-b")


def seen(circuit: Circuit) -> set[str]:
    """Features that fire in a graph, layer/index."""
    active = circuit.activations
    return {f"{layer}/{index}" for layer, index in zip(active.layer.tolist(), active.index.tolist(), strict=True)}


ONE, TWO = sorted(seen(A) - seen(B))[:2]
BOTH = min(seen(A) & seen(B))
NODE, OTHER = node_names(A.nodes)[3], node_names(A.nodes)[20]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = open_home(tmp_path_factory.mktemp("commands") / "home", create=True)
    for circuit in (A, B):
        write_circuit(home, circuit)
    load(home)
    return home


@pytest.fixture
def home(template: Home, tmp_path: Path) -> Home:
    return Home(Path(shutil.copytree(template.root, tmp_path / "home")))


def atlas(home: Home, *arguments: str) -> str:
    """What a command prints. Raises the error it ends with."""
    done = CliRunner().invoke(cli, ["--home", str(home.root), *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout + done.stderr


def rows(home: Home, text: str) -> list[dict[str, Any]]:
    return Duck(home).arrow(text).to_pylist()


def test_a_supernode_is_made_grows_shrinks_and_goes(home: Home) -> None:
    assert "'digit three': 1 added" in atlas(home, "supernode", "add", "digit three", ONE)
    assert "1 added, 1 as before" in atlas(home, "supernode", "add", " digit three ", ONE, TWO)
    listed = json.loads(atlas(home, "supernode", "list", "--json"))
    assert listed == [{"name": "digit three", "features": [ONE, TWO], "source": "hand", "transcoders": "set-a"}]
    names = "SELECT f.name FROM supernode JOIN supernode_feature USING (sid) JOIN feature f USING (fid) ORDER BY 1"
    assert [row["name"] for row in rows(home, names)] == [ONE, TWO]
    assert "1 removed" in atlas(home, "supernode", "remove", "digit three", TWO)
    assert [row["name"] for row in rows(home, names)] == [ONE]
    atlas(home, "supernode", "remove", "digit three")
    assert rows(home, "FROM supernode") == [] and "no supernode" in atlas(home, "supernode", "list")
    assert verify(home) == []


def test_a_feature_of_two_sets_needs_its_set(home: Home) -> None:
    with pytest.raises(AtlasError, match=r"exists in 2 transcoder sets.*--set"):
        atlas(home, "supernode", "add", "x", BOTH)
    for name in ("set-a", "set-b"):
        atlas(home, "supernode", "add", "x", BOTH, "--set", name)
        atlas(home, "label", BOTH, f"of {name}", "--set", name)
    for command in (["supernode", "remove", "x"], ["label", BOTH, "--remove"]):
        with pytest.raises(AtlasError, match=r"exists in 2 transcoder sets.*--set"):
            atlas(home, *command)
        atlas(home, *command, "--set", "set-b")
    assert [node.transcoders for node in read_notes(home).supernodes()] == ["set-a"]
    with pytest.raises(AtlasError, match="of 2 transcoder sets"):
        atlas(home, "supernode", "add", "y", ONE, min(seen(B) - seen(A)))


def test_a_label_is_seen_at_once_and_taken_back(home: Home) -> None:
    atlas(home, "label", ONE, " reads the digit ")
    assert [row["label"] for row in rows(home, f"SELECT label FROM feature WHERE name = '{ONE}'")] == [
        "reads the digit"
    ]
    assert json.loads(atlas(home, "label", "--json"))[0]["feature"] == ONE
    atlas(home, "label", ONE, "--remove")
    assert [row["label"] for row in rows(home, f"SELECT label FROM feature WHERE name = '{ONE}'")] == [None]
    assert verify(home) == []


def test_pins_are_listed_by_graph(home: Home) -> None:
    assert "2 added" in atlas(home, "pin", A.id[:12], NODE, OTHER)
    atlas(home, "pin", B.description.slug, node_names(B.nodes)[0])
    assert len(json.loads(atlas(home, "pin", "--json"))) == len(rows(home, "FROM pin")) == 3
    atlas(home, "pin", A.id[:12], NODE, "--remove")
    assert [row["node"] for row in json.loads(atlas(home, "pin", A.id[:12], "--json"))] == [OTHER]
    assert verify(home) == []


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["supernode", "add", "x", "3/99999"], "no graph saw a feature 3/99999"),
        (["supernode", "add", "x", "three"], "'three' is no feature"),
        (["supernode", "add", " ", ONE], "without a name"),
        (["supernode", "add", "3/77@5", ONE], "look like a feature"),
        (["supernode", "add", "x", ONE, "--set", "nothing"], "no transcoder set is named"),
        (["supernode", "remove", "x"], "no supernode is named 'x'"),
        (["label", ONE], "no text for feature"),
        (["label", ONE, " "], "not blank"),
        (["label", ONE, "text", "--remove"], "TEXT beside --remove"),
        (["label", "--remove"], "--remove without FEATURE"),
        (["label", ONE, "--remove"], "no label was given here"),
        (["label", "3/99999", "text"], "no graph saw"),
        (["pin", "nothing", NODE], "no graph 'nothing'"),
        (["pin", A.id[:12], "feature:3/7@999"], "has no node feature:3/7@999"),
        (["pin", A.id[:12], "seven"], "is no node id"),
        (["pin", A.id[:12], "--remove"], "--remove without NODE"),
    ],
)
def test_what_is_not_there_is_one_error_and_nothing_is_noted(home: Home, command: list[str], found: str) -> None:
    with pytest.raises(AtlasError, match=found):
        atlas(home, *command)
    assert read_notes(home).said == {}


def test_an_import_brings_groups_and_pins_once(home: Home, tmp_path: Path) -> None:
    graph = foreign.circuit_tracer()
    graph["qParams"] |= {"pinnedIds": ["1_4000_4"], "supernodes": [["digits", "0_11_1", "0_12_2"]]}
    path = foreign.write(tmp_path / "graph.json", graph)
    atlas(home, "import", str(path))
    listed = json.loads(atlas(home, "supernode", "list", "--json"))
    assert [(row["name"], row["features"], row["source"]) for row in listed] == [("digits", ["0/11", "0/12"], "import")]
    assert [row["node"] for row in json.loads(atlas(home, "pin", "--json"))] == ["feature:1/4000@4"]
    assert len(rows(home, "FROM pin")) == 1 and len(rows(home, "FROM supernode_feature")) == 2
    before = (home.artefacts / "notes.jsonl").read_bytes()
    atlas(home, "import", str(path))
    assert (home.artefacts / "notes.jsonl").read_bytes() == before and verify(home) == []
