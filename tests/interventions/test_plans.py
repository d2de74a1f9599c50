"""Laws of plans: read and written they stay equal, what is wrong with one is one error, and all is known beforehand."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from atlas.artefact.notes import change_notes
from atlas.artefact.read import read_manifest, read_table
from atlas.config import Home
from atlas.domain.circuit import Activations
from atlas.domain.note import Member, Note
from atlas.domain.plan import REGIONS, Cells, Change, Plan, Question, Slot, parse_at
from atlas.errors import AtlasError, InputError, ModelError, NotFoundError, QuestionError
from atlas.ids import FeatureId
from ingest.demo.shipped import shipped
from ingest.interventions.case import Case, Laboratory, make_case
from ingest.interventions.edits import GENERATED, Intervention
from ingest.interventions.engine import intervene
from ingest.interventions.resolve import places_of, resolve
from ingest.model.generation import append_tokens
from ingest.model.inputs import prepare
from tests.tiny import write_model

_NAMES = st.text("abc xyz", min_size=1).filter(str.strip).map(str.strip)
_FEATURES = st.builds(FeatureId, st.integers(0, 40), st.integers(0, 200_000))
_WHAT = (
    st.lists(_FEATURES, min_size=1, max_size=4).map(tuple)
    | _NAMES
    | st.builds(Question, _NAMES, st.dictionaries(_NAMES, st.integers() | _NAMES), _NAMES)
)
_CELL = st.none() | st.integers(0, 20)
_AT = (
    st.sampled_from(REGIONS)
    | st.builds(Slot, _NAMES)
    | st.builds(Cells, _CELL, _CELL, _CELL).filter(lambda cells: cells != Cells())
    | st.lists(st.integers(-300, 300), min_size=1, max_size=5).map(tuple)
)
_VALUES = st.floats(allow_nan=False, allow_infinity=False)
_CHANGES = (
    st.builds(Change, _WHAT, _AT, st.sampled_from(["scale", "set", "add"]), _VALUES)
    | st.builds(Change, _WHAT, _AT, st.just("ablate"))
    | st.builds(Change, _WHAT, _AT, st.just("copy"), st.none(), _NAMES)
)


@given(st.builds(Plan, st.lists(_CHANGES, max_size=4).map(tuple), st.none() | _NAMES))
def test_reading_back_gives_the_plan(plan: Plan) -> None:
    assert Plan.parse(json.dumps(plan.to_json())) == plan


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"features": ["3/12"], "action": "set"}, "set without a value"),
        ({"features": ["3/12"], "action": "ablate", "value": 1}, "ablate with the value"),
        ({"features": ["3/12"], "action": "set", "value": float("nan")}, "finite"),
        ({"features": ["3/12"], "action": "set", "value": "2"}, "a number"),
        ({"features": ["3/12"], "action": "set", "value": True}, "a number"),
        ({"features": ["3/12"], "action": "set", "value": 10**400}, "hundreds of digits"),
        ({"features": ["3-12"], "action": "ablate"}, "layer/index"),
        ({"features": [], "action": "ablate"}, "names no feature"),
        ({"features": ["3/12"], "supernode": "x", "action": "ablate"}, "one of features"),
        ({"action": "ablate"}, "no feature"),
        ({"supernode": " ", "action": "ablate"}, "its name"),
        ({"question": {"parameters": {}}, "action": "ablate"}, '"question"'),
        ({"features": ["3/12"], "action": "remove"}, "one of ablate"),
        ({"features": ["3/12"], "action": "copy"}, "copy without a run"),
        ({"features": ["3/12"], "action": "ablate", "run": "x"}, "copy only"),
        ({"features": ["3/12"], "action": "ablate", "at": "everywhere"}, "'everywhere'"),
        ({"features": ["3/12"], "action": "ablate", "at": []}, "no position"),
        ({"features": ["3/12"], "action": "ablate", "at": [1.5]}, r"\[1.5\]"),
        ({"features": ["3/12"], "action": "ablate", "at": {"row": -1}}, '"row"'),
        ({"features": ["3/12"], "action": "ablate", "where": "all"}, "unknown key 'where'"),
        ("3/12", "an object"),
    ],
)
def test_a_wrong_change_is_one_error(change: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        Plan.from_json({"changes": [{"features": ["1/1"], "action": "ablate"}, change]})
    assert "change 2" in str(error.value)


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("3", "an object"), ('{"changes": 3}', "a list")])
def test_a_wrong_plan_is_one_error(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Plan.parse(text)


def test_positions_as_typed() -> None:
    assert parse_at("image") == "image"
    assert parse_at("5, 6,-1") == (5, 6, -1)
    assert parse_at("slot:planet") == Slot("planet")
    assert parse_at("image:1") == Cells(image=1)
    assert parse_at("cell:2,3") == Cells(row=2, col=3)
    for wrong in ("", "somewhere", "slot:", "cell:2", "cell:-1,2", "1,a"):
        with pytest.raises(InputError):
            parse_at(wrong)


def test_places_are_where_they_say(laboratory: Laboratory) -> None:
    case = laboratory.case("sum-3-4-a")
    positions = case.inputs.positions
    pictures = [place.index for place in positions if place.modality == "image"]
    assert places_of("image", case) == pictures
    assert places_of("image", case) + places_of("text", case) != places_of("prompt", case)
    assert sorted(places_of("image", case) + places_of("text", case)) == places_of("prompt", case)
    assert places_of("all", case) == [*places_of("prompt", case), GENERATED]
    assert places_of("last", case) == [case.n_positions - 1] == places_of((-1,), case)
    assert places_of(Cells(row=1), case) == [p.index for p in positions if p.row == 1]
    assert places_of(Cells(image=0, row=1, col=2), case) == [pictures[0] + 6]
    slot = places_of(Slot("question"), case)
    assert [positions[place].text.strip() for place in slot] == ["what", "is", "the", "sum", "?"]


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (Change((FeatureId(9, 0),), "all", "ablate"), InputError, "layer from 0 to 5"),
        (Change((FeatureId(0, 99_999),), "all", "ablate"), InputError, "index from 0"),
        (Change((FeatureId(0, 1),), (40,), "ablate"), InputError, "position 40"),
        (Change((FeatureId(0, 1),), (3, -31), "ablate"), InputError, "twice"),
        (Change((FeatureId(0, 1),), Cells(row=9), "ablate"), InputError, "row 9"),
        (Change((FeatureId(0, 1),), Slot("planet"), "ablate"), InputError, "slots are: question"),
        (Change((FeatureId(0, 1),), "all", "copy", run="no-such"), NotFoundError, "no-such"),
        (Change((FeatureId(0, 1),), "generated", "copy", run="sum-2-5-a"), InputError, "generated"),
        (Change((FeatureId(0, 1),), "all", "copy", run="words-3-4"), InputError, "aligned"),
        (Change("nobody", "all", "ablate"), NotFoundError, "nobody"),
        (Change(Question("no-such"), "all", "ablate"), QuestionError, "no-such"),
        (Change(Question("answer-drivers", {}, "wrong"), "all", "ablate"), InputError, "column 'wrong'"),
    ],
)
def test_what_is_not_there_is_one_error(
    laboratory: Laboratory, change: Change, kind: type[AtlasError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        resolve(Plan((change,)), laboratory.case("sum-3-4-a"), laboratory)


def test_a_slot_stands_there_once(laboratory: Laboratory) -> None:
    case = laboratory.case("words-3-4")
    assert [case.inputs.positions[place].text for place in places_of(Slot("first"), case)] == ["3"]
    with pytest.raises(InputError, match="0 times"):
        places_of(Slot("no"), case)
    with pytest.raises(InputError, match="image positions"):
        places_of("image", case)


def test_a_supernode_is_its_features_and_a_question_its_answer(own_home: Home) -> None:
    laboratory = Laboratory(own_home)
    case = laboratory.case("sum-3-4-a")
    key = case.bank.identity.key
    features = (FeatureId(1, 5), FeatureId(2, 7))
    change_notes(own_home, lambda _: {Member(key, "pair", feature): Note("hand") for feature in features})
    by_name = resolve(Plan((Change("pair", "image", "ablate"),)), case, laboratory)
    by_hand = resolve(Plan((Change(features, "image", "ablate"),)), case, laboratory)
    assert torch.equal(by_name.indices, by_hand.indices)
    question = Question("answer-drivers", {"graph": "sum-3-4-a"})
    asked = resolve(Plan((Change(question, "last", "scale", 2.0),)), case, laboratory)
    assert len(asked) > 3
    assert set(asked.factors.tolist()) == {2.0}


def test_copies_are_the_other_runs_values(laboratory: Laboratory) -> None:
    mars, earth = laboratory.case("moons-mars-a"), laboratory.case("moons-earth-a")
    active = earth.encoded.layers[2].active
    chosen = active.positions == mars.n_positions - 1
    features = tuple(FeatureId(2, index) for index in active.indices[chosen].tolist())
    edits = resolve(Plan((Change(features, "all", "copy", run="moons-earth-a"),)), mars, laboratory)
    last = edits.positions == mars.n_positions - 1
    assert torch.equal(edits.offsets[last].float(), active.values[chosen])
    assert not edits.factors.any()
    assert not (edits.positions == GENERATED).any()
    same = resolve(Plan((Change(features, "all", "copy", run="moons-mars-a"),)), mars, laboratory)
    found = intervene(mars, [Intervention(), Intervention(same)], "free").logits
    assert (found[0] - found[1]).abs().max() < 1e-5


def test_copies_come_from_the_place_that_stands_for_it(laboratory: Laboratory) -> None:
    """A donor with a longer question: from the end its positions are shifted."""
    mars = laboratory.case("moons-mars-a")
    picture: list[Image.Image] = [Image.open(read_manifest(laboratory.home, mars.graph or "").provenance["images"][0])]
    longer = prepare(mars.model, "how many moons moons does it have ?", picture)
    donor = make_case(mars.model, mars.bank, longer)

    class Two(Laboratory):
        def case(self, graph: str) -> Case:
            return donor

    active = donor.encoded.layers[3].active
    chosen = active.positions == donor.n_positions - 2
    features = tuple(FeatureId(3, index) for index in active.indices[chosen].tolist())
    place = mars.n_positions - 2
    edits = resolve(Plan((Change(features, (place,), "copy", run="longer"),)), mars, Two(laboratory.home))
    assert donor.n_positions > mars.n_positions
    assert torch.equal(edits.offsets.float(), active.values[chosen])


def test_what_was_generated_before_the_trace_is_no_prompt(laboratory: Laboratory) -> None:
    mars = laboratory.case("moons-mars-a")
    longer = make_case(
        mars.model,
        mars.bank,
        append_tokens(mars.model, mars.inputs, (5, 6)),
        prompt_length=mars.n_positions,
    )
    end = mars.n_positions
    assert places_of("generated", longer) == [end, end + 1, GENERATED]
    assert places_of("prompt", longer) == list(range(end))
    assert places_of("text", longer) == places_of("text", mars)
    assert places_of("all", longer) == [*range(end + 2), GENERATED]
    assert places_of("last", longer) == [end + 1]
    copied = Plan((Change((FeatureId(3, 1),), "last", "copy", run="moons-earth-a"),))
    with pytest.raises(InputError, match="no counterpart"):
        resolve(copied, longer, laboratory)


def test_a_graph_is_run_again_as_it_was(laboratory: Laboratory) -> None:
    case = laboratory.case("moons-mars-a")
    assert case.graph is not None
    manifest = read_manifest(laboratory.home, case.graph)
    assert case.inputs.token_ids.tolist() == manifest.identity["token_ids"]
    kept = read_table(laboratory.home, case.graph, Activations)
    assert len(kept.layer) == sum(len(layer.active) for layer in case.encoded.layers)
    found = [case.encoded.layers[layer].active.values for layer in range(6)]
    assert torch.equal(torch.cat(found), torch.tensor(kept.activation))


def test_a_graph_that_cannot_be_run_again_is_one_error(own_home: Home, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no-such"):
        Laboratory(own_home).ready("no-such")
    other = write_model(tmp_path / "other")
    with pytest.raises(AtlasError):
        Laboratory(own_home, model=str(other)).case("words-3-4")
    with pytest.raises(ModelError, match="transcoder set"):
        Laboratory(own_home, transcoders=_changed_set(tmp_path / "set")).case("words-3-4")


def test_a_picture_that_is_gone_or_another_is_one_error(small_home: Home, tmp_path: Path) -> None:
    laboratory = Laboratory(small_home)
    graph = laboratory.ready("moons-mars-a")
    picture = Path(read_manifest(small_home, graph).provenance["images"][0])
    kept = picture.read_bytes()
    try:
        picture.unlink()
        with pytest.raises(InputError, match="is not there"):
            laboratory.ready(graph)
        picture.write_bytes(kept + b" ")
        with pytest.raises(InputError, match="another picture"):
            laboratory.case(graph)
    finally:
        picture.write_bytes(kept)


def _changed_set(folder: Path) -> str:
    shutil.copytree(shipped("transcoders"), folder)
    file = folder / "layer_0.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"b_dec": tensors["b_dec"] + 1}, file)
    return str(folder)
