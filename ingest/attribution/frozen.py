"""The frozen linear model: what is left of one run once patterns, norm scales and MLP outputs stand still.

    1. `fold` multiplies the norms' gains into the projections, once per model.
    2. `freeze` adds one run: the norms' scales go into the attention patterns, and every layer gets a table of what its
       sources write to the residual stream (active features, the error, the decoder bias).
    3. `through_attention` and `through_skip` carry cotangents of the residual stream down one block.

The map from residual stream to residual stream is then exactly linear, and its adjoint is four matrix products
(arXiv 2602.20330, section 3; no autograd). Letters: T positions, B targets, H query heads, KV key/value heads,
G = H / KV, dh width of a head, d width of the stream. Cotangents are [T, B, d], so that the pattern of a head is one
product over all targets: heads of one group lie behind one another along the summed axis, and grouped queries add up
for free.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ingest.model.records import FrozenWeights, LayerRun, Run
from ingest.transcoders.records import Active, Encoded, InputSite, OutputSite


class DecoderRows(Protocol):
    """What attribution reads from a bank of transcoders."""

    def decoder_rows(self, layer: int, indices: Tensor) -> Tensor:
        """[n, d] decoder rows."""

    def encoder_rows(self, layer: int, indices: Tensor) -> Tensor:
        """[n, d] encoder rows."""

    def encoder_bias(self, layer: int, indices: Tensor) -> Tensor:
        """[n] encoder biases."""

    def decoder_bias(self, layer: int) -> Tensor:
        """[d] decoder bias."""

    def skip(self, layer: int) -> Tensor | None:
        """[d, d] linear skip, or None."""


@dataclass(frozen=True)
class FoldedLayer:
    """One block's linear maps with the gains of its norms multiplied in."""

    into_heads: Tensor
    """[H, d, dh] from the cotangent of the attention's write to each head: W_O transposed, post-norm gain in."""
    out_of_heads: Tensor
    """[KV, dh, d] from each key/value head back to the stream: W_V, input-norm gain in."""
    mlp_gain: Tensor
    """[d] gain of the norm before the MLP."""
    write_gain: Tensor | None
    """[d] gain of the post-norm of the MLP; None without one."""


@dataclass(frozen=True)
class FoldedWeights:
    """A model's frozen maps, ready for any run."""

    layers: list[FoldedLayer]
    """One record per block."""
    final_gain: Tensor
    """[d] gain of the norm before the unembedding."""


@dataclass(frozen=True)
class FrozenLayer:
    """One block on one run."""

    folded: FoldedLayer
    """Its linear maps."""
    mixing: Tensor
    """[KV, T, G, T] (head group, key, head, query): the pattern with both norm scales multiplied in, transposed."""
    sources: Tensor
    """[T, d, S] what each source writes to the stream: feature slots (zero where unused), the error, and in exact
    convention the decoder bias."""
    slots: Tensor
    """[n] int64 where each active feature lies in a [T * S] row, ascending; same order as `active`."""
    active: Active
    """Active features that are sources, sorted by (position, index)."""
    read_scale: Tensor
    """[T, d] or [T, 1]: from the encoder's input back to the stream between attention and MLP, entry by entry."""
    read_input: Tensor
    """[T, d] what the encoders read."""
    skip: Tensor | None
    """[d, d] the transcoder's linear skip, live; None without one."""
    write_scale: Tensor
    """[T, d] or [1, 1]: from the transcoder's output site to the stream, entry by entry."""


@dataclass(frozen=True)
class FrozenModel:
    """The linear model of one run."""

    layers: list[FrozenLayer]
    """One record per block."""
    embeddings: Tensor
    """[T, d] input of block 0."""
    logit_scale: Tensor
    """[T, d] from the final norm's output back to the stream, entry by entry."""
    reach: Tensor
    """[T] int64, on the CPU: the last position that reaches each position; at a soft token the end of its image."""

    @property
    def n_positions(self) -> int:
        """T."""
        return int(self.embeddings.shape[0])


def fold(weights: FrozenWeights) -> FoldedWeights:
    """Multiply the gains into the projections, in the weights' type."""
    layers = []
    for layer in weights.layers:
        write = layer.W_O if layer.attention_post_gain is None else layer.W_O * layer.attention_post_gain[:, None]
        value = layer.W_V * layer.attention_gain[None, :]
        width = value.shape[1]
        by_head = write.reshape(width, weights.n_heads, weights.head_dim).permute(1, 0, 2)
        layers.append(
            FoldedLayer(
                into_heads=by_head.contiguous(),
                out_of_heads=value.reshape(weights.n_kv_heads, weights.head_dim, width).contiguous(),
                mlp_gain=layer.mlp_gain,
                write_gain=layer.mlp_post_gain,
            )
        )
    return FoldedWeights(layers, weights.final_gain)


def freeze(run: Run, folded: FoldedWeights, bank: DecoderRows, encoded: Encoded, exact: bool = True) -> FrozenModel:
    """The frozen model of one run; without `exact`, position 0 and the decoder biases are no sources."""
    dtype = folded.final_gain.dtype
    layers = [
        _freeze_layer(index, layer_run, folded.layers[index], bank, encoded, exact)
        for index, layer_run in enumerate(run.layers)
    ]
    return FrozenModel(
        layers=layers,
        embeddings=run.embeddings.to(dtype),
        logit_scale=run.final_scale.to(dtype)[:, None] * folded.final_gain,
        reach=_reach(run),
    )


def through_attention(layer: FrozenLayer, cotangent: Tensor) -> None:
    """Add to a cotangent [T, B, d] of the stream after attention what reaches the stream before it, in place."""
    positions, batch, width = cotangent.shape
    groups, _, per_group, _ = layer.mixing.shape
    heads, _, head_dim = layer.folded.into_heads.shape
    flat = cotangent.view(positions * batch, width)
    # [H, T * B, dh], which is [KV, G * T, B * dh] without a copy.
    at_queries = torch.bmm(flat.expand(heads, -1, -1), layer.folded.into_heads)
    at_queries = at_queries.view(groups, per_group * positions, batch * head_dim)
    mixing = layer.mixing[:, :positions, :, :positions].reshape(groups, positions, per_group * positions)
    at_keys = torch.bmm(mixing, at_queries).view(groups, positions * batch, head_dim)
    for group in range(groups):
        flat.addmm_(at_keys[group], layer.folded.out_of_heads[group])


def through_skip(layer: FrozenLayer, cotangent: Tensor) -> None:
    """Add to a cotangent [T, B, d] of a block's output what its transcoder's linear skip carries back, in place."""
    if layer.skip is None:
        return
    live = slice(cotangent.shape[0])
    at_output = cotangent * _rows(layer.write_scale, live)
    cotangent += (at_output @ layer.skip) * _rows(layer.read_scale, live)


def _rows(scale: Tensor, live: slice) -> Tensor:
    """[T, 1, d] (or broadcastable) rows of a per-position scale."""
    return scale[live, None] if scale.shape[0] > 1 else scale[:, None]


def _freeze_layer(
    index: int, run: LayerRun, folded: FoldedLayer, bank: DecoderRows, encoded: Encoded, exact: bool
) -> FrozenLayer:
    dtype = folded.mlp_gain.dtype
    active = encoded.layers[index].active
    if not exact:
        later = active.positions > 0
        active = Active(active.positions[later], active.indices[later], active.values[later])
    write_scale = _write_scale(run, folded, encoded.output_site)
    sources, slots = _source_table(index, active, bank, encoded.layers[index].error, write_scale, exact)
    read_scale, read_input = _read_site(run, folded, encoded.input_site)
    skip = bank.skip(index)
    return FrozenLayer(
        folded=folded,
        mixing=_mixing(run, folded),
        sources=sources,
        slots=slots,
        active=active,
        read_scale=read_scale,
        read_input=read_input,
        skip=None if skip is None else skip.to(dtype),
        write_scale=write_scale,
    )


def _mixing(run: LayerRun, folded: FoldedLayer) -> Tensor:
    dtype, groups = folded.mlp_gain.dtype, folded.out_of_heads.shape[0]
    heads, positions, _ = run.pattern.shape
    pattern = run.pattern.to(dtype) * run.attention_scale.to(dtype)[None, None, :]
    if run.attention_post_scale is not None:
        pattern = pattern * run.attention_post_scale.to(dtype)[None, :, None]
    grouped = pattern.view(groups, heads // groups, positions, positions)
    return grouped.permute(0, 3, 1, 2).contiguous()


def _write_scale(run: LayerRun, folded: FoldedLayer, site: OutputSite) -> Tensor:
    if site is OutputSite.MLP_WRITE or run.mlp_post_scale is None:
        return folded.mlp_gain.new_ones(1, 1)
    assert folded.write_gain is not None, "a post-norm has a scale and a gain"
    return run.mlp_post_scale.to(folded.write_gain.dtype)[:, None] * folded.write_gain


def _read_site(run: LayerRun, folded: FoldedLayer, site: InputSite) -> tuple[Tensor, Tensor]:
    dtype = folded.mlp_gain.dtype
    scale = run.mlp_scale.to(dtype)[:, None]
    if site is InputSite.MLP_IN:
        return scale * folded.mlp_gain, run.mlp_in.to(dtype)
    assert run.resid_mid is not None, "a captured run keeps the stream between attention and MLP"
    stream = run.resid_mid.to(dtype)
    if site is InputSite.NORMALIZED:
        return scale, stream * scale
    return torch.ones_like(scale), stream


def _source_table(
    layer: int, active: Active, bank: DecoderRows, error: Tensor, write_scale: Tensor, exact: bool
) -> tuple[Tensor, Tensor]:
    """[T, d, S] what the sources write, padded with zeros to one width, and where each feature lies in it."""
    dtype, device = write_scale.dtype, active.positions.device
    positions, width = error.shape
    counts = torch.bincount(active.positions, minlength=positions)
    widest = int(counts.max())
    first = counts.cumsum(dim=0) - counts
    column = torch.arange(len(active), device=device) - first[active.positions]
    table = torch.zeros(positions, widest + (2 if exact else 1), width, dtype=dtype, device=device)
    rows = bank.decoder_rows(layer, active.indices).to(dtype)
    table[active.positions, column] = rows * active.values.to(dtype)[:, None]
    table[:, widest] = error.to(dtype)
    if exact:
        table[:, widest + 1] = bank.decoder_bias(layer).to(dtype)
    table *= write_scale[:, None] if write_scale.shape[0] > 1 else write_scale[None]
    return table.transpose(1, 2), active.positions * table.shape[1] + column


def _reach(run: Run) -> Tensor:
    """Per position the last position from which anything arrives, through any number of layers."""
    seen = torch.stack([(layer.pattern != 0).any(dim=0) for layer in run.layers]).any(dim=0)
    length = seen.shape[0]
    index = torch.arange(length, device=seen.device)
    last = torch.maximum(torch.where(seen, index, 0).amax(dim=1), index)
    while True:
        # Everything up to a position's reach may be read on the way, so its reach counts too.
        further = last.cummax(dim=0).values[last]
        if bool((further == last).all()):
            return last.cpu()
        last = further
