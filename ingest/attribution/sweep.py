"""One backward sweep: a batch of targets, sorted by layer, from the top of the frozen model to its embeddings.

    1. A target enters at its own layer: a logit at the output of the last block, a feature at its encoder's input.
    2. Going down, each block is first read (every source of the block times the cotangents of its output), then the
       block's features enter, then all go through its attention.
    3. At the bottom the embeddings are read.

So a feature has no edge from its own layer's MLP, and a target costs nothing above its layer. Positions that no
target of the batch reads (causal cone, image block) are left out. (arXiv 2602.20330, section 3.)
"""

from dataclasses import dataclass

from torch import Tensor

from ingest.attribution.frozen import FrozenModel, through_attention, through_skip
from ingest.attribution.sources import Sources


@dataclass(frozen=True)
class Starts:
    """Where the cotangents of a batch begin, the highest layer first."""

    layers: list[int]
    """B layers, descending; the number of layers for a logit."""
    positions: list[int]
    """B positions."""
    vectors: Tensor
    """[B, d] what is injected into the residual stream."""


def sweep(frozen: FrozenModel, sources: Sources, starts: Starts, rows: Tensor) -> None:
    """Write the edges of a batch into `rows` [B, C], which must be zero."""
    assert starts.layers == sorted(starts.layers, reverse=True), "a batch is sorted by layer"
    width = starts.vectors.shape[1]
    cotangent = starts.vectors.new_zeros(0, 0, width)
    for layer in reversed(range(sources.n_layers + 1)):
        inside = layer < sources.n_layers
        if inside and cotangent.shape[1]:
            _read_block(frozen, sources, layer, cotangent, rows)
            through_skip(frozen.layers[layer], cotangent)
        cotangent = _enter(frozen, starts, layer, cotangent)
        if inside and cotangent.shape[1]:
            through_attention(frozen.layers[layer], cotangent)
    horizon = cotangent.shape[0]
    tokens = (cotangent * frozen.embeddings[:horizon, None]).sum(dim=-1)
    rows[:, sources.tokens()][:, :horizon] = tokens.T


def _enter(frozen: FrozenModel, starts: Starts, layer: int, cotangent: Tensor) -> Tensor:
    """[T', B', d]: the cotangents with the targets of `layer` added, over the positions that can reach any of them."""
    horizon, live, width = cotangent.shape
    entering = range(live, live + starts.layers.count(layer))
    if not entering:
        return cotangent
    reached = max(int(frozen.reach[starts.positions[row]]) + 1 for row in entering)
    grown = cotangent.new_zeros(max(horizon, reached), entering.stop, width)
    grown[:horizon, :live] = cotangent
    grown[starts.positions[live : entering.stop], list(entering)] = starts.vectors[live : entering.stop]
    return grown


def _read_block(frozen: FrozenModel, sources: Sources, layer: int, cotangent: Tensor, rows: Tensor) -> None:
    """Every source of one block times every live cotangent of the block's output."""
    block = frozen.layers[layer]
    horizon, live, _ = cotangent.shape
    effects = (cotangent @ block.sources[:horizon]).transpose(0, 1)  # [B', T', S]
    slots = effects.shape[2]
    reached = block.slots[block.active.positions < horizon]
    start = sources.features(layer).start
    rows[:live, start : start + len(reached)] = effects.reshape(live, horizon * slots).index_select(1, reached)
    bias_slots = 1 if sources.n_biases else 0
    errors = effects[:, sources.first_error :, slots - 1 - bias_slots]
    rows[:live, sources.errors(layer)][:, : errors.shape[1]] = errors
    if bias_slots:
        rows[:live, sources.biases(layer)][:, :horizon] = effects[:, :, slots - 1]
