"""What taking a feature away will do to the answer's lead, told for all features at once without doing it.

The lead is the answer's logit minus its runner-up's, before any soft cap. The runner-up need not be a target of the
graph, and an edge to one logit says nothing of a difference, so predictions are made anew from the model. With a the
activation of a feature and w what it writes:

    direct     minus the edge to the lead, as a graph of it would have it
    paths      minus the effect over all paths of the frozen graph of all active features: attention, norms and errors
               stand still, features follow (the rows of (I - A)^-1 in one backward sweep)
    gradient   minus a times the derivative of the lead along w, through all that a mode leaves free: attribution
               patching (Nanda 2023; AtP*, arXiv 2403.00745) with the engine's own hooks in place
    norms      the same, but the norms that the write itself meets do not stand for their derivative: the one after its
               MLP and, at the answer's position, the final one, are run on the changed vectors

The last needs one backward pass, and a few vectors a feature. Its norms are where ablations are least linear: where
much of what an MLP gives is taken away, the norm enlarges what is left. Letters used in shapes: N active features, n of
them to be taken away, T positions, d width of the residual stream, L layers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from atlas.domain.evidence import Mode
from ingest.attribution.features import attribute
from ingest.attribution.frozen import FrozenLayer, FrozenModel, through_attention, through_skip, to_keys
from ingest.attribution.settings import AttributionSettings
from ingest.attribution.sources import Sources
from ingest.attribution.targets import Targets, TargetSpec, Vocabulary, resolve
from ingest.interventions.case import Case
from ingest.interventions.edits import Intervention
from ingest.interventions.engine import tiled
from ingest.interventions.hooks import changed
from ingest.model.precision import precision_of
from ingest.transcoders.records import OutputSite

Prediction = Literal["direct", "paths", "gradient", "norms"]
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


@dataclass(frozen=True, eq=False)
class Lead:
    """The answer against its runner-up: the two most probable tokens at the answer's position."""

    plus: int
    """Vocabulary id of the answer."""
    minus: int
    """Vocabulary id of the runner-up."""
    targets: Targets
    """The difference as a target of attribution."""
    cap: float | None
    """The model's soft cap, if it has one: the lead is taken before it."""

    @classmethod
    def of(cls, case: Case) -> "Lead":
        """The lead of a clean run."""
        weights = case.model.weights()
        ordered = case.run.logits[case.answer_position].sort(descending=True, stable=True).indices
        plus, minus = ordered[:2].tolist()
        spec = TargetSpec(kind="difference", difference=(plus, minus), position=case.answer_position)
        targets = resolve(spec, case.run, weights, Vocabulary.of(case.model.tokenizer))
        return cls(plus, minus, targets, weights.logit_softcap)

    def value(self, logits: Tensor) -> Tensor:
        """[...] the lead, given the model's logits [..., V]."""
        pair = torch.stack([logits[..., self.plus], logits[..., self.minus]])
        if self.cap is not None:
            pair = torch.atanh(pair / self.cap) * self.cap
        return pair[0] - pair[1]


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Features at positions, each to be taken away alone; on the model's device."""

    layers: Tensor
    """[n] int64 layer."""
    indices: Tensor
    """[n] int64 index."""
    positions: Tensor
    """[n] int64 position."""
    activations: Tensor
    """[n] activation in the clean run."""

    @classmethod
    def among(cls, sources: Sources, columns: Tensor) -> "Occurrences":
        """Those of the sources' feature columns."""
        return cls(
            sources.layers[columns], sources.indices[columns], sources.positions[columns], sources.activations[columns]
        )

    def __len__(self) -> int:
        return len(self.layers)


def direct_edges(case: Case, frozen: FrozenModel, targets: Targets) -> tuple[Tensor, Sources, Tensor]:
    """[N] edges of every active feature to the one target, the sources they are columns of, and [1] |incoming|."""
    rows = attribute(frozen, case.run.token_ids, case.bank, targets, AttributionSettings(max_features=0))
    return rows.weights[0, : rows.sources.n_features], rows.sources, rows.incoming_abs


def path_effects(case: Case, frozen: FrozenModel, targets: Targets) -> Tensor:
    """[N] signed effect of every active feature on the one target, over all paths through features.

    One sweep down: what a block's output is worth gives each feature's worth, and that goes in at its encoder.
    """
    length, width = frozen.embeddings.shape
    position = int(targets.positions[0])
    cotangent = frozen.embeddings.new_zeros(length, width, 1)
    cotangent[position, :, 0] = targets.vectors[0].to(cotangent) * frozen.logit_scale[position]
    effects = [frozen.embeddings.new_zeros(len(layer.active)) for layer in frozen.layers]
    for number in reversed(range(len(frozen.layers))):
        block = frozen.layers[number]
        for writes in block.writes:
            effects[writes.layer] += writes.effects(cotangent, length)[0][:, 0]
        through_skip(block, cotangent)
        _into_encoders(case, number, block, effects[number], cotangent)
        if number:
            through_attention(block, to_keys(block, cotangent), cotangent)
    return torch.cat(effects)


def _into_encoders(case: Case, number: int, block: FrozenLayer, effects: Tensor, cotangent: Tensor) -> None:
    """Add to a cotangent [T, d, 1] between attention and MLP what a block's features are worth, in place."""
    active = block.active
    if not len(active):
        return
    unique, column = torch.unique(active.indices, return_inverse=True)
    worth = effects.new_zeros(len(cotangent), len(unique))
    worth[active.positions, column] = effects / active.values.to(effects)
    cotangent[:, :, 0] += worth @ case.bank.encoder_rows(number, unique).to(worth) * block.read_scale


@dataclass(frozen=True, eq=False)
class Slopes:
    """Derivatives of the lead in one mode."""

    at_site: list[Tensor]
    """L of [T, d]: along what the set's decoders reconstruct."""
    at_stream: list[Tensor]
    """L of [T, d]: along what the MLP adds to the residual stream."""
    at_end: Tensor
    """[d] along the input of the final norm, at the answer's position."""


def slopes(case: Case, lead: Lead, mode: Mode) -> Slopes:
    """One run of the mode with nothing changed, and one backward pass."""
    model, sites = case.model, case.model.sites
    shape = (1, case.n_positions, model.facts.width)
    leaves: list[Tensor] = []
    handles = []

    def leaf() -> Tensor:
        leaves.append(torch.zeros(shape, dtype=model.dtype, device=model.device, requires_grad=True))
        return leaves[-1]

    def added(module: nn.Module) -> None:
        extra = leaf()
        handles.append(module.register_forward_hook(lambda _, __, output: output + extra))

    nothing = [Intervention()]
    with torch.enable_grad(), precision_of(model), changed(case, nothing, mode, keep_reads=False):
        try:
            for block in model.layers:
                added(block.get_submodule(sites.mlp))
                if sites.mlp_post_norm is not None:
                    added(block.get_submodule(sites.mlp_post_norm))
            end = leaf()
            final = model.part(sites.final_norm)
            handles.append(final.register_forward_pre_hook(lambda _, args: (args[0] + end, *args[1:])))
            places = torch.tensor([case.answer_position], device=model.device)
            found = model.hf(**tiled(case, 1), use_cache=False, return_dict=True, logits_to_keep=places)
            value = lead.value(found.logits[0, 0].to(model.dtype))
            made = [slope[0] for slope in torch.autograd.grad(value, leaves, materialize_grads=True)]
        finally:
            for handle in handles:
                handle.remove()
    *made, end_slope = made
    raw, written = (made[::2], made[1::2]) if sites.mlp_post_norm is not None else (made, made)
    at_site = raw if case.bank.output_site is OutputSite.MLP_RAW else written
    return Slopes(at_site, written, end_slope[case.answer_position])


def gradient_effects(case: Case, slopes: Slopes, chosen: Occurrences) -> Tensor:
    """[n] activation times derivative: what taking each feature away costs, to first order."""
    found = chosen.activations.new_zeros(len(chosen))
    for layer, own, writes in _writes(case, chosen):
        found[own] += (slopes.at_site[layer][chosen.positions[own]] * writes).sum(dim=-1)
    return found


def norm_effects(case: Case, lead: Lead, slopes: Slopes, chosen: Occurrences) -> Tensor:
    """[n] the same with the norms that a write meets first run in full: the one after its MLP, and the final one."""
    model, sites, record = case.model, case.model.sites, case.run
    found = chosen.activations.new_zeros(len(chosen))
    change = found.new_zeros(len(chosen), model.facts.width)
    with torch.no_grad(), precision_of(model):
        for layer, own, writes in _writes(case, chosen):
            lost = -writes
            if case.bank.output_site is OutputSite.MLP_RAW and sites.mlp_post_norm is not None:
                norm = model.layers[layer].get_submodule(sites.mlp_post_norm)
                lost = _through(norm, record.layers[layer].mlp_out[chosen.positions[own]], lost)
            found[own] -= (slopes.at_stream[layer][chosen.positions[own]] * lost).sum(dim=-1)
            change[own] += lost
        here = (chosen.positions == case.answer_position).nonzero()[:, 0]
        last = record.final_residual[case.answer_position].expand(len(here), -1)
        moved = _through(model.part(sites.final_norm), last, change[here]) @ lead.targets.vectors[0].to(change)
        found[here] += change[here] @ slopes.at_end - moved
    return found


def _through(norm: Callable[[Tensor], Tensor], given: Tensor, change: Tensor) -> Tensor:
    """[n, d] what a norm makes of a change of what it is given [n, d]."""
    return norm(given + change) - norm(given)


def _writes(case: Case, chosen: Occurrences) -> list[tuple[int, Tensor, Tensor]]:
    """(layer written to, [m] which of the features, [m, d] what they write there at the decoders' site)."""
    found = []
    for source in torch.unique(chosen.layers).tolist():
        own = (chosen.layers == source).nonzero()[:, 0]
        for layer in case.bank.writes_to(source):
            rows = case.bank.decoder_rows(source, chosen.indices[own], layer)
            found.append((layer, own, rows.to(chosen.activations) * chosen.activations[own, None]))
    return found
