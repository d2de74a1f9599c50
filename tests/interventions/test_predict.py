"""Laws of predictions, on the random world of tests/science: every rule, site and kind of transcoder."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from atlas.domain.evidence import Mode
from ingest.attribution.features import attribute
from ingest.attribution.settings import AttributionSettings
from ingest.attribution.sources import Sources
from ingest.interventions.case import Case
from ingest.interventions.edits import Edits, Intervention
from ingest.interventions.engine import intervene
from ingest.interventions.predict import (
    Lead,
    Occurrences,
    direct_edges,
    gradient_effects,
    norm_effects,
    path_effects,
    slopes,
)
from ingest.model.precision import precision_of
from tests.interventions.worlds import clean
from tests.science.world import CASES, case

MOVING: tuple[Mode, ...] = ("iterative", "free")


@cache
def edges(name: str = "topk") -> tuple[Tensor, Sources]:
    made = clean(name)
    with torch.no_grad():
        found, sources, _ = direct_edges(made, case(name).frozen(), Lead.of(made).targets)
    return found, sources


def spread(name: str, step: int = 17) -> tuple[Occurrences, Tensor]:
    """Every so-many-th active feature, and its column."""
    columns = torch.arange(0, edges(name)[1].n_features, step)
    return Occurrences.among(edges(name)[1], columns), columns


def change(made: Case, chosen: Occurrences, mode: Mode, factor: float = 0.0) -> Tensor:
    """[n] what becomes of the lead when each activation alone is multiplied."""
    places = zip(chosen.layers.tolist(), chosen.indices.tolist(), chosen.positions.tolist(), strict=True)
    items = [Intervention(Edits.of([layer], [index], [at], factor)) for layer, index, at in places]
    leads = Lead.of(made).value(intervene(made, [Intervention(), *items], mode).logits[:, 0])
    return leads[1:] - leads[0]


def test_the_lead_is_the_two_best_tokens_before_any_cap() -> None:
    made = clean()
    lead, logits = Lead.of(made), made.run.logits[-1]
    first, second = logits.topk(2).values
    assert float(lead.value(logits)) == pytest.approx(float(first - second), abs=1e-12)
    assert float(lead.targets.values[0]) == pytest.approx(float(first - second), abs=1e-12)
    capped = 30.0 * torch.tanh(logits / 30.0)
    assert float(replace(lead, cap=30.0).value(capped)) == pytest.approx(float(first - second), abs=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_in_frozen_mode_the_edge_is_what_an_ablation_does(name: str) -> None:
    chosen, columns = spread(name)
    seen, predicted = change(clean(name), chosen, "frozen"), -edges(name)[0][columns]
    assert torch.allclose(seen, predicted, rtol=1e-6, atol=1e-11)
    assert predicted.abs().max() > 0.01


@pytest.mark.parametrize("name", CASES)
def test_the_derivative_of_frozen_mode_is_the_edge(name: str) -> None:
    made, (found, sources) = clean(name), edges(name)
    chosen = Occurrences.among(sources, torch.arange(sources.n_features))
    derivative = gradient_effects(made, slopes(made, Lead.of(made), "frozen"), chosen)
    assert (derivative - found).abs().max() < 1e-10


@pytest.mark.parametrize("name", CASES)
def test_all_paths_are_the_solution_over_all_active_features(name: str) -> None:
    made, frozen = clean(name), case(name).frozen()
    targets = Lead.of(made).targets
    rows = attribute(frozen, made.run.token_ids, made.bank, targets, AttributionSettings(max_features=10**6))
    n = rows.sources.n_features
    among = torch.empty(n, n, dtype=torch.float64)
    among[rows.features] = rows.weights[1:, :n]  # row: the feature read into, column: the feature read from
    per_unit = among / rows.sources.activations
    direct = rows.weights[0, :n] / rows.sources.activations
    expected = torch.linalg.solve((torch.eye(n) - per_unit).T, direct) * rows.sources.activations
    with torch.no_grad():
        found = path_effects(made, frozen, targets)
    assert (found - expected).abs().max() < 1e-9 * expected.abs().max()
    assert (found - rows.weights[0, :n]).abs().max() > 0.01, "there are paths of two steps"


@pytest.mark.parametrize("mode", MOVING)
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_the_slope_of_small_ablations(name: str, mode: Mode) -> None:
    made, (chosen, _) = clean(name), spread(name, 31)
    derivative = gradient_effects(made, slopes(made, Lead.of(made), mode), chosen)
    step = 1e-4
    seen = (change(made, chosen, mode, 1 + step) - change(made, chosen, mode, 1 - step)) / (2 * step)
    assert (derivative - seen).abs().max() < 1e-6 * seen.abs().max()


@pytest.mark.parametrize("mode", MOVING)
@pytest.mark.parametrize("name", CASES)
def test_norms_in_full_are_exact_where_nothing_else_follows(name: str, mode: Mode) -> None:
    made, (_, sources) = clean(name), edges(name)
    last = (sources.layers == len(made.run.layers) - 1) & (sources.positions == made.answer_position)
    columns = last[: sources.n_features].nonzero()[:, 0]
    chosen, lead = Occurrences.among(sources, columns), Lead.of(made)
    found = slopes(made, lead, mode)
    seen, full = -change(made, chosen, mode), norm_effects(made, lead, found, chosen)
    assert (full - seen).abs().max() < 1e-9
    assert (gradient_effects(made, found, chosen) - seen).abs().max() > 1e-3, "the norms are not linear"


@pytest.mark.parametrize("name", CASES)
def test_norms_in_full_have_the_gradient_as_their_slope(name: str) -> None:
    made, (chosen, _) = clean(name), spread(name)
    lead, step = Lead.of(made), 1e-6
    found = slopes(made, lead, "free")
    small = norm_effects(made, lead, found, replace(chosen, activations=chosen.activations * step)) / step
    assert (small - gradient_effects(made, found, chosen)).abs().max() < 1e-4


def test_nothing_of_a_derivative_stays_behind() -> None:
    made = clean()

    def hooks(module: nn.Module) -> int:
        return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())

    before = hooks(made.model.hf)
    slopes(made, Lead.of(made), "iterative")
    broken = replace(Lead.of(made), plus=10**9)
    with pytest.raises(IndexError):
        slopes(made, broken, "free")
    assert hooks(made.model.hf) == before
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in made.model.hf.parameters())


def test_the_final_norm_meets_all_that_a_cross_layer_feature_writes() -> None:
    made, (_, sources) = clean("cross-layer"), edges("cross-layer")
    first = (sources.layers == 0) & (sources.positions == made.answer_position)
    chosen = Occurrences.among(sources, first[: sources.n_features].nonzero()[:, 0])
    lead, sites = Lead.of(made), made.model.sites
    found = slopes(made, lead, "free")
    with torch.no_grad(), precision_of(made.model):
        for n, effect in enumerate(norm_effects(made, lead, found, chosen)):
            lost, gained = made.run.final_residual.new_zeros(made.model.facts.width), 0.0
            for layer, block in enumerate(made.model.layers):
                row = made.bank.decoder_rows(0, chosen.indices[n : n + 1], layer)[0] * chosen.activations[n]
                norm, given = block.get_submodule(str(sites.mlp_post_norm)), made.run.layers[layer].mlp_out[-1]
                here = norm(given) - norm(given - row)
                lost, gained = lost + here, gained + float(found.at_stream[layer][-1] @ here)
            final, last = made.model.part(sites.final_norm), made.run.final_residual[-1]
            straight = float((final(last) - final(last - lost)) @ lead.targets.vectors[0])
            assert float(effect) == pytest.approx(gained - float(found.at_end @ lost) + straight, abs=1e-10)
