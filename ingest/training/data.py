"""What a transcoder learns from: inputs and outputs of a model's MLPs, position by position.

Hooks on the MLP modules copy what passes through them and are removed when the pass ends, also on error. Padding is
left out. Every position belongs to one group, because a number over all positions flatters: template tokens are
nearly the same in every prompt.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from atlas.errors import InputError
from ingest.model.model import Model
from ingest.model.sites import Sites, sites_for

GROUPS: tuple[str, ...] = ("image", "last", "text")
"""Group names; a position's group is an index into them: soft image tokens, the last prompt position, other text."""

Batches = Callable[[Model], Iterable[Mapping[str, Tensor]]]
"""Makes a fresh run over the same batches each time it is called. A batch has input_ids, attention_mask (padding on the
left), and token_type_ids and pixel_values where the model takes pictures. With ``labels`` (-100 on the
prompt) the last prompt position is the one before the first label; without, it is the last position."""

Progress = Callable[[int, int, str], None]
"""Called with units done, units in all, and what is being done."""


@dataclass(frozen=True)
class MlpTokens:
    """MLP inputs and outputs at many positions."""

    inputs: dict[int, Tensor]
    """Layer to float32 [pos, d_model]: what the MLP read."""
    targets: dict[int, Tensor]
    """Layer to float32 [pos, d_model]: what the MLP gave, before any post-norm."""
    groups: Tensor
    """Int64 [pos], index into GROUPS."""

    def __len__(self) -> int:
        return self.groups.shape[0]

    def split(self, first: int) -> tuple["MlpTokens", "MlpTokens"]:
        """The first positions, and the others."""
        parts = (slice(None, first), slice(first, None))
        kept, rest = (
            MlpTokens(
                {layer: tensor[part] for layer, tensor in self.inputs.items()},
                {layer: tensor[part] for layer, tensor in self.targets.items()},
                self.groups[part],
            )
            for part in parts
        )
        return kept, rest


def mlp_modules(hf: nn.Module) -> list[nn.Module]:
    """The MLP of every decoder layer of a Hugging Face model, in order."""
    sites = _sites(hf)
    return [block.get_submodule(sites.mlp) for block in hf.get_submodule(sites.layers).children()]


def collect(
    hf: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    layers: Sequence[int],
    limit: int,
    progress: Progress | None = None,
) -> MlpTokens:
    """Run batches through the model until ``limit`` positions are collected; raise InputError if there are too few."""
    inputs: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    targets: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    groups: list[Tensor] = []
    count = 0
    device = next(hf.parameters()).device
    for batch in batches:
        kept = batch["attention_mask"].bool()
        with torch.inference_mode(), watched_mlps(hf, layers) as seen:
            hf(**model_inputs(batch, device), logits_to_keep=1)
        for layer in layers:
            inputs[layer].append(seen.inputs[layer][kept.to(device)].float().cpu())
            targets[layer].append(seen.targets[layer][kept.to(device)].float().cpu())
        groups.append(position_groups(hf, batch)[kept])
        count += int(kept.sum())
        if progress is not None:
            progress(min(count, limit), limit, "collecting MLP inputs and outputs")
        if count >= limit:
            break
    if count < limit:
        raise InputError(
            found=f"{count} positions in all prompts",
            expected=f"at least {limit}",
            do="give more prompts, or ask for fewer tokens (max_tokens, held_out_tokens)",
        )
    return MlpTokens(
        {layer: torch.cat(parts)[:limit].clone() for layer, parts in inputs.items()},
        {layer: torch.cat(parts)[:limit].clone() for layer, parts in targets.items()},
        torch.cat(groups)[:limit],
    )


@dataclass(frozen=True)
class SeenMlps:
    """What the hooks of one forward pass copied."""

    inputs: dict[int, Tensor]
    """Layer to [batch, pos, d_model]."""
    targets: dict[int, Tensor]
    """Layer to [batch, pos, d_model]."""


@contextmanager
def watched_mlps(hf: nn.Module, layers: Sequence[int]) -> Iterator[SeenMlps]:
    """Within the block, a forward pass leaves the MLPs' inputs and outputs in the record."""
    seen = SeenMlps({}, {})
    modules = mlp_modules(hf)
    handles: list[RemovableHandle] = []

    def keep(layer: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            seen.inputs[layer] = arguments[0].detach()
            seen.targets[layer] = output.detach()

        return hook

    try:
        handles += [modules[layer].register_forward_hook(keep(layer)) for layer in layers]
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def position_groups(hf: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Group of every position, int64 [batch, pos]."""
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    groups = torch.full_like(ids, GROUPS.index("text"))
    vision = _sites(hf).vision
    if vision is not None:
        groups[ids == getattr(hf.config, vision.placeholder)] = GROUPS.index("image")
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    last = torch.where(mask, positions, -1).amax(-1)
    if "labels" in batch:
        answered = (batch["labels"] >= 0).any(-1)
        first_label = (batch["labels"] >= 0).int().argmax(-1)
        last = torch.where(answered, first_label - 1, last)
    groups[torch.arange(len(ids)), last] = GROUPS.index("last")
    return groups


def _sites(hf: nn.Module) -> Sites:
    config: Any = hf.config
    return sites_for(config.model_type, type(hf).__name__)


def model_inputs(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A batch without its labels, on the model's device."""
    return {name: tensor.to(device) for name, tensor in batch.items() if name != "labels"}
