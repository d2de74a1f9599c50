"""`atlas check`: edges against ablations, on a small home of random models and on the shipped model; its evidence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import atlas
from atlas.artefact.evidence import read_evidence
from atlas.artefact.read import read_table
from atlas.artefact.write import write_circuit
from atlas.cli import main
from atlas.config import Home, open_home
from atlas.domain.circuit import Edges, Nodes
from atlas.domain.evidence import MODES
from atlas.domain.example import Example
from atlas.ids import NodeId
from ingest.attribution.settings import AttributionSettings
from ingest.attribution.targets import TargetSpec
from ingest.interventions import check
from ingest.interventions.case import Laboratory
from ingest.interventions.check import check_graph
from ingest.interventions.check_many import check_graphs, summary_rows
from ingest.load import load
from ingest.model.model import load_model
from ingest.pipeline import Tracer, TraceSettings
from ingest.transcoders.bank import load_bank
from tests.factory import make_circuit
from tests.tiny import picture, write_model, write_transcoders

GRAPHS = ("red", "words", "pair", "vector", "bare", "gone")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Graphs of a random model: about a picture, in words, of two kinds of targets, without features, and one whose
    picture is gone; and an imported one."""
    folder = tmp_path_factory.mktemp("check")
    model = load_model(str(write_model(folder / "model", layers=4)), precision="fp64")
    bank = load_bank(str(write_transcoders(folder / "set", widths=(40,) * 4)), model)
    made = open_home(folder / "home", create=True)
    lost = folder / "lost.png"
    picture(1).save(folder / "red.png")
    picture(2).save(lost)
    asked: dict[str, tuple[str, tuple[Path, ...], int, dict[str, Any] | None]] = {
        "red": ("what is red ?", (folder / "red.png",), 60, None),
        "words": ("what is the sum of one and two ?", (), 60, None),
        "pair": ("what is blue ?", (), 40, {"kind": "difference", "difference": ["five", 12], "position": -3}),
        "vector": ("what is green ?", (), 40, {"kind": "vector", "vector": [0.5, -1.0] * 16}),
        "bare": ("what is three ?", (), 0, None),
        "gone": ("what is four ?", (lost,), 20, None),
    }
    for slug, (prompt, images, features, targets) in asked.items():
        settings = TraceSettings(
            targets=TargetSpec(max_logits=3), attribution=AttributionSettings(max_features=features)
        )
        tracer = Tracer(model, bank, settings)
        example = Example(prompt, images, slug=slug, task=f"task {slug}", targets=targets)
        write_circuit(made, tracer.trace(tracer.prepare(example)))
    write_circuit(made, make_circuit(partial=True, slug="foreign", task="foreign"))
    lost.unlink()
    load(made)
    return made


@pytest.fixture(scope="module")
def laboratory(home: Home) -> Laboratory:
    return Laboratory(home)


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("slug", ["red", "words", "pair", "vector"])
def test_frozen_mode_does_what_the_edges_say(home: Home, laboratory: Laboratory, slug: str) -> None:
    made = check_graph(home, laboratory, slug)
    row = made.row()
    assert row["features"] == len(made.nodes) > 10
    assert row["rank_correlation_frozen"] == row["direct_frozen"] == pytest.approx(1, abs=1e-9)
    assert made.frozen_gap is not None
    assert made.frozen_gap < 1e-6
    predicted, observed = made.predicted["direct"]["frozen"], made.observed["frozen"]
    assert np.abs(predicted - observed).max() < 1e-9
    assert np.abs(observed).max() > 0.01
    for mode in ("iterative", "free"):
        assert row[f"rank_correlation_{mode}"] == row[f"norms_{mode}"] == made.correlation("norms", mode)


def test_the_strongest_are_taken_by_influence_or_by_direct_edge(home: Home, laboratory: Laboratory) -> None:
    every = check_graph(home, laboratory, "words", top=10**6, modes=("frozen",))
    nodes = read_table(home, every.graph, Nodes)
    features = nodes.kind == "feature"
    assert len(every.nodes) == features.sum()
    few = check_graph(home, laboratory, "words", top=5, modes=("frozen",))
    assert few.nodes == every.nodes[:5]
    places = zip(*(column[features].tolist() for column in (nodes.layer, nodes.index, nodes.position)), strict=True)
    influence = dict(zip(places, nodes.influence[features].tolist(), strict=True))
    ranked = [influence[node.layer, node.index, node.position] for node in every.nodes]
    assert ranked == sorted(nodes.influence[features], reverse=True)
    direct = check_graph(home, laboratory, "words", top=5, by="direct", modes=("frozen",))
    sizes = np.abs(every.predicted["direct"]["frozen"])
    assert np.abs(direct.predicted["direct"]["frozen"]) == pytest.approx(np.sort(sizes)[::-1][:5])
    assert direct.row()["rank_correlation_free"] is None


def test_evidence_is_about_edges_of_the_graph(home: Home, laboratory: Laboratory) -> None:
    made = check_graph(home, laboratory, "red", top=20)
    nodes, edges = read_table(home, made.graph, Nodes), read_table(home, made.graph, Edges)
    at = {
        (kind, layer, index, position): ordinal
        for ordinal, (kind, layer, index, position) in enumerate(
            zip(nodes.kind, nodes.layer.tolist(), nodes.index.tolist(), nodes.position.tolist(), strict=True)
        )
    }
    weights = dict(zip(zip(edges.source.tolist(), edges.target.tolist(), strict=True), edges.weight, strict=True))
    logits, ends = 0, {node: set[str]() for node in made.nodes}
    for row in made.evidence:
        assert row.source is not None
        source, target = (at[n.kind, n.layer, n.index, n.position] for n in (row.source, row.target))
        if (source, target) in weights:
            assert row.predicted == pytest.approx(-weights[source, target], rel=1e-6)
        else:
            assert row.target.kind == "logit", "an edge to the answer may be pruned; those to features are kept ones"
        if row.mode == "frozen" and row.predicted is not None:
            assert row.observed == pytest.approx(row.predicted, abs=1e-6)
        logits += row.target.kind == "logit"
        ends[row.source].add(str(row.target))
        assert row.flipped == (row.answer_before != row.answer_after)
    assert logits == 3 * len(made.nodes) > 30
    assert max(map(len, ends.values())) == 6
    assert len({row.run for row in made.evidence}) == 3 * len(made.nodes)
    for node, watched in ends.items():
        own = edges.source == at[node.kind, node.layer, node.index, node.position]
        shares = np.sort(edges.share[own & (nodes.kind[edges.target] == "feature")])[::-1][:5]
        found = [
            edges.share[own & (edges.target == at[end.kind, end.layer, end.index, end.position])][0]
            for end in map(NodeId.parse, watched)
            if end.kind == "feature"
        ]
        assert sorted(found, reverse=True) == shares.tolist()
    assert not any(row.target.kind == "logit" for row in check_graph(home, laboratory, "vector", top=5).evidence)


def test_runs_a_few_at_a_time_show_the_same(
    home: Home, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = check_graph(home, laboratory, "words", top=12)
    monkeypatch.setattr(check, "_READ_BYTES", 4 * 4 * 20 * 32 * 8)
    parts = check_graph(home, laboratory, "words", top=12)
    for mode in MODES:
        assert np.abs(whole.observed[mode] - parts.observed[mode]).max() < 1e-10
    for one, other in zip(whole.evidence, parts.evidence, strict=True):
        assert (one.run, one.source, one.target) == (other.run, other.source, other.target)
        assert one.observed == pytest.approx(other.observed, abs=1e-10)


def test_a_check_fills_the_questions_once(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "check.png"
    asked = ("check", "red", "words", "--top", "30", "--home", home.root, "--json", "--out", out)
    assert run(*asked) == 0
    first = capsys.readouterr()
    rows = json.loads(first.out)
    assert [row["slug"] for row in rows] == ["red", "words"]
    assert out.read_bytes().startswith(b"\x89PNG")
    door = atlas.open(home.root)
    flips = door.ask("flipping-features", mode="free").to_pylist()
    assert sum(row["flips"] for row in flips) == sum(row["flipped_free"] for row in rows) > 0
    assert all(row["alone"] == row["flips"] for row in flips), "one feature was taken away at a time"
    against = door.ask("contradicted-edges", mode="free").to_pylist()
    assert {row["slug"] for row in against} == {"red", "words"}
    assert not len(door.ask("contradicted-edges", mode="frozen", tolerance=1e-3))
    kept = read_evidence(home)
    assert run(*asked) == 0
    assert "evidence: 0 rows added" in capsys.readouterr().err
    assert read_evidence(home) == kept


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no graph to check"),
        (("nowhere",), "no graph 'nowhere'"),
        (("words", "nowhere"), "no graph 'nowhere'"),
        (("--task", "nothing"), "no graph of task 'nothing'"),
        (("--task", "foreign"), "no graph of task 'foreign'"),
        (("foreign",), "was imported"),
        (("bare",), "has no feature"),
        (("words", "gone"), "lost.png is not there"),
        (("words", "--out", "check.gif"), "check.gif ends in neither"),
        (("words", "--device", "cuda:9"), "device 'cuda:9'"),
        (("words", "--transcoders", "no-such-set"), "no-such-set"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_bad_input_is_one_error_and_leaves_nothing(
    home: Home, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_evidence(home)
    assert run("check", *arguments, "--home", home.root) == 1
    told = capsys.readouterr()
    assert not told.out
    errors = [line for line in told.err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert said in errors[0]
    assert "Traceback" not in told.err
    assert read_evidence(home) == before


def test_people_read_tables_and_programs_rows(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("--no-evidence", "--top", "8", "--home", home.root)
    assert run("check", "words", "--rows", "features", "--json", "--mode", "free", *common) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 8
    assert {"predicted_free", "observed_free", "direct", "paths", "flipped_free"} < set(rows[0])
    assert run("check", "words", *common) == 0
    assert "norms" in capsys.readouterr().out
    assert run("check", "--task", "task words", "--task", "task pair", *common) == 0
    out = capsys.readouterr().out
    assert "words" in out
    assert "pair" in out
    assert "By prediction" in out


def test_the_summary_is_the_median_over_graphs(home: Home, laboratory: Laboratory) -> None:
    ids = [laboratory.ready(slug) for slug in ("red", "words", "pair")]
    made, new = check_graphs(home, laboratory, ids, 12, "influence", ("free",), evidence=False)
    assert new == 0
    rows = [row for row in summary_rows(made, ("free",)) if row["task"] == "all"]
    assert [row["prediction"] for row in rows] == ["direct", "paths", "gradient", "norms"]
    found = sorted(checked.correlation("direct", "free") for checked in made)
    assert rows[0]["free"] == f"{found[1]:.3f} ({found[0]:.3f} to {found[2]:.3f})"


def test_the_shipped_model_does_what_is_predicted(small_home: Home) -> None:
    """In float32: edges are exact in frozen mode; where all is free, what the clean run predicts ranks right."""
    made = check_graph(small_home, Laboratory(small_home), "sum-2-5-a")
    assert len(made.nodes) == 50
    assert made.frozen_gap is not None
    assert made.frozen_gap < 1e-6
    assert made.correlation("direct", "frozen") > 0.99
    for mode in MODES:
        assert made.row()[f"rank_correlation_{mode}"] > 0.9
    assert made.correlation("norms", "free") > made.correlation("direct", "free") + 0.05
