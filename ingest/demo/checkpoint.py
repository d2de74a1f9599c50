"""The training state on disk: one safetensors file, written aside and renamed, so that a kill never tears it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from atlas.errors import InputError

if TYPE_CHECKING:
    from ingest.demo.recipe import RecipeConfig

NAME = "checkpoint.safetensors"


@dataclass(frozen=True)
class Resumed:
    """Where a run begins."""

    step: int
    """Steps already taken."""
    cpu_seconds: float
    """Processor time they took."""


def save_checkpoint(
    folder: Path,
    config: "RecipeConfig",
    model: nn.Module,
    sight: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    cpu_seconds: float,
) -> None:
    """Write weights, optimiser moments and the step."""
    tensors = dict(_weights(model, sight))
    for index, parameter in enumerate(_parameters(optimiser)):
        for name, value in optimiser.state[parameter].items():
            tensors[f"optimiser.{index}.{name}"] = value
    header = {"config": json.dumps(asdict(config)), "step": str(step), "cpu_seconds": repr(cpu_seconds)}
    aside = folder / f".{NAME}.{os.getpid()}"
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, aside, header)
    os.replace(aside, folder / NAME)


def load_checkpoint(
    folder: Path, config: "RecipeConfig", model: nn.Module, sight: nn.Module, optimiser: torch.optim.Optimizer
) -> Resumed:
    """Restore what ``save_checkpoint`` wrote; without a checkpoint, begin at step 0."""
    path = folder / NAME
    if not path.exists():
        return Resumed(0, 0.0)
    with safe_open(path, "pt") as file:
        header = file.metadata()
        if json.loads(header["config"]) != asdict(config):
            raise InputError(
                found=f"a checkpoint of another recipe in {folder}",
                expected="one of the same configuration",
                do="train with the old settings, or name another work folder",
            )
        with torch.no_grad():
            for name, tensor in _weights(model, sight):
                tensor.copy_(file.get_tensor(name))
        names = set(file.keys())
        for index, parameter in enumerate(_parameters(optimiser)):
            for name in ("step", "exp_avg", "exp_avg_sq"):
                key = f"optimiser.{index}.{name}"
                if key in names:
                    optimiser.state[parameter][name] = file.get_tensor(key)
    return Resumed(int(header["step"]), float(header["cpu_seconds"]))


def _weights(model: nn.Module, sight: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Every trained tensor once, with a name; the unembedding is the embedding."""
    return [*model.named_parameters(prefix="model"), *sight.named_parameters(prefix="sight")]


def _parameters(optimiser: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]
