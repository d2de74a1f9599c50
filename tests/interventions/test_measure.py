"""Reports of changed runs: a null intervention is told as nothing, and what is told is what a run of its own shows."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from atlas.domain.evidence import MODES, Mode
from atlas.errors import InputError
from ingest.interventions.case import Case, make_case
from ingest.interventions.edits import Edits, Intervention
from ingest.interventions.engine import intervene
from ingest.interventions.measure import Report, measure
from ingest.model.inputs import prepare
from ingest.transcoders.bank import load_bank
from tests.tiny import picture, tiny_model, write_transcoders


@pytest.fixture(scope="module", params=["topk", "jumprelu"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    model = tiny_model("fp64")
    folder = write_transcoders(tmp_path_factory.mktemp("set") / "set", request.param, k=4)
    inputs = prepare(model, "what is the sum of red and blue ?", [picture(1)])
    return make_case(model, load_bank(str(folder), model), inputs)


def strongest(case: Case, layer: int, count: int = 1) -> Edits:
    """Ablations of the features of a layer that fire most strongly."""
    active = case.encoded.layers[layer].active
    best = active.values.topk(count).indices
    return Edits.of([layer] * count, active.indices[best], active.positions[best])


@pytest.mark.parametrize("mode", MODES)
def test_a_null_intervention_is_told_as_nothing(case: Case, mode: Mode) -> None:
    (report,) = measure(case, [Intervention()], mode, generate=3)
    assert report.moved == () and report.answer == report.answer_after
    assert report.difference_before == report.difference_after
    assert [token.before for token in report.tokens] == [token.after for token in report.tokens]
    assert not report.flipped and report.observed is None
    assert (report.text_before is None) == (mode == "frozen")


@pytest.mark.parametrize("mode", MODES)
def test_features_told_are_those_that_differ_most(case: Case, mode: Mode) -> None:
    edits = strongest(case, 2, 6)
    (report,) = measure(case, [Intervention(edits)], mode, moved=12)
    outcome = intervene(case, [Intervention(), Intervention(edits)], mode, keep_reads=True)
    assert outcome.reads is not None
    gaps = []
    for layer, reads in enumerate(outcome.reads):
        before, after = (case.bank.activations(layer, read) for read in reads)
        own = edits.layers == layer
        changed = set(zip(edits.positions[own].tolist(), edits.indices[own].tolist(), strict=True))
        places = ((before - after).abs() > 1e-7).nonzero().tolist()
        gaps += [
            (abs(float(after[t, f] - before[t, f])), layer, f, t, float(before[t, f]), float(after[t, f]))
            for t, f in places
            if (t, f) not in changed
        ]
    expected = sorted(gaps, reverse=True)[:12]
    assert len(expected) == 12, "the change has to move something, or this tests nothing"
    told = [(m.feature.layer, m.feature.index, m.position, m.before, m.after) for m in report.moved]
    assert [row[:3] for row in told] == [row[1:4] for row in expected]
    for row, want in zip(told, expected, strict=True):
        assert row[3:] == pytest.approx(want[4:], abs=1e-12)


def test_what_was_changed_by_hand_is_not_told_as_moved(case: Case) -> None:
    first = Edits.of([1], [3], [6], offset=30.0)
    (report,) = measure(case, [Intervention(first)], "free", moved=2000)
    later = next(m for m in report.moved if m.feature.layer > 3)
    both = Edits.joined([first, Edits.of([later.feature.layer], [later.feature.index], [later.position], factor=2.0)])
    (report,) = measure(case, [Intervention(both)], "free", moved=2000)
    told = {(m.feature, m.position) for m in report.moved}
    assert told and (later.feature, later.position) not in told


def test_nothing_upstream_is_told_as_moved(case: Case) -> None:
    (report,) = measure(case, [Intervention(strongest(case, 5, 4))], "free", moved=100_000)
    assert report.moved and min(moved.feature.layer for moved in report.moved) > 5


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_tells_what_single_runs_tell(case: Case, mode: Mode) -> None:
    runs = [Intervention(strongest(case, layer, 3)) for layer in (0, 3, 5)]
    together = measure(case, runs, mode, batch_size=4)
    for run, report in zip(runs, together, strict=True):
        (alone,) = measure(case, [run], mode)
        assert report.difference_after == pytest.approx(alone.difference_after, rel=1e-9)
        assert [m.feature for m in report.moved] == [m.feature for m in alone.moved]


def test_tokens_are_probabilities_and_may_be_alike(case: Case) -> None:
    runs = [Intervention(Edits.of([4], [n], [case.n_positions - 1], factor=1.0, offset=40.0)) for n in range(4)]
    apart: list[Report] = measure(case, runs, "free", top=3)
    alike = measure(case, runs, "free", top=3, alike=True)
    whole = measure(case, runs, "free", top=10_000)
    for report in whole:
        assert sum(token.before for token in report.tokens) == pytest.approx(1)
        assert sum(token.after for token in report.tokens) == pytest.approx(1)
        others = [token.after for token in report.tokens if token.id != report.answer.id]
        assert report.answer_after.after == max(token.after for token in report.tokens)
        assert math.exp(report.lead_after) == pytest.approx(report.answer.after / max(others))
    assert all(len(report.tokens) <= 6 for report in apart)
    lists = {tuple(token.id for token in report.tokens) for report in alike}
    assert len(lists) == 1 and set(*lists) == {token.id for report in apart for token in report.tokens}


def test_an_answer_before_the_end_is_its_token(case: Case) -> None:
    early = replace(case, answer_position=5)
    (report,) = measure(early, [Intervention(strongest(case, 1, 3))], "free", generate=3)
    assert report.text_before is None and report.said_before == report.answer.text.strip()


def test_numbers_that_are_not_finite_are_one_error(case: Case) -> None:
    with pytest.raises(InputError, match="Change less"):
        measure(case, [Intervention(Edits.of([2] * 9, range(9), [3] * 9, offset=1.7e308))], "frozen")


def test_no_hook_is_left(case: Case, tmp_path: Path) -> None:
    before = intervene(case, [Intervention()], "free").logits
    measure(case, [Intervention(strongest(case, 1, 4))], "iterative", generate=2)
    assert torch.equal(intervene(case, [Intervention()], "free").logits, before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in case.model.hf.modules())
