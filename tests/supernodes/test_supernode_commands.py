"""supernode suggest, graph, score, read, write: what they print, what they note, and one error for what cannot be."""

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
from atlas.errors import AtlasError
from atlas.stores.duck import Duck
from ingest.load import load
from ingest.verify import verify
from tests.factory import make_circuit

A, B = make_circuit(0, n_features=30), make_circuit(1, n_features=30, transcoders="set-b")
IMPORTED = make_circuit(2, n_features=30, partial=True)
KEPT = sorted({f"{layer}/{index}" for kind, layer, index in
               zip(A.nodes.kind, A.nodes.layer, A.nodes.index, strict=True) if kind == "feature"})  # fmt: skip
GROUPS = {"digits": KEPT[:4], "Ziffern ⊕": KEPT[3:9]}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = open_home(tmp_path_factory.mktemp("commands") / "home", create=True)
    for circuit in (A, B, IMPORTED):
        write_circuit(home, circuit)
    load(home)
    return home


@pytest.fixture
def home(template: Home, tmp_path: Path) -> Home:
    return Home(Path(shutil.copytree(template.root, tmp_path / "home")))


def atlas(home: Home, *arguments: str) -> str:
    """What a command prints on stdout. Raises the error it ends with."""
    done = CliRunner().invoke(cli, ["--home", str(home.root), *arguments], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def written(path: Path, value: Any) -> str:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def test_a_file_goes_in_and_comes_out(home: Home, tmp_path: Path) -> None:
    atlas(home, "supernode", "read", written(tmp_path / "in.json", GROUPS), "--set", "set-a")
    out = tmp_path / "out.json"
    atlas(home, "supernode", "write", str(out))
    assert {name: set(features) for name, features in json.loads(out.read_text()).items()} == {
        name: set(features) for name, features in GROUPS.items()
    }
    before = (home.artefacts / "notes.jsonl").read_bytes()
    atlas(home, "supernode", "read", str(out), "--set", "set-a")
    assert (home.artefacts / "notes.jsonl").read_bytes() == before
    assert len(Duck(home).arrow("FROM supernode_feature")) == sum(map(len, GROUPS.values()))
    assert verify(home) == []


def test_suggestions_are_printed_and_made_once(home: Home) -> None:
    options = ("supernode", "suggest", A.id[:12], "--similarity", "0.3")
    found = json.loads(atlas(home, *options, "--json"))
    assert found and read_notes(home).said == {}
    assert {"name", "features", "n_features", "graphs", "influence", "image_share", "similarity"} <= set(found[0])
    atlas(home, *options, "--add")
    noted = {node.name: [str(f) for f in node.features] for node in read_notes(home).supernodes()}
    assert noted == {row["name"]: row["features"] for row in found}
    assert {node.source for node in read_notes(home).supernodes()} == {"suggestion"}
    assert len(Duck(home).arrow("FROM supernode")) == len(found)
    assert json.loads(atlas(home, *options, "--json")) == []


def test_a_graph_of_groups_is_printed_and_drawn(home: Home, tmp_path: Path) -> None:
    atlas(home, "supernode", "read", written(tmp_path / "in.json", GROUPS), "--set", "set-a")
    links = json.loads(atlas(home, "supernode", "graph", A.id[:12], "--json", "--out", str(tmp_path / "x.png")))
    assert {"digits", "Ziffern ⊕", "image patches"} <= {row["source"] for row in links}
    assert (tmp_path / "x.png").stat().st_size > 10_000
    groups = json.loads(atlas(home, "supernode", "graph", A.id[:12], "--rows", "groups", "--json"))
    assert sum(row["influence"] for row in groups) == pytest.approx(1)
    words = atlas(home, "supernode", "graph", A.id[:12])
    assert "Groups" in words and "Links" in words and "digits" in words


def test_scores_say_what_each_supernode_adds(home: Home, tmp_path: Path) -> None:
    atlas(home, "supernode", "read", written(tmp_path / "in.json", GROUPS), "--set", "set-a")
    rows = json.loads(atlas(home, "supernode", "score", A.id[:12], "--json"))
    assert [row["circuit"] for row in rows] == [
        "all supernodes", "without Ziffern ⊕", "without digits", "all features kept", "graph before pruning",
    ]  # fmt: skip
    by_name = {row["circuit"]: row for row in rows}
    assert by_name["all supernodes"]["features"] == 9 and by_name["without digits"]["features"] == 6
    assert by_name["graph before pruning"]["replacement"] == pytest.approx(A.scores["replacement"])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "is no JSON of supernodes"),
        ("[]", "holds nothing"),
        ({}, "holds nothing"),
        ({" ": KEPT[:1]}, "without a name"),
        ({"5/603": KEPT[:1]}, "look like a feature"),
        ({"a\nb": KEPT[:1]}, "look like a feature"),
        ({"x": []}, "supernode 'x' holds nothing"),
        ({"x": [3]}, "supernode 'x' holds 1 entries"),
        ({"x": "3/7"}, "supernode 'x' holds '3/7'"),
        ('{"x": ["0/1"], " x": ["0/2"]}', "'x' is there twice"),
        ({"x": [KEPT[0], "three"]}, "'three' is no feature"),
        ({"x": [KEPT[0], "3/99999"]}, "no graph saw a feature 3/99999"),
        ("[" * 100_000, "is no JSON of supernodes"),
    ],
)
def test_a_file_that_is_none_is_one_error_and_nothing_is_noted(
    home: Home, tmp_path: Path, content: Any, found: str
) -> None:
    with pytest.raises(AtlasError, match=found):
        atlas(home, "supernode", "read", written(tmp_path / "in.json", content), "--set", "set-a")
    assert read_notes(home).said == {}


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["read", "nowhere.json"], "nowhere.json cannot be read"),
        (["write", "out.json"], "there is no supernode"),
        (["suggest", "nothing"], "no graph 'nothing'"),
        (["suggest", A.id[:12], B.id[:12]], "2 transcoder sets"),
        (["graph", "nothing"], "no graph 'nothing'"),
        (["graph", A.id[:12]], "keeps no feature of the 0 supernodes"),
        (["graph", A.id[:12], "--out", "x.gif"], "neither .png nor .svg"),
        (["score", A.id[:12]], "keeps no feature of the 0 supernodes"),
    ],
)
def test_what_is_not_there_is_one_error(home: Home, command: list[str], found: str) -> None:
    with pytest.raises(AtlasError, match=found):
        atlas(home, "supernode", *command)
    assert read_notes(home).said == {}


def test_supernodes_of_two_sets_need_a_set_to_be_written(home: Home, tmp_path: Path) -> None:
    for name in ("set-a", "set-b"):
        feature = KEPT[0] if name == "set-a" else next(
            f"{layer}/{index}" for layer, index in zip(B.activations.layer, B.activations.index, strict=True)
        )  # fmt: skip
        atlas(home, "supernode", "add", "x", feature, "--set", name)
    with pytest.raises(AtlasError, match=r"2 transcoder sets.*--set"):
        atlas(home, "supernode", "write", str(tmp_path / "out.json"))
    atlas(home, "supernode", "write", str(tmp_path / "out.json"), "--set", "set-a")
    assert json.loads((tmp_path / "out.json").read_text()) == {"x": [KEPT[0]]}
