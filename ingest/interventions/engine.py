"""Many changed runs of one prompt, side by side in one forward pass of the unchanged model.

The vision tower does not run again: the prompt's clean embeddings go into block 0. Batches never change a run by more
than rounding, and a null intervention alone in its batch gives every bit of the model's logits, asked for at the same
positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atlas.domain.evidence import Mode
from atlas.errors import TranscoderError
from ingest.interventions.case import Case
from ingest.interventions.edits import Intervention
from ingest.interventions.hooks import changed
from ingest.model.precision import precision_of

_TOKENS = {"cpu": 4096, "cuda": 16_384}
"""Positions run at once, over all runs of a batch, unless a batch size is given."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What changed runs came to; B runs, T positions, V vocabulary, d width of the residual stream."""

    logits: Tensor
    """[B, P, V] the model's logits at the P positions asked for, any soft cap included."""
    reads: list[Tensor] | None
    """Per layer [B, T, d] what its encoders read; None unless asked for."""


def intervene(
    case: Case,
    interventions: Sequence[Intervention],
    mode: Mode,
    *,
    at: Sequence[int] | None = None,
    keep_reads: bool = False,
    batch_size: int | None = None,
) -> Outcome:
    """Run the prompt once for every intervention. `at` are the positions whose logits are wanted; the answer's if not
    said. Raises TranscoderError for errors of a cross-layer set, of which no layer has one of its own."""
    check_errors(case, interventions)
    places = torch.tensor([case.answer_position] if at is None else list(at), device=case.model.device)
    size = batch_size or _batch_size(case)
    parts = [
        _run(case, interventions[start : start + size], mode, places, keep_reads)
        for start in range(0, len(interventions), size)
    ]
    reads = None
    if keep_reads:
        reads = [torch.cat(layer) for layer in zip(*(part.reads or [] for part in parts), strict=True)]
    return Outcome(torch.cat([part.logits for part in parts]), reads)


def check_errors(case: Case, interventions: Sequence[Intervention]) -> None:
    """Raise TranscoderError if errors are to be replaced that the set does not have."""
    if case.bank.cross_layer and any(item.errors for item in interventions):
        raise TranscoderError(
            f"{case.bank.name} is a cross-layer set: an error belongs to no single layer",
            "one transcoder for each layer",
            "Change features and embeddings only",
        )


def pre_activations(case: Case, outcome: Outcome, layers: Tensor, indices: Tensor, positions: Tensor) -> Tensor:
    """[B, n] pre-activations of features at positions, encoder bias in. The outcome must have kept its reads."""
    assert outcome.reads is not None, "ask for keep_reads"
    found = outcome.logits.new_empty(len(outcome.logits), len(layers))
    for layer in torch.unique(layers).tolist():
        chosen = (layers == layer).nonzero()[:, 0]
        read = outcome.reads[layer][:, positions[chosen].to(found.device)]
        rows = case.bank.encoder_rows(layer, indices[chosen]).to(found)
        bias = case.bank.encoder_bias(layer, indices[chosen]).to(found)
        found[:, chosen.to(found.device)] = torch.einsum("bnd,nd->bn", read.to(found), rows) + bias
    return found


def tiled(case: Case, count: int) -> dict[str, Tensor]:
    """The prompt's inputs, `count` times, without its pictures: their embeddings are put in by the hooks."""
    batch = {name: value for name, value in case.inputs.batch.items() if name != "pixel_values"}
    return {name: value.expand(count, -1) for name, value in batch.items()}


def _run(case: Case, items: Sequence[Intervention], mode: Mode, places: Tensor, keep_reads: bool) -> Outcome:
    model = case.model
    with torch.no_grad(), precision_of(model), changed(case, items, mode, keep_reads) as reads:
        found = model.hf(**tiled(case, len(items)), use_cache=False, return_dict=True, logits_to_keep=places)
    return Outcome(found.logits.to(model.dtype), reads if keep_reads else None)


def _batch_size(case: Case) -> int:
    return max(1, _TOKENS.get(case.model.device.type, _TOKENS["cuda"]) // case.n_positions)
