"""Copying from run to run: what is nothing, what is everything, what turns an answer, and what it is held against."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import atlas
from atlas.cli import cli
from atlas.config import Home
from atlas.errors import AtlasError
from ingest.demo.shipped import shipped
from ingest.demo.world import draw
from ingest.interventions.case import Case, Laboratory, make_case
from ingest.interventions.controls import embeddings_alone, random_directions, random_features, written_by
from ingest.interventions.downstream import activations_after, downstream_of, shifts
from ingest.interventions.edits import Intervention, Vectors
from ingest.interventions.engine import intervene
from ingest.interventions.pair import Occurrences, Pair, active_in_either, differing
from ingest.interventions.patch import Candidates, best, patch
from ingest.interventions.patch_graphs import Wish, patch_graphs, record
from ingest.interventions.patch_scores import scores
from ingest.model.inputs import prepare
from ingest.model.model import Model, load_model
from ingest.transcoders.bank import Bank, load_bank
from tests.interventions.test_engine import clean as clean_run
from tests.science.world import CASES
from tests.tiny import picture, tiny_model, write_transcoders


@cache
def demo() -> tuple[Model, Bank]:
    model = load_model(shipped("model"))
    return model, load_bank(shipped("transcoders"), model)


@cache
def rendering(task: str, seed: int, **fixed: int | str) -> Case:
    sample = draw(task, np.random.default_rng([77, seed]), **fixed)
    model, bank = demo()
    return make_case(model, bank, prepare(model, sample.question, [sample.image] if sample.image else []))


def planets(donor: str, recipient: str, task: str = "planet") -> Pair:
    return Pair.of(rendering(task, 1, planet=donor), rendering(task, 2, planet=recipient))


@cache
def searched() -> tuple[Pair, Candidates]:
    pair = planets("earth", "mars")
    return pair, Candidates.of(pair)


def clean(case: Case) -> torch.Tensor:
    return case.run.logits[case.answer_position]


def everywhere(case: Case, donor: Case) -> tuple[Vectors, Vectors]:
    """The donor's errors and embeddings at all positions."""
    n, layers = case.n_positions, case.bank.n_layers
    places = torch.arange(n)
    errors = torch.cat([layer.error for layer in donor.encoded.layers])
    return (
        Vectors(torch.arange(layers).repeat_interleave(n), places.repeat(layers), errors),
        Vectors(torch.zeros(n, dtype=torch.int64), places, donor.run.embeddings),
    )


def test_copying_a_run_into_itself_changes_nothing() -> None:
    case = rendering("planet", 1, planet="earth")
    pair = Pair.of(case, case)
    found = active_in_either(pair)
    assert len(found) > 1000
    assert not differing(found).any()
    after = intervene(case, [Intervention(found.edits)], "free").logits[0, 0]
    torch.testing.assert_close(after, clean(case), atol=1e-4, rtol=0)


def test_copying_features_errors_and_embeddings_gives_the_donors_answer(tmp_path: Path) -> None:
    model = tiny_model("fp64")
    bank = load_bank(str(write_transcoders(tmp_path / "set")), model)
    words = "what is the sum of red blue"
    donor, recipient = (make_case(model, bank, prepare(model, words, [picture(seed)])) for seed in (0, 5))
    pair = Pair.of(donor, recipient)
    found = active_in_either(pair)
    assert differing(found).any()
    assert (clean(donor) - clean(recipient)).abs().max() > 1e-3
    errors, embeddings = everywhere(recipient, donor)
    whole = Intervention(found.edits, errors=errors, embeddings=embeddings)
    after = intervene(recipient, [whole, Intervention(found.edits)], "free").logits[:, 0]
    torch.testing.assert_close(after[0], clean(donor), atol=1e-9, rtol=0)
    assert (after[1] - clean(donor)).abs().max() > 1e-4  # features alone are not all


def test_what_is_copied_is_what_the_donor_has() -> None:
    pair, candidates = searched()
    found = candidates.found
    own: dict[tuple[int, int, int], float] = {}
    given: dict[tuple[int, int, int], float] = {}
    for case, values in ((pair.recipient, own), (pair.donor, given)):
        for layer, encoding in enumerate(case.encoded.layers):
            active = encoding.active
            keys = zip(active.positions.tolist(), active.indices.tolist(), strict=True)
            values |= {(layer, *key): value for key, value in zip(keys, active.values.tolist(), strict=True)}
    places = list(zip(found.layers.tolist(), found.positions.tolist(), found.indices.tolist(), strict=True))
    assert found.before.tolist() == [own.get(place, 0.0) for place in places]
    assert found.donated.tolist() == [given.get(place, 0.0) for place in places]  # equal prompts: position by position
    unlike = {place for place in own | given if abs(own.get(place, 0) - given.get(place, 0)) > 0.1}
    assert unlike <= set(places)


def test_scores_add_up_to_what_copying_does() -> None:
    """Integrated gradients are complete; within one layer nothing comes in or out of the set's rule on the way."""
    pair, candidates = searched()
    found = candidates.found[candidates.found.layers == 4]
    copied, nothing = intervene(pair.recipient, [Intervention(found.edits), Intervention()], "free").logits[:, 0]
    change = copied - nothing
    lead = float(change[pair.wanted] - change[pair.given])
    assert abs(lead) > 1
    assert float(scores(pair, found, points=40).sum()) == pytest.approx(lead, rel=0.01)
    one = found[candidates.worth[candidates.found.layers == 4].argsort(descending=True)[:1]]
    copied = intervene(pair.recipient, [Intervention(one.edits)], "free").logits[0, 0]
    alone = float((copied - nothing)[pair.wanted] - (copied - nothing)[pair.given])
    assert float(scores(pair, one)) == pytest.approx(alone, rel=0.05)


@pytest.mark.parametrize(
    ("task", "donor", "recipient"),
    [
        ("planet", {"planet": "earth"}, {"planet": "mars"}),
        ("planet", {"planet": "mars"}, {"planet": "saturn"}),
        ("moons", {"planet": "earth"}, {"planet": "mars"}),
        ("digit", {"a": 7}, {"a": 2}),
        ("sum", {"a": 3, "b": 4}, {"a": 3, "b": 1}),
    ],
)
def test_the_answer_follows_the_patch_and_not_its_controls(
    task: str, donor: dict[str, int | str], recipient: dict[str, int | str]
) -> None:
    pair = Pair.of(rendering(task, 3, **donor), rendering(task, 4, **recipient))
    candidates = Candidates.of(pair)
    made = patch(pair, best(pair, candidates), candidates, controls=3)
    assert made.became
    assert made.lead_before < 0 < made.lead_after
    assert not any(control.became for control in made.controls)
    assert made.smallest is not None
    assert 1 < made.smallest <= len(made.chosen) == 128
    fewer, enough = intervene(
        pair.recipient,
        [Intervention(made.chosen[:size].edits) for size in (made.smallest - 1, made.smallest)],
        "free",
    ).logits[:, 0]
    assert int(fewer.argmax()) != pair.wanted == int(enough.argmax())
    whole, *layers = (shift for shift in made.shifts if shift.where != "answer")
    assert whole.features == sum(layer.features for layer in layers)
    for control in made.controls:
        assert control.shifts[0].features == whole.features
        assert control.shifts[0].moved < whole.moved
        assert control.shifts[0].progress < whole.progress


def test_best_features_obey_where_and_how_many() -> None:
    pair, candidates = searched()
    soft = [p.index for p in pair.recipient.inputs.positions if p.modality == "image"]
    chosen = best(pair, candidates, 20, soft, range(1, 3))
    assert len(chosen) == 20
    assert set(chosen.positions.tolist()) <= set(soft)
    assert set(chosen.layers.tolist()) <= {1, 2}
    worth = candidates.worth_of(chosen)
    assert (worth > 0).all()
    assert (worth.diff() <= 0).all()
    every = best(pair, candidates, 10**6)
    assert len(every) == int((candidates.worth > 0).sum())


@st.composite
def pools(draw_from: st.DrawFn) -> tuple[Occurrences, torch.Tensor]:
    places = st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 9))
    found = sorted(draw_from(st.sets(places, min_size=1, max_size=40)))
    layers, positions, indices = (torch.tensor(column) for column in zip(*found, strict=True))
    chosen = draw_from(st.lists(st.booleans(), min_size=len(found), max_size=len(found)))
    zeros = torch.zeros(len(found), dtype=torch.float64)
    return Occurrences(layers, indices, positions, zeros, zeros + 1), torch.tensor(chosen)


@given(pools(), st.integers(0, 5))
def test_random_features_are_as_many_in_the_same_places(made: tuple[Occurrences, torch.Tensor], seed: int) -> None:
    pool, mask = made
    chosen = pool[mask]
    other = random_features(chosen, pool, seed)
    keys, taken = set(chosen.keys.tolist()), other.keys.tolist()
    assert len(set(taken)) == len(taken) == min(len(chosen), len(pool) - len(chosen))
    assert not keys & set(taken)
    assert set(taken) <= set(pool.keys.tolist())

    def counts(found: Occurrences) -> dict[tuple[int, int], int]:
        at = list(zip(found.layers.tolist(), found.positions.tolist(), strict=True))
        return {place: at.count(place) for place in set(at)}

    there, have, wanted = counts(pool), counts(other), counts(chosen)
    for place, count in wanted.items():
        assert have.get(place, 0) >= min(count, there[place] - count)
    assert random_features(chosen, pool, seed).keys.tolist() == taken


def test_random_features_differ_from_seed_to_seed() -> None:
    pair, candidates = searched()
    chosen = best(pair, candidates)
    one, other = (random_features(chosen, candidates.found, seed) for seed in (0, 1))
    assert len(one) == len(other) == len(chosen)
    assert set(one.keys.tolist()) != set(other.keys.tolist())


@pytest.mark.parametrize("mode", ["free", "frozen"])
def test_random_directions_are_as_strong_as_what_is_written(mode: str) -> None:
    pair, candidates = searched()
    case, chosen = pair.recipient, best(pair, candidates, 40)
    now = chosen.before
    if mode == "free":
        now = activations_after(case, intervene(case, [Intervention(chosen.edits)], "free", keep_reads=True), chosen)[0]
    written = written_by(case, chosen, now)
    # what is written, written by hand, does what the patch does
    by_hand, patched = intervene(case, [Intervention(writes=written), Intervention(chosen.edits)], mode).logits[:, 0]  # type: ignore[arg-type]
    torch.testing.assert_close(by_hand, patched, atol=1e-3, rtol=0)
    assert set(zip(written.layers.tolist(), written.positions.tolist(), strict=True)) == set(
        zip(chosen.layers.tolist(), chosen.positions.tolist(), strict=True)
    )
    drawn = random_directions(written, 4)
    torch.testing.assert_close(drawn.vectors.norm(dim=-1), written.vectors.norm(dim=-1))
    cosines = torch.nn.functional.cosine_similarity(drawn.vectors, written.vectors, dim=-1)
    assert cosines.abs().mean() < 0.3
    torch.testing.assert_close(drawn.vectors, random_directions(written, 4).vectors, atol=0, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_scores_and_writes_hold_for_every_kind_of_set(name: str) -> None:
    """Sites, rules and cross-layer writes: what is written by hand does what the copy does, and scores add up."""
    made = clean_run(name)
    unlike = replace(made, run=replace(made.run, logits=-made.run.logits))  # a donor that answers otherwise
    pair = Pair(unlike, made, torch.arange(made.n_positions))
    found = active_in_either(pair, layers=[3])
    found = replace(found, donated=found.before * torch.linspace(0.2, 2.0, len(found), dtype=torch.float64))
    written = written_by(made, found, found.before)  # nothing below is changed: the activations are the clean run's
    runs = [Intervention(found.edits), Intervention(writes=written), Intervention()]
    copied, by_hand, nothing = intervene(made, runs, "free").logits[:, 0]
    torch.testing.assert_close(by_hand, copied, atol=1e-9, rtol=0)
    change = copied - nothing
    lead = float(change[pair.wanted] - change[pair.given])
    assert abs(lead) > 1e-3
    assert float(scores(pair, found, points=50).sum()) == pytest.approx(lead, rel=1e-3)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=20), st.floats(-0.5, 1.5))
def test_a_share_of_the_way_is_told_as_progress(values: list[tuple[float, float]], share: float) -> None:
    pair, _ = searched()
    before, donated = (torch.tensor(column, dtype=torch.float64) for column in zip(*values, strict=True))
    apart = (donated - before).abs() > 1e-3
    if not apart.any():
        return
    n = len(before)
    found = Occurrences(torch.zeros(n, dtype=torch.int64), torch.arange(n), torch.arange(n), before, donated)[apart]
    after = found.before + share * (found.donated - found.before)
    told = shifts(pair, found, torch.ones(len(found), dtype=torch.float64), after)[0]
    assert told.features == len(found)
    assert told.progress == pytest.approx(share, abs=1e-9)
    if abs(share - 0.5) > 1e-6:
        assert told.moved == told.moved_worth == (1.0 if share > 0.5 else 0.0)


def test_a_picture_enters_by_its_embeddings() -> None:
    pair, candidates = searched()
    soft = [p.index for p in pair.recipient.inputs.positions if p.modality == "image"]
    on_picture = Intervention(best(pair, candidates, 10**6, soft).edits)
    entered, copied = intervene(pair.recipient, [embeddings_alone(pair), on_picture], "free").logits[:, 0].argmax(-1)
    assert (int(entered), int(copied)) == (pair.wanted, pair.given)
    itself = Pair.of(pair.recipient, pair.recipient)
    after = intervene(pair.recipient, [embeddings_alone(itself)], "free").logits[0, 0]
    torch.testing.assert_close(after, clean(pair.recipient), atol=1e-4, rtol=0)


def test_downstream_is_what_a_patch_can_reach() -> None:
    pair, candidates = searched()
    found, soft = candidates.found, [p.index for p in pair.recipient.inputs.positions if p.modality == "image"]
    nothing = intervene(pair.recipient, [Intervention()], "free", keep_reads=True)
    for place in (soft[5], pair.recipient.answer_position - 3):
        chosen = found[(found.layers == 2) & (found.positions == place)]
        after = downstream_of(pair, chosen, found)
        assert set(found.layers[after].tolist()) == {3, 4, 5}
        first = soft[0] if place in soft else place  # soft tokens of one picture see each other
        assert int(found.positions[after].min()) == first
        outcome = intervene(pair.recipient, [Intervention(chosen.edits)], "free", keep_reads=True)
        rest = found[~after & ~torch.isin(found.keys, chosen.keys)]
        torch.testing.assert_close(
            activations_after(pair.recipient, outcome, rest), activations_after(pair.recipient, nothing, rest)
        )


def test_frozen_patches_follow_the_edges() -> None:
    """In frozen mode the lead changes by the sum of what each copy does alone."""
    pair, candidates = searched()
    chosen = best(pair, candidates, 6)
    runs = [Intervention(chosen.edits), *(Intervention(chosen[n : n + 1].edits) for n in range(6)), Intervention()]
    logits = intervene(pair.recipient, runs, "frozen").logits[:, 0]
    leads = logits[:, pair.wanted] - logits[:, pair.given]
    assert float(leads[0] - leads[-1]) == pytest.approx(float((leads[1:-1] - leads[-1]).sum()), rel=1e-3)


def test_a_patch_of_graphs_is_kept_and_told(own_home: Home, tmp_path: Path) -> None:
    out = tmp_path / "patch.png"
    asked = ["patch", "moons-earth-a", "moons-mars-a", "--home", str(own_home.root), "--controls", "2", "--json"]
    told = CliRunner().invoke(cli, [*asked, "--out", str(out)], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    (row,) = json.loads(told.stdout)
    assert row["became_donors"] is True
    assert (row["answer_before"], row["answer_after"], row["donor_answer"]) == ("2", "1", "1")
    assert (row["text_before"], row["text_after"]) == ("2", "1")
    assert row["features"] == len(row["copied"]) == sum(len(c["features"]) for c in row["plan"]["changes"]) == 128
    assert [control["runs"] for control in row["controls"]] == [2, 2]
    assert row["lead_before"] < 0 < row["lead_after"] < row["lead_donor"]
    assert row["downstream"][0]["where"] == "all"
    assert out.read_bytes().startswith(b"\x89PNG")
    assert row["evidence_rows"] > 2
    assert f"evidence: {row['evidence_rows']} new" in told.stderr
    door = atlas.open(own_home.root)
    found = door.ask("flipping-features", action="copy").to_pylist()
    assert len(found) == row["evidence_rows"]
    assert {(feature["answer_before"], feature["answer_after"]) for feature in found} == {("2", "1")}
    again = CliRunner().invoke(cli, asked, catch_exceptions=False)
    assert f"evidence: 0 new, {row['evidence_rows']} as before" in again.stderr
    assert json.loads(again.stdout)[0]["run"] == row["run"]


def test_features_named_are_those_found(small_home: Home, laboratory: Laboratory) -> None:
    graphs = ("moons-earth-a", "moons-mars-a")
    found = patch_graphs(small_home, laboratory, *graphs, Wish(features=5, at="last"), controls=1)
    copied = record(found)["copied"]
    named = tuple(f"{row['feature']}@{row['position']}" for row in copied)
    same = patch_graphs(small_home, laboratory, *graphs, Wish(named), controls=1)
    assert record(same)["copied"] == copied
    assert same.made.lead_after == pytest.approx(found.made.lead_after, abs=1e-4)
    at_last = Wish(tuple(row["feature"] for row in copied), at="last")
    assert patch_graphs(small_home, laboratory, *graphs, at_last, controls=1).run != same.run
    assert {row["position"] for row in copied} == {found.made.pair.recipient.answer_position}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["moons-earth-a", "nowhere"], "no graph 'nowhere'"),
        (["moons-earth-a", "words-3-4"], "cannot be aligned: one has 1 picture"),
        (["moons-earth-a", "moons-earth-a"], "both runs answer with '1'"),
        (["moons-earth-a", "moons-mars-a", "--at", "slot:no"], "the slot 'no'"),
        (["moons-earth-a", "moons-mars-a", "--at", "99"], "position 99"),
        (["moons-earth-a", "moons-mars-a", "--at", "somewhere"], "the positions 'somewhere'"),
        (["moons-earth-a", "moons-mars-a", "--at", "0"], "no feature there speaks for the other answer"),
        (["moons-earth-a", "moons-mars-a", "--layers", "4-2"], "layers '4-2'"),
        (["moons-earth-a", "moons-mars-a", "--layers", "6"], "layer 6"),
        (["moons-earth-a", "moons-mars-a", "9/1"], "feature 9/1"),
        (["moons-earth-a", "moons-mars-a", "3/99999"], "feature 3/99999"),
        (["moons-earth-a", "moons-mars-a", "no such group"], "named 'no such group'"),
        (["moons-earth-a", "moons-mars-a", "3/5@0"], "the same in both runs"),
        (["moons-earth-a", "moons-mars-a", "3/5", "3/5@9"], "changed twice at position 9"),
        (["moons-earth-a", "moons-mars-a", "3/5", "--at", "generated"], "generated positions"),
        (["moons-earth-a", "moons-mars-a", "3/5", "--features", "4"], "--features beside named features"),
        (["moons-earth-a", "moons-mars-a", "--out", "patch.gif"], "patch.gif ends in neither"),
    ],
)
def test_bad_input_is_one_error(small_home: Home, arguments: list[str], words: str) -> None:
    told = CliRunner().invoke(cli, ["patch", *arguments, "--home", str(small_home.root)], standalone_mode=False)
    assert isinstance(told.exception, AtlasError)
    assert words in str(told.exception)
    assert told.stdout == ""
    assert not (small_home.artefacts / "evidence.jsonl").exists()
