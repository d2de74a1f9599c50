"""A Hugging Face model as it is, with what the trace must know about it.

`load_model` reads a folder or a repository, unchanged, in evaluation mode with eager attention: other attention
implementations give the same numbers but do not hand out their patterns.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from atlas.errors import ModelError
from ingest.model.identity import Identity
from ingest.model.open_model import Parts, open_parts
from ingest.model.records import FrozenWeights, LayerWeights
from ingest.model.sites import Sites, VisionSites

Precision = Literal["fp32", "fp64", "bf16", "tf32"]
DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp64": torch.float64,
    "bf16": torch.bfloat16,
    "tf32": torch.float32,
}
"""Stored type of the weights per precision; ingest/model/precision.py says how products round."""


@dataclass(frozen=True)
class Facts:
    """Sizes of a model."""

    n_layers: int
    """Decoder blocks."""
    width: int
    """Width of the residual stream, d."""
    n_heads: int
    """Query heads, H."""
    n_kv_heads: int
    """Key/value heads, KV."""
    head_dim: int
    """Width of a head, dh."""
    vocabulary: int
    """Rows of the unembedding, V."""
    max_positions: int
    """Longest prompt the model was made for, in tokens."""
    placeholder: int | None
    """Token id of a soft token; None for text-only models."""
    soft_side: int | None
    """Soft tokens along one side of a view; None for text-only models."""
    patch_side: int | None
    """Vision patches along one side of a view; None for text-only models."""


class Model:
    """A loaded model: Hugging Face's module, its processor, and where its parts are."""

    def __init__(self, parts: Parts, precision: Precision, place: str = "") -> None:
        """`place` is the folder or repository it was opened from."""
        self.hf: Any = parts.hf  # transformers' classes are too loosely typed to name
        self.processor: Any = parts.processor
        self.tokenizer: Any = parts.tokenizer
        self.sites: Sites = parts.sites
        self.identity: Identity = parts.identity
        self.precision: Precision = precision
        self.place = place
        rows = parts.hf.get_submodule(parts.sites.unembedding).weight.shape[0]
        self.facts: Facts = facts_of(parts.hf.config, parts.sites.vision, int(rows))
        _check_no_bias(self)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.hf.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The type of captured tensors and of our own sums: the weights', but float32 at least."""
        return torch.promote_types(DTYPES[self.precision], torch.float32)

    @property
    def layers(self) -> list[nn.Module]:
        """The decoder blocks, in order."""
        return list(self.part(self.sites.layers).children())

    def part(self, path: str) -> nn.Module:
        """The module at a dotted path from the top of the model."""
        module: nn.Module = self.hf.get_submodule(path)
        return module

    @property
    def chat_template(self) -> Any:
        """The chat template as the processor holds it; None where there is none."""
        return getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)

    @cached_property
    def processor_settings(self) -> dict[str, Any]:
        """What the image processor does to pictures, as JSON values; empty for text-only models."""
        image_processor = getattr(self.processor, "image_processor", None)
        if image_processor is None:
            return {}
        settings: dict[str, Any] = json.loads(json.dumps(image_processor.to_dict(), default=str, sort_keys=True))
        settings["image_processor_type"] = type(image_processor).__name__  # backends round differently
        settings["image_seq_length"] = getattr(self.processor, "image_seq_length", None)
        return settings

    def weights(self) -> FrozenWeights:
        """The frozen linear maps; made once. Matrices are the model's own in the type stored, not copies."""
        return self._weights

    @cached_property
    def _weights(self) -> FrozenWeights:
        sites, facts = self.sites, self.facts
        unembedding = self.part(sites.unembedding)
        bias = getattr(unembedding, "bias", None)
        return FrozenWeights(
            layers=[self._layer_weights(block) for block in self.layers],
            n_heads=facts.n_heads,
            n_kv_heads=facts.n_kv_heads,
            head_dim=facts.head_dim,
            final_gain=self._gain(self.part(sites.final_norm)),
            unembedding=self._weight(unembedding),
            unembedding_bias=None if bias is None else bias.detach().to(self.dtype),
            logit_softcap=_softcap(self),
        )

    def _layer_weights(self, block: nn.Module) -> LayerWeights:
        sites = self.sites
        return LayerWeights(
            W_V=self._weight(block.get_submodule(sites.value)),
            W_O=self._weight(block.get_submodule(sites.output)),
            attention_gain=self._gain(block.get_submodule(sites.attention_norm)),
            attention_post_gain=self._optional_gain(block, sites.attention_post_norm),
            mlp_gain=self._gain(block.get_submodule(sites.mlp_norm)),
            mlp_post_gain=self._optional_gain(block, sites.mlp_post_norm),
        )

    def _weight(self, module: nn.Module) -> Tensor:
        weight: Tensor = module.get_parameter("weight")
        return weight.detach()

    def _gain(self, norm: nn.Module) -> Tensor:
        return self.sites.norm_offset + self._weight(norm).to(self.dtype)

    def _optional_gain(self, block: nn.Module, path: str | None) -> Tensor | None:
        return None if path is None else self._gain(block.get_submodule(path))


def load_model(
    name_or_dir: str,
    device: str = "cpu",
    precision: Precision = "fp32",
    revision: str | None = None,
) -> Model:
    """Load a model folder or repository as it is. Raises ModelError if it cannot be used here."""
    place = find_device(device)
    check_precision(precision, place)
    parts = open_parts(str(name_or_dir), place, DTYPES[precision], revision)
    return Model(parts, precision, lasting(str(name_or_dir)))


def lasting(place: str) -> str:
    """A folder's whole path, or a repository as it is named: what opens the same thing from every folder."""
    folder = Path(place).expanduser()
    return str(folder.resolve()) if folder.exists() else place


@contextmanager
def product_precision(precision: Precision) -> Iterator[None]:
    """Within the block float32 products round as `precision` says: to TF32 for tf32 and bf16, else not at all."""
    before = torch.get_float32_matmul_precision()
    rounded = precision in {"tf32", "bf16"}
    torch.set_float32_matmul_precision("high" if rounded else "highest")
    try:
        # convolutions (the patch embedding) have a switch of their own, which is on by default
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=rounded):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def check_precision(precision: str, place: torch.device) -> Precision:
    """The precision, if it can be had there. Raises ModelError."""
    known: dict[str, Precision] = {name: name for name in get_args(Precision)}
    if precision not in known:
        raise ModelError(f"precision {precision!r}", f"one of {', '.join(known)}")
    if precision == "tf32" and place.type != "cuda":
        raise ModelError(f"precision tf32 on {place}", "an NVIDIA GPU", "Use --precision fp32")
    return known[precision]


def find_device(name: str) -> torch.device:
    """The device of that name. Raises ModelError if there is none."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device {name!r}", "cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {name!r}, but PyTorch sees {torch.cuda.device_count()} GPUs",
            "a GPU that is there",
            "Use --device cpu, or install a PyTorch with CUDA",
        )
    return device


def facts_of(config: Any, vision: VisionSites | None, vocabulary: int) -> Facts:
    """Sizes of a model as its config says; `vocabulary` counts the rows of its unembedding."""
    text = config.get_text_config()
    soft = None if vision is None else int(getattr(config, vision.soft_tokens))
    patches = None if vision is None else int(config.vision_config.image_size // config.vision_config.patch_size)
    return Facts(
        n_layers=int(text.num_hidden_layers),
        width=int(text.hidden_size),
        n_heads=int(text.num_attention_heads),
        n_kv_heads=int(text.num_key_value_heads),
        head_dim=int(text.head_dim),
        vocabulary=vocabulary,
        max_positions=int(text.max_position_embeddings),
        placeholder=None if vision is None else int(getattr(config, vision.placeholder)),
        soft_side=None if soft is None else round(soft**0.5),
        patch_side=patches,
    )


def _check_no_bias(model: Model) -> None:
    # a bias in attention would be a source of its own, which the records have no place for
    for number, block in enumerate(model.layers):
        for path in (model.sites.value, model.sites.output):
            if getattr(block.get_submodule(path), "bias", None) is not None:
                raise ModelError(
                    f"{model.identity.name}: layer {number}, {path} has a bias",
                    "projections without bias",
                    "Use a model with attention_bias false",
                )


def _softcap(model: Model) -> float | None:
    name = model.sites.logit_softcap
    value = None if name is None else getattr(model.hf.config.get_text_config(), name)
    return None if value is None else float(value)
