"""Laws of circuits: what is live, what is replaced, and that the circuit found is as good and as small as is said."""

from functools import cache
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from atlas.artefact.read import read_table
from atlas.config import Home
from atlas.domain.circuit import Nodes
from atlas.errors import InputError
from ingest.interventions.case import Case, Laboratory
from ingest.interventions.circuit import make_up, of_nodes, random_circuits
from ingest.interventions.circuit_search import (
    Found,
    Search,
    _between,
    find,
    gradient,
    kept_by,
    prune,
    scores,
    shortest_prefix,
)
from ingest.interventions.edits import Edits, Intervention, Vectors
from ingest.interventions.engine import intervene
from ingest.interventions.faithfulness import Pair, differences, make_pair
from ingest.model.capture import run as capture
from ingest.model.inputs import prepare
from tests.science.world import CASES, LATENTS, case
from tests.tiny import picture

PER_LAYER = [name for name in CASES if "cross-layer" not in name]


@cache
def runs(name: str) -> tuple[Case, Case]:
    """The same question about two pictures, in float64."""
    made = case(name)
    found = []
    for seed in (0, 5):
        inputs = prepare(made.model, "what is the sum of red and blue ?", [picture(seed)])
        record = capture(made.model, inputs)
        last = len(inputs.positions) - 1
        bank = made.bank
        found.append(Case(made.model, bank, inputs, record, bank.encode(record), last + 1, last))  # type: ignore[arg-type]
    return found[0], found[1]


@cache
def pair_of(name: str) -> Pair:
    """The two answers of a random model need not differ: the tokens that the runs tell apart most stand for them."""
    case, other = runs(name)
    apart = case.run.logits[-1] - other.run.logits[-1]
    return Pair(case, other, int(apart.argmax()), int(apart.argmin()))


def difference(pair: Pair, made: Case) -> float:
    logits = made.run.logits[made.answer_position]
    return float(logits[pair.answer] - logits[pair.rival])


def some(pair: Pair, seed: int, share: float = 0.5) -> Tensor:
    """[C] bool: some components."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(pair.components), generator=generator) < share


@pytest.mark.parametrize("name", CASES)
def test_all_open_is_the_clean_run_and_all_closed_the_other(name: str) -> None:
    pair = pair_of(name)
    n = len(pair.components)
    assert {int(kind) for kind in pair.components.kinds} == {0, 1, 2}
    found = differences(pair, torch.stack([torch.ones(n), torch.zeros(n)]).double())
    assert abs(float(found[0]) - difference(pair, pair.case)) < 1e-9
    assert abs(float(found[1]) - difference(pair, pair.other)) < 1e-9
    assert found[0] - found[1] > 0.1
    assert pair.kept(found).tolist() == pytest.approx([1.0, 0.0], abs=1e-9)


def as_intervention(pair: Pair, members: Tensor) -> Intervention:
    """The same circuit for the engine: every feature there is, but for the members, is set to its other value."""
    parts, other = pair.components, pair.other
    inside = {
        tuple(int(column[n]) for column in (parts.kinds, parts.layers, parts.indices, parts.positions))
        for n in members.nonzero()[:, 0].tolist()
    }
    layers, positions = range(len(other.run.layers)), range(other.n_positions)
    features = [
        (layer, index, position)
        for layer in layers
        for position in positions
        for index in range(LATENTS)
        if (0, layer, index, position) not in inside
    ]
    columns = [torch.tensor(column) for column in zip(*features, strict=True)]
    values = torch.zeros(len(features), dtype=torch.float64)
    for layer in layers:
        own = columns[0] == layer
        values[own] = other.activations(layer, columns[1][own], columns[2][own])
    errors = [(layer, at) for layer in layers for at in positions if (1, layer, 0, at) not in inside]
    entered = [at for at in positions if (2, -1, 0, at) not in inside]
    return Intervention(
        edits=Edits.of(*columns, 0.0, values),
        errors=Vectors(
            *(torch.tensor(column) for column in zip(*errors, strict=True)),
            torch.stack([other.encoded.layers[layer].error[at] for layer, at in errors]),
        ),
        embeddings=Vectors(torch.zeros(len(entered)).long(), torch.tensor(entered), other.run.embeddings[entered]),
    )


@pytest.mark.parametrize("name", PER_LAYER)
def test_a_circuit_is_the_interventions_that_replace_all_else(name: str) -> None:
    pair = pair_of(name)
    circuits = [some(pair, seed, share) for seed, share in ((0, 0.5), (1, 0.9), (2, 0.1))]
    outcome = intervene(pair.case, [as_intervention(pair, members) for members in circuits], "free")
    wanted = outcome.logits[:, 0, pair.answer] - outcome.logits[:, 0, pair.rival]
    found = differences(pair, torch.stack(circuits).double())
    assert (found - wanted).abs().max() < 1e-9
    assert len({round(value, 3) for value in found.tolist()}) == 3


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_differences(name: str) -> None:
    pair, step = pair_of(name), 1e-6
    at = torch.full((len(pair.components),), 0.7, dtype=torch.float64)
    slope = gradient(pair, at)
    for number in (*slope.abs().argsort(descending=True)[:3].tolist(), len(at) - 1):
        near = at.repeat(2, 1)
        near[0, number] -= step
        near[1, number] += step
        low, high = differences(pair, near).tolist()
        assert abs((high - low) / (2 * step) - float(slope[number])) < 1e-5


def test_batches_change_nothing_and_no_hook_is_left() -> None:
    pair = pair_of("topk")
    gates = torch.stack([some(pair, seed) for seed in range(5)]).double()
    together = differences(pair, gates)
    with patch("ingest.interventions.faithfulness._TOKENS", {"cpu": 1, "cuda": 1}):
        assert (differences(pair, gates) - together).abs().max() < 1e-10
    with pytest.raises(IndexError):
        differences(pair, gates[:, :3])
    for module in pair.case.model.hf.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


@given(low=st.integers(0, 50), width=st.integers(1, 5000))
def test_sizes_tried_rise_to_the_end(low: int, width: int) -> None:
    sizes = _between(low, low + width)
    assert sizes == sorted(set(sizes)) and sizes[-1] == low + width
    assert sizes[0] == low + 1 and len(sizes) <= 26


def none_can_go(pair: Pair, members: Tensor, keep: float) -> bool:
    inside = members.nonzero()[:, 0]
    each = members.repeat(len(inside), 1)
    each[torch.arange(len(inside)), inside] = False
    return bool((kept_by(pair, each) < keep).all())


def test_what_is_found_keeps_enough_and_nothing_can_go() -> None:
    pair = pair_of("cross-layer")
    found = find(pair, Search(keep=0.8, steps=4, rounds=1))
    assert found.size <= found.prefix <= len(pair.components)
    kept = float(kept_by(pair, found.members[None])[0])
    assert kept >= 0.8 and kept == pytest.approx(found.kept)
    assert none_can_go(pair, found.members, 0.8)


def test_a_large_circuit_is_pruned_by_gradients_as_long_as_they_are_right() -> None:
    pair = pair_of("jumprelu")
    ranked = scores(pair, 2)
    order = ranked.argsort(descending=True, stable=True)
    members = torch.zeros(len(order), dtype=torch.bool)
    members[order[: shortest_prefix(pair, order, 0.6)[0] + 20]] = True
    search = "ingest.interventions.circuit_search"
    with patch(f"{search}._SINGLY", 0), patch(f"{search}.gradient", return_value=-ranked) as misled:
        fewer = prune(pair, members, 0.6)
    assert misled.called and not (fewer & ~members).any() and fewer.sum() < members.sum()
    assert float(kept_by(pair, fewer[None])[0]) >= 0.6 and none_can_go(pair, fewer, 0.6)


def test_the_shortest_prefix_is_the_first_of_those_tried() -> None:
    pair = pair_of("jumprelu")
    order = scores(pair, 4).argsort(descending=True, stable=True)
    size, curve = shortest_prefix(pair, order, 0.8)
    tried = dict(curve)
    assert tried[size] >= 0.8 and size - 1 in tried
    assert all(kept < 0.8 for at, kept in curve if at < size)


@pytest.fixture(scope="module")
def moons(laboratory: Laboratory) -> Pair:
    """Mars and Earth on the demo model."""
    return make_pair(laboratory.case("moons-mars-a"), laboratory.case("moons-earth-a"))


@pytest.fixture(scope="module")
def found(moons: Pair) -> Found:
    return find(moons, Search(rounds=1))


def test_the_demo_model_keeps_its_answer_with_few_components(moons: Pair, found: Found) -> None:
    words = [moons.case.model.tokenizer.decode([token]).strip() for token in (moons.answer, moons.rival)]
    assert words == ["2", "1"]
    assert moons.bounds[0] > 5 and moons.bounds[1] < -5
    assert found.kept >= 0.8 and found.size <= found.prefix < 0.04 * len(moons.components)
    # what there is to keep comes from the components; TopK's jumps are what is missing
    assert float(found.scores.sum()) == pytest.approx(moons.bounds[0] - moons.bounds[1], rel=0.1)


def test_random_circuits_like_it_keep_next_to_nothing(moons: Pair, found: Found) -> None:
    drawn = random_circuits(moons, found.members, 10, seed=1)
    assert torch.equal(drawn, random_circuits(moons, found.members, 10, seed=1))
    assert not torch.equal(drawn, random_circuits(moons, found.members, 10, seed=2))
    for members in drawn:
        assert list(make_up(moons, members)) == list(make_up(moons, found.members))
    kept = kept_by(moons, drawn)
    assert float(kept.max()) < 0.8 and float(kept.mean()) < 0.3


def test_the_make_up_counts_every_component_once(moons: Pair, found: Found) -> None:
    parts = list(make_up(moons, found.members))
    assert sum(part.of for part in parts) == len(moons.components)
    assert sum(part.kept for part in parts) == found.size
    places = [moons.case.inputs.positions[at] for at in moons.components.positions.tolist()]
    images = sum(place.modality == "image" for place in places)
    assert sum(part.of for part in parts if part.modality == "image") == images


def test_the_nodes_of_a_graph_are_a_circuit(moons: Pair, small_home: Home) -> None:
    nodes = read_table(small_home, str(moons.case.graph), Nodes)
    own = of_nodes(moons, nodes)
    there = set(zip(nodes.kind, nodes.layer, nodes.position, nodes.index, strict=True))
    parts = moons.components
    for number in range(0, len(own), 97):
        kind, layer = int(parts.kinds[number]), int(parts.layers[number])
        place = int(parts.positions[number])
        if kind < 2:
            key = (("feature", "error")[kind], layer, place, int(parts.indices[number]))
            assert bool(own[number]) == (key in there)
    assert own[parts.kinds == 2].all(), "a graph keeps every token and patch"
    assert float(kept_by(moons, own[None])[0]) > 0.1


def test_two_runs_that_are_no_pair_are_one_error(laboratory: Laboratory) -> None:
    mars, sums, words = (laboratory.case(slug) for slug in ("moons-mars-a", "sum-3-4-a", "words-3-4"))
    with pytest.raises(InputError, match="tokens"):
        make_pair(mars, words)
    with pytest.raises(InputError, match="both runs answer '7'"):
        make_pair(sums, laboratory.case("sum-2-5-a"))
    with pytest.raises(InputError, match="unlike models"):
        make_pair(mars, runs("topk")[0])
    tiny = runs("topk")[0]
    moved = [*tiny.inputs.positions[1:], tiny.inputs.positions[0]]
    shifted = Case(tiny.model, tiny.bank, type(tiny.inputs)(tiny.inputs.batch, moved), tiny.run, tiny.encoded, 9, 9)
    with pytest.raises(InputError, match="stands elsewhere"):
        make_pair(tiny, shifted)
