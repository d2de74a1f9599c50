"""Where soft tokens look: three heat maps over the vision patches, each under its own name.

`rollout` is the published map: in the last K layers of the vision tower keep the heads with the lowest entropy, average
them, add the identity for the residual stream, normalise rows, multiply in layer order, and of the rows of the patches
that a soft token pools take the largest.

`rollout_excess` is the same with its floor taken off. The identity alone puts (1/2)^K on each of the soft token's own
patches, whatever the attention does, and attention that looks nowhere in particular spreads the rest evenly. What lies
above that is what attention says; below it the map is 0.

`gradient` is the absolute gradient of the soft token's length (the Euclidean norm of what enters the language model)
by the pixels, summed over each patch. The vision tower is the one place where autograd runs.

A map says where the vision tower looks, not what a feature reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from atlas.errors import InputError, ModelError
from ingest.model.inputs import Inputs, Position
from ingest.model.model import Model
from ingest.model.precision import precision_of

_EPSILON = 1e-6  # the published one, added to every sum that is divided by


@dataclass(frozen=True)
class RolloutSettings:
    """What the maps depend on; stored with them."""

    last_layers: int = 4
    """K, the layers of the vision tower that are multiplied, from the last; at most all of them."""
    head_share: float = 0.30
    """Share of the heads kept in each layer, those of lowest entropy; at least one is."""
    gradient: bool = True
    """Whether to make the gradient map: one backward pass through the vision tower for each position."""


@dataclass(frozen=True)
class HeatMaps:
    """Maps of some soft tokens over the grid of vision patches (gh x gw, rows from the top)."""

    positions: Tensor
    """[n] int64 position in the prompt of each."""
    rollout: Tensor
    """[n, gh, gw] float32; the published rollout."""
    rollout_excess: Tensor
    """[n, gh, gw] float32, not negative; the rollout above its floor."""
    gradient: Tensor | None
    """[n, gh, gw] float32, not negative; length of the soft token by pixels. None if not asked for."""
    settings: RolloutSettings
    """As used: `last_layers` cut to the layers there are."""


def heat_maps(
    model: Model,
    inputs: Inputs,
    positions: list[int],
    settings: RolloutSettings | None = None,
) -> HeatMaps:
    """The maps of the soft tokens at these positions, in their order; each view goes through the tower alone.

    Raises InputError for a position that holds no soft token, and ModelError if the tower hands out no attention.
    """
    settings = settings or RolloutSettings()
    used = replace(settings, last_layers=min(settings.last_layers, _n_tower_layers(model)))
    soft = _soft_tokens(inputs, positions)
    grid = model.facts.patch_side or 0
    rollout = torch.zeros(len(soft), grid, grid)
    excess, gradient = rollout.clone(), rollout.clone() if used.gradient else None
    for view in sorted({position.view for position in soft if position.view is not None}):
        rows = [n for n, position in enumerate(soft) if position.view == view]
        cells = [_cell(model, soft[n]) for n in rows]
        pixels = inputs.batch["pixel_values"][view : view + 1]
        with precision_of(model):
            maps = pooled_rollout(_mixing(model, pixels, used), _patches(model, cells))
            rollout[rows] = maps.to(rollout)
            excess[rows] = above_floor(maps, _patches(model, cells), used.last_layers).to(rollout)
            if gradient is not None:
                gradient[rows] = _gradients(model, pixels, cells).to(rollout)
    return HeatMaps(torch.tensor(positions, dtype=torch.int64), rollout, excess, gradient, used)


def layer_mixing(pattern: Tensor, head_share: float) -> Tensor:
    """[N, N] what one layer mixes into each patch: the average of the sharpest heads of [heads, N, N], plus identity,
    rows adding up to 1."""
    pattern = pattern / (pattern.sum(-1, keepdim=True) + _EPSILON)
    entropy = -(pattern * (pattern + _EPSILON).log()).sum(-1).mean(-1)
    keep = max(1, round(len(pattern) * head_share))
    kept = entropy.sort(stable=True).indices[:keep]
    mixed = pattern[kept].mean(0)
    mixed = mixed + torch.eye(len(mixed), dtype=mixed.dtype, device=mixed.device)
    return mixed / (mixed.sum(-1, keepdim=True) + _EPSILON)


def rolled_rows(mixing: list[Tensor], patches: Tensor) -> Tensor:
    """[..., N] rows of mixing[-1] @ ... @ mixing[0] at the patches [...], without the whole product."""
    rows = mixing[-1][patches]
    for layer in reversed(mixing[:-1]):
        rows = rows @ layer
    return rows


def pooled_rollout(mixing: list[Tensor], patches: Tensor) -> Tensor:
    """[n, gh, gw] rollout of soft tokens that pool the patches [n, b]: the largest of their rows."""
    pooled = rolled_rows(mixing, patches).amax(1)
    side = round(pooled.shape[-1] ** 0.5)
    return pooled.view(-1, side, side)


def above_floor(rollout: Tensor, patches: Tensor, layers: int) -> Tensor:
    """[n, gh, gw] the rollout less what identity and evenly spread attention give; 0 where it lies below."""
    stays = 0.5**layers
    flat = rollout.flatten(1)
    floor = torch.full_like(flat, (1 - stays) / flat.shape[-1])
    floor.scatter_add_(1, patches, torch.full_like(flat[:, :1], stays).expand(-1, patches.shape[1]).contiguous())
    return (flat - floor).clamp(min=0).view_as(rollout)


def _n_tower_layers(model: Model) -> int:
    return 0 if model.sites.vision is None else len(list(model.part(model.sites.vision.tower_layers).children()))


def _soft_tokens(inputs: Inputs, positions: list[int]) -> list[Position]:
    found = []
    for index in positions:
        if not 0 <= index < len(inputs.positions):
            raise InputError(f"position {index} of a prompt of {len(inputs.positions)}", "a position of an image")
        place = inputs.positions[index]
        if place.modality != "image":
            raise InputError(f"position {index} holds text ({place.text!r})", "a position of an image")
        found.append(place)
    return found


def _cell(model: Model, position: Position) -> int:
    """The number of a soft token within its view."""
    assert position.row is not None
    assert position.col is not None
    assert model.facts.soft_side is not None
    return position.row * model.facts.soft_side + position.col


def _patches(model: Model, cells: list[int]) -> Tensor:
    """[n, b * b] numbers of the patches that each soft token pools, in a block of b x b."""
    soft, side = model.facts.soft_side, model.facts.patch_side
    assert soft is not None
    assert side is not None
    block = side // soft
    cell = torch.tensor(cells, device=model.device)
    inside = torch.arange(block, device=model.device)
    rows = (cell // soft * block)[:, None, None] + inside[:, None]
    cols = (cell % soft * block)[:, None, None] + inside[None, :]
    return (rows * side + cols).flatten(1)


def _mixing(model: Model, pixels: Tensor, settings: RolloutSettings) -> list[Tensor]:
    """[N, N] per layer of the last K; a layer's pattern is folded as it comes, so that only one is held."""
    vision = model.sites.vision
    assert vision is not None
    layers = list(model.part(vision.tower_layers).children())[-settings.last_layers :]
    mixing: list[Tensor] = []

    def fold(_: nn.Module, __: Any, output: Any) -> None:
        if output[1] is None:
            raise ModelError(
                f"the vision tower of {model.identity.name} handed out no attention",
                "eager attention",
                "Load it with load_model, and do not change its attention implementation afterwards",
            )
        mixing.append(layer_mixing(output[1][0].to(model.dtype), settings.head_share))

    handles = [layer.get_submodule(vision.tower_attention).register_forward_hook(fold) for layer in layers]
    try:
        with torch.no_grad():
            model.part(vision.tower)(pixel_values=pixels)
    finally:
        for handle in handles:
            handle.remove()
    return mixing


def _gradients(model: Model, pixels: Tensor, cells: list[int]) -> Tensor:
    """[n, gh, gw] absolute pixel gradient of each soft token's length, summed over each patch."""
    vision, side = model.sites.vision, model.facts.patch_side
    assert vision is not None
    assert side is not None
    tower = model.part(vision.tower)
    pixels = pixels.detach().clone().requires_grad_(True)
    with torch.enable_grad(), _fused_attention(tower):
        soft = model.part(vision.projector)(tower(pixel_values=pixels).last_hidden_state)[0]
        lengths = soft.to(model.dtype).norm(dim=-1)
        found = [torch.autograd.grad(lengths[cell], pixels, retain_graph=True)[0][0] for cell in cells]
    strength = torch.stack(found).abs().sum(1)
    patch = strength.shape[-1] // side
    return strength.reshape(-1, side, patch, side, patch).sum((2, 4))


@contextmanager
def _fused_attention(tower: Any) -> Iterator[None]:
    """Within the block the tower computes attention fused: a graph that holds every pattern of a real tower would not
    fit into memory (27 layers of 16 x 4,096 x 4,096)."""
    before = tower.config._attn_implementation
    tower.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        tower.set_attn_implementation(before)
