"""steer and ablate on the demo model: what they do, what they print, what they leave as evidence, what they refuse."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import atlas as front
from atlas.artefact.evidence import read_evidence
from atlas.artefact.read import read_table
from atlas.cli import cli
from atlas.config import Home
from atlas.domain.circuit import Activations, Nodes
from atlas.domain.plan import Plan
from atlas.errors import AtlasError, InputError, ModelError
from atlas.ids import NodeId
from ingest.interventions.case import Case, Laboratory
from ingest.interventions.dose import dosed, parse_doses
from ingest.interventions.plan_text import describe, plan_of, read_features
from ingest.interventions.record import Answer
from ingest.interventions.steer import Steered, steer
from ingest.verify import verify

SUM, MARS, EARTH, WORDS = "sum-3-4-a", "moons-mars-a", "moons-earth-a", "words-3-4"


def close(value: float | None) -> Any:
    """As float32 has it, in which edges are stored."""
    return pytest.approx(value, rel=1e-3, abs=2e-5)


def atlas(home: Home, *arguments: str, given: str = "") -> str:
    """What a command prints to stdout. Raises the error it ends with."""
    done = CliRunner().invoke(cli, ["--home", str(home.root), *arguments], standalone_mode=False, input=given)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def rows(home: Home, *arguments: str, given: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(atlas(home, *arguments, "--json", given=given))
    return found


@pytest.fixture(scope="module")
def case(laboratory: Laboratory) -> Case:
    return laboratory.case(SUM)


@pytest.fixture(scope="module")
def answer(small_home: Home, case: Case) -> Answer:
    found = Answer.of(small_home, case)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def drivers(answer: Answer) -> list[str]:
    """Nodes of the graph with the strongest edges into the answer, as layer/index@position."""
    kept = sorted(answer.nodes & answer.edges.keys(), key=lambda place: -abs(answer.edges[place]))
    return [f"{layer}/{index}@{position}" for layer, index, position in kept[:8]]


def one(laboratory: Laboratory, names: list[str], action: Any, value: float | None = None, **options: Any) -> Steered:
    mode, at = options.pop("mode", "frozen"), options.pop("at", "all")
    plan = plan_of(names, at, action, value)
    return steer(laboratory.home, laboratory, SUM, plan, mode, generate=0, **options).runs[0]


def test_the_value_watched_is_the_graphs_own(small_home: Home, case: Case, answer: Answer) -> None:
    assert case.graph is not None
    nodes = read_table(small_home, case.graph, Nodes)
    (at,) = np.flatnonzero(nodes.is_answer)
    assert answer.value(case.run.logits[case.answer_position].double()) == pytest.approx(
        nodes.pre_activation[at], rel=1e-5
    )


@pytest.mark.parametrize(("action", "value"), [("ablate", None), ("scale", 3.0), ("set", 5.0), ("add", -2.0)])
def test_frozen_runs_do_what_the_edges_say(
    laboratory: Laboratory, answer: Answer, case: Case, drivers: list[str], action: str, value: float | None
) -> None:
    for name in drivers:
        run = one(laboratory, [name], action, value, moved=0)
        layer, index, position = (int(part) for part in name.replace("@", "/").split("/"))
        active = case.encoded.layers[layer].active
        before = float(active.values[(active.indices == index) & (active.positions == position)])
        after = {"ablate": 0.0, "scale": before * 3, "set": 5.0, "add": before - 2}[action]
        assert run.changed == 1
        assert run.predicted == pytest.approx(answer.edges[layer, index, position] * (after - before) / before)
        assert run.report.observed == close(run.predicted)
    together = one(laboratory, drivers, action, value, moved=0)
    assert together.changed == len(drivers)
    assert together.report.observed == close(together.predicted)


def test_a_difference_is_watched_as_one(own_home: Home) -> None:
    asked = ["--prompt", "3 + 4 . what is the sum ?", "--difference", "7", "8", "--slug", "versus"]
    atlas(own_home, "ingest", *asked, "--model", "demo", "--transcoders", "demo")
    laboratory = Laboratory(own_home)
    case = laboratory.case("versus")
    answer = Answer.of(own_home, case)
    assert answer is not None and answer.minus is not None
    nodes = read_table(own_home, case.graph or "", Nodes)
    logits = case.run.logits[case.answer_position].double()
    assert answer.value(logits) == close(float(nodes.pre_activation[nodes.is_answer][0]))
    layer, index, position = max(answer.edges, key=lambda place: abs(answer.edges[place]))
    plan = plan_of([f"{layer}/{index}@{position}"], "all", "ablate", None)
    (run,) = steer(own_home, laboratory, "versus", plan, "frozen", generate=0).runs
    assert run.report.observed == close(run.predicted) == close(-answer.edges[layer, index, position])


def test_free_runs_differ_from_the_edges(laboratory: Laboratory, drivers: list[str]) -> None:
    run = one(laboratory, drivers, "ablate", mode="free")
    assert run.report.observed is not None
    assert run.predicted is not None
    assert abs(run.report.observed - run.predicted) > 0.05 * abs(run.predicted)


def test_positions_named_are_the_ones_changed(laboratory: Laboratory, case: Case) -> None:
    images = [p.index for p in case.inputs.positions if p.modality == "image"]
    active = case.encoded.layers[0].active
    counts = {f: active.positions[active.indices == f].tolist() for f in set(active.indices.tolist())}
    feature = max(counts, key=lambda f: len(set(counts[f]) & set(images)) * len(set(counts[f]) - set(images)))
    places = counts[feature]
    for at, wanted in (
        ("all", places),
        ("prompt", places),
        ("image", [p for p in places if p in images]),
        ("text", [p for p in places if p not in images]),
        (f"{places[0]},-1", {places[0], case.n_positions - 1} & set(places)),
        ("generated", []),
    ):
        assert one(laboratory, [f"0/{feature}"], "ablate", at=at).changed == len(wanted), at
    own = one(laboratory, [f"0/{feature}@{places[0]}"], "ablate", at="text")
    assert own.changed == 1, "a feature's own position counts, not --at"


def test_a_feature_set_at_a_slot_stands_there(laboratory: Laboratory, case: Case) -> None:
    run = one(laboratory, ["1/3"], "set", 4.0, at="slot:question", mode="free", moved=2000)
    texts = [position.text.strip() for position in case.inputs.positions]
    assert run.changed == len(["what", "is", "the", "sum", "?"]) and run.report.moved
    assert min(moved.position for moved in run.report.moved) >= texts.index("what")  # text is causal


def test_doses_are_strengths_and_1_is_the_plan(laboratory: Laboratory, drivers: list[str]) -> None:
    plan = plan_of(drivers[:2], "all", "scale", 1.0)
    made = steer(laboratory.home, laboratory, SUM, plan, "free", doses=(0.0, 1.0, 2.0), generate=2)
    off, same, twice = made.runs
    assert same.changed == 0 and same.report.moved == () and same.evidence == ()
    assert same.report.observed == pytest.approx(0, abs=1e-4) and same.predicted == 0
    ablated = one(laboratory, drivers[:2], "ablate", mode="free")
    assert off.report.observed == pytest.approx(ablated.report.observed, abs=1e-4)
    scaled = one(laboratory, drivers[:2], "scale", 2.0, mode="free")
    assert twice.report.observed == pytest.approx(scaled.report.observed, abs=1e-4)
    assert len({run.run for run in made.runs}) == 3
    assert len({tuple(token.id for token in run.report.tokens) for run in made.runs}) == 1
    assert dosed(plan, 1.0) == plan and parse_doses("2, 0,1,2") == (0.0, 1.0, 2.0)


def test_ablation_leaves_one_row_a_node_once(own_home: Home, answer: Answer, drivers: list[str]) -> None:
    for mode in ("frozen", "free"):
        (record,) = rows(own_home, "ablate", SUM, drivers[0], "--mode", mode)
        assert record["evidence_rows"] == 1 and record["changed_activations"] == 1
    rows(own_home, "ablate", SUM, drivers[0], "--mode", "frozen", "--moved", "0")
    frozen, free = read_evidence(own_home).values()
    assert frozen.source == free.source == NodeId.parse(f"feature:{drivers[0]}")
    assert (frozen.action, frozen.mode, frozen.strength, frozen.target) == ("ablate", "frozen", None, answer.node)
    place = (frozen.source.layer, frozen.source.index, frozen.source.position)
    assert frozen.predicted == free.predicted == pytest.approx(-answer.edges[place])
    assert frozen.observed == close(frozen.predicted)
    assert frozen.plan is not None and Plan.parse(frozen.plan) == plan_of([drivers[0]], "all", "ablate", None)
    assert (frozen.answer_before, free.answer_before, free.run) == ("7", "7", record["run"])
    assert verify(own_home) == []
    told = front.open(own_home.root).ask("contradicted-edges", tolerance=0.01).to_pylist()
    assert free.predicted is not None
    off = abs(free.observed - free.predicted) > 0.01 * abs(free.predicted)
    assert [row["mode"] for row in told] == (["free"] if off else [])


def test_evidence_of_several_is_told_apart_from_evidence_of_one(own_home: Home, drivers: list[str]) -> None:
    rows(own_home, "ablate", SUM, *drivers[:3], "--mode", "free")
    joint = list(read_evidence(own_home).values())
    assert len(joint) == 3 and len({row.run for row in joint}) == 1 and len({row.observed for row in joint}) == 1
    assert all(row.predicted is None for row in joint)
    kept = {(node.layer, node.index) for row in joint if (node := row.source) is not None}
    nodes = read_table(own_home, joint[0].graph, Nodes)
    strange = next(f"0/{n}" for n in range(99) if not ((nodes.layer == 0) & (nodes.index == n)).any())
    assert (0, int(strange[2:])) not in kept
    rows(own_home, "steer", SUM, drivers[0], strange, "--add", "3")
    assert len(read_evidence(own_home)) == 3, "it would look as if the one had been alone"
    rows(own_home, "ablate", SUM, drivers[4], "--no-evidence")
    assert len(read_evidence(own_home)) == 3


def test_a_supernode_is_one_source_with_the_sum_of_its_edges(
    own_home: Home, answer: Answer, drivers: list[str]
) -> None:
    features = [name.split("@")[0] for name in drivers[:3]]
    atlas(own_home, "supernode", "add", "three of them", *features)
    (record,) = rows(own_home, "ablate", SUM, "three of them", "--mode", "frozen")
    (row,) = read_evidence(own_home).values()
    assert row.source is None and row.supernode == "three of them"
    places = [place for place in answer.edges if f"{place[0]}/{place[1]}" in features]
    assert len(places) >= 3
    assert row.predicted == record["predicted"] == pytest.approx(-sum(answer.edges[place] for place in places))
    assert row.observed == close(row.predicted)
    assert verify(own_home) == []
    rows(own_home, "steer", SUM, "three of them", "--scale", "1")
    assert len(read_evidence(own_home)) == 1, "nothing was changed"
    atlas(own_home, "supernode", "remove", "three of them", features[0])
    rows(own_home, "ablate", SUM, "three of them", "--mode", "frozen")
    assert len({row.run for row in read_evidence(own_home).values()}) == 2, "it is another supernode now"


def test_features_of_the_other_planet_flip_the_answer(own_home: Home) -> None:
    asked = atlas(own_home, "ask", "only-in", "--a", EARTH, "--b", MARS, "--limit", "40", "--json")
    (record,) = rows(own_home, "steer", MARS, "--features-from", "-", "--set", "4", given=asked)
    assert (record["answer_before"], record["text_before"], record["flipped"]) == ("2", "2", True)
    assert record["answer_after"].startswith("1") and record["answer_after"] == record["text_after"]
    assert record["answer"]["token"] == "2" and record["difference_after"] != record["difference_before"]
    assert " ".join(record) == (
        "graph slug mode run plan dose changed_activations answer_before answer_after flipped text_before text_after "
        "answer runner_up difference_before difference_after lead_after target target_before target_after predicted "
        "observed tokens features evidence_rows"
    )
    assert " ".join(record["features"][0]) == "feature position place label before after"
    assert {tuple(token) for token in record["tokens"]} == {("id", "token", "before", "after")}
    assert record["tokens"][0]["before"] > 0.9 and record["target_after"] < record["target_before"]


def test_flipping_features_hears_of_it(own_home: Home, drivers: list[str]) -> None:
    (record,) = rows(own_home, "steer", SUM, *drivers, "--scale", "-20")
    assert record["flipped"], "the test needs a change that flips the answer"
    told = front.open(own_home.root).ask("flipping-features").to_pylist()
    assert {row["feature"] for row in told} == {name.split("@")[0] for name in drivers}
    assert all(row["flips"] == 1 and row["alone"] == 0 for row in told)


def test_a_label_is_shown_and_pictures_are_drawn(own_home: Home, drivers: list[str], tmp_path: Path) -> None:
    early = min(drivers)
    (record,) = rows(own_home, "ablate", SUM, early, "--no-evidence", "--out", str(tmp_path / "bars.png"))
    seen = read_table(own_home, record["graph"], Activations)
    known = set(zip(seen.layer.tolist(), seen.index.tolist(), strict=True))
    moved = [row["feature"] for row in record["features"]]
    one_seen = next(name for name in moved if tuple(map(int, name.split("/"))) in known)
    atlas(own_home, "label", one_seen, "moves a lot")
    assert "moves a lot" in atlas(own_home, "ablate", SUM, early, "--no-evidence")
    atlas(own_home, "steer", SUM, drivers[0], "--dose", "0,1,3", "--no-evidence", "--out", str(tmp_path / "curves.svg"))
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")
    assert "by its edges" in (tmp_path / "curves.svg").read_text()


def test_a_plan_file_is_what_the_options_say(own_home: Home, drivers: list[str], tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    feature, position = drivers[0].split("@")
    change = {"features": [feature], "at": [int(position)], "action": "ablate"}
    file.write_text(json.dumps({"name": "one", "changes": [change]}))
    (by_file,) = rows(own_home, "ablate", SUM, "--plan", str(file))
    (by_name,) = rows(own_home, "ablate", SUM, drivers[0])
    assert by_file.pop("plan")["name"] == "one" and by_name.pop("plan") and by_file == by_name
    assert len(read_evidence(own_home)) == 1


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (["ablate", "nothing", "3/7"], "no graph 'nothing'"),
        (["ablate", SUM], "no feature named"),
        (["ablate", SUM, "99/7"], "6 layers"),
        (["ablate", SUM, "3/9999999"], "has .* features"),
        (["ablate", SUM, "3/7@400"], "position 400"),
        (["ablate", SUM, "3/7@here"], "positions 'here'"),
        (["ablate", SUM, "3/7", "--at", "-400"], "position -400"),
        (["ablate", SUM, "3/7", "--at", "nowhere"], "positions 'nowhere'"),
        (["ablate", SUM, "3/7", "--at", "slot:planet"], "slot 'planet'"),
        (["ablate", WORDS, "3/7", "--at", "slot:no"], "stands 0 times"),
        (["ablate", WORDS, "3/7", "--at", "image"], "image positions of a prompt that has none"),
        (["ablate", SUM, "3/7", "3/7"], "changed twice"),
        (["ablate", SUM, "no such supernode"], "'no such supernode'"),
        (["ablate", SUM, ""], "names no feature"),
        (["ablate", SUM, "3/7", "--plan", "x.json"], "beside --plan"),
        (["ablate", SUM, "--plan", "x.json"], "cannot be read"),
        (["ablate", SUM, "--plan", "-"], "standard input is no JSON"),
        (["ablate", SUM, "--features-from", "-"], "standard input is no JSON"),
        (["ablate", SUM, "3/7", "--out", "x.gif"], "neither .png nor .svg"),
        (["ablate", SUM, "3/7", "--model", "/nowhere"], "nowhere"),
        (["steer", SUM, "3/7"], "nothing that is to be done"),
        (["steer", SUM, "3/7", "--set", "1", "--add", "2"], "--set beside --add"),
        (["steer", SUM, "3/7", "--set", "nan"], "value nan"),
        (["steer", SUM, "3/7", "--set", "inf"], "value inf"),
        (["steer", SUM, "3/7", "--dose", "0,nan"], "doses '0,nan'"),
        (["steer", SUM, "3/7", "--dose", "much"], "doses 'much'"),
        (["steer", SUM, "3/7", "--set", "1e308", "--dose", "100"], "value inf"),
        (["steer", SUM, "--plan", "-", "--set", "1"], "--set beside --plan"),
    ],
)
def test_bad_input_is_one_error_before_the_model_runs(
    small_home: Home, command: list[str], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.interventions.measure.intervene", _never)
    with pytest.raises(AtlasError, match=found):
        atlas(small_home, *command)
    assert read_evidence(small_home) == {}


@pytest.mark.parametrize(
    ("plan", "found"),
    [
        ({"changes": []}, "without a change"),
        ({"changes": [{"features": ["3/7"], "action": "set", "value": float("nan")}]}, "value nan"),
        ({"changes": [{"action": "ablate"}]}, "names no feature"),
        ({"changes": [{"features": [], "action": "ablate"}]}, "names no feature"),
        ({"changes": [{"supernode": "three", "action": "ablate"}]}, "'three'"),
        ({"changes": [{"features": ["3/7"], "action": "copy", "run": "nothing"}]}, "no graph 'nothing'"),
        ({"changes": [{"question": {"name": "no-such"}, "action": "ablate"}]}, "no-such"),
        ({"changes": [{"features": ["3/7"], "action": "ablate", "when": 1}]}, "unknown key 'when'"),
    ],
)
def test_a_bad_plan_is_one_error_before_the_model_runs(
    small_home: Home, plan: dict[str, Any], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.interventions.measure.intervene", _never)
    with pytest.raises(AtlasError, match=found):
        atlas(small_home, "steer", SUM, "--plan", "-", given=json.dumps(plan))


def test_doses_need_a_strength_and_rows_need_features(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="ablates or copies only"):
        dosed(plan_of(["3/7"], "all", "ablate", None), 2.0)
    for text, found in (
        ("[]", "no rows"),
        ('[{"layer": 3}]', "without a column"),
        ("{}", "no list"),
        ("[1]", "no list"),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        with pytest.raises(InputError, match=found):
            read_features("-")
    monkeypatch.setattr(sys, "stdin", io.StringIO('[{"feature": "3/7"}, {"feature": "2/1"}, {"feature": "3/7"}]'))
    assert read_features("-") == ["3/7", "2/1"]


def test_names_become_one_plan_and_a_plan_a_sentence() -> None:
    plan = plan_of(["3/7", "the digit", "2/1@5,-1", "1/4"], "image", "scale", 0.5)
    records = plan.to_json()["changes"]
    assert [record.get("features", record.get("supernode")) for record in records] == [
        ["3/7", "1/4"],
        "the digit",
        ["2/1"],
    ]
    assert [record["at"] for record in records] == ["image", "image", [5, -1]]
    assert Plan.from_json(plan.to_json()) == plan
    assert (
        describe(plan)
        == "scale 3/7, 1/4 by 0.5 at image; scale 'the digit' by 0.5 at image; scale 2/1 by 0.5 at [5,-1]"
    )


def test_a_picture_that_is_gone_is_one_error(small_home: Home) -> None:
    picture = small_home.root.parent / "pictures" / f"{EARTH}.png"
    data = picture.read_bytes()
    try:
        picture.unlink()
        with pytest.raises(InputError, match="is not there"):
            atlas(small_home, "ablate", EARTH, "3/7")
        picture.write_bytes(data + b"x")
        with pytest.raises(InputError, match="another picture"):
            atlas(small_home, "ablate", EARTH, "3/7")
    finally:
        picture.write_bytes(data)


def _never(*_: Any, **__: Any) -> None:
    raise AssertionError("the model ran")


def test_a_precision_that_is_not_to_be_had_is_refused(small_home: Home) -> None:
    with pytest.raises(ModelError, match="tf32"):
        atlas(small_home, "ablate", SUM, "5/603@33", "--precision", "tf32", "--no-evidence")


def test_runs_in_another_precision_are_no_evidence(own_home: Home, drivers: list[str]) -> None:
    before = read_evidence(own_home)
    atlas(own_home, "ablate", SUM, drivers[0], "--mode", "frozen", "--moved", "0", "--precision", "fp64")
    assert read_evidence(own_home) == before
    atlas(own_home, "ablate", SUM, drivers[0], "--mode", "frozen", "--moved", "0")
    assert len(read_evidence(own_home)) == len(before) + 1
