"""A transcoder set on disk, in the published per-layer layout.

    config.yaml               what the set is: hooks, top_k, layers, how it was trained
    layer_{i}.safetensors     float32 W_enc and W_dec [feature, d_model], b_enc [feature], b_dec [d_model]

Files are written aside and renamed.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from atlas.errors import TranscoderError
from ingest.transcoders.activation import TopK, activate, active_features
from ingest.transcoders.records import Active

CONFIG = "config.yaml"


@dataclass(frozen=True)
class Imitation:
    """What a transcoder says about some MLP inputs."""

    active: Active
    """The features that fire, by position."""
    reconstruction: Tensor
    """[pos, d_model] in place of the MLP's output."""


@dataclass(frozen=True)
class LayerWeights:
    """The transcoder of one layer."""

    W_enc: Tensor
    """[feature, d_model]; a row is what a feature reads."""
    W_dec: Tensor
    """[feature, d_model]; a row is what a feature writes."""
    b_enc: Tensor
    """[feature]."""
    b_dec: Tensor
    """[d_model]."""

    def imitate(self, inputs: Tensor, top_k: int) -> Imitation:
        """Active features and reconstruction of MLP inputs [pos, d_model], by the one activation rule."""
        activations = activate(TopK(top_k), inputs @ self.W_enc.T + self.b_enc)
        return Imitation(active_features(activations), activations @ self.W_dec + self.b_dec)

    def to(self, device: torch.device) -> "LayerWeights":
        """The same on a device."""
        return LayerWeights(*(getattr(self, name).to(device) for name in _NAMES))


_NAMES = ("W_enc", "W_dec", "b_enc", "b_dec")


def layer_file(folder: Path, layer: int) -> Path:
    """Path of one layer's weights."""
    return folder / f"layer_{layer}.safetensors"


def write_layer(folder: Path, layer: int, weights: LayerWeights, notes: dict[str, str]) -> None:
    """Write one layer; ``notes`` go into the file's header."""
    path = layer_file(folder, layer)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({name: getattr(weights, name).float().cpu().contiguous() for name in _NAMES}, aside, notes)
    os.replace(aside, path)


def write_config(
    folder: Path, model_name: str, top_k: int, layers: Sequence[int], model_layers: int, training: dict[str, Any]
) -> None:
    """Write config.yaml."""
    content = {
        "model_kind": "transcoder_set",
        "model_name": model_name,
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
        "top_k": top_k,
        "layers": list(layers),
        "num_model_layers": model_layers,
        "training": training,
    }
    aside = folder / f".{CONFIG}.{os.getpid()}"
    aside.write_text(yaml.safe_dump(content, sort_keys=False))
    os.replace(aside, folder / CONFIG)


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.yaml. Raises TranscoderError where it is missing or not a set of this layout."""
    path = folder / CONFIG
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TranscoderError(f"{path} cannot be read ({error})", "a transcoder set's config.yaml") from error
    if not isinstance(content, dict) or not {"top_k", "layers"} <= content.keys():
        raise TranscoderError(f"{path} without top_k and layers", "the per-layer layout that training writes")
    return content
