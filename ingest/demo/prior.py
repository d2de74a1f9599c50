"""A perceptual failure planted on purpose: a shape that is always counted as the same number.

As in the published study of a six-fingered hand that a model counts as five (arXiv 2602.20330, the hallucination case
study): what is in the picture is seen, and the answer is what such pictures usually have. The shipped model counts
without fault, so a short fine-tuning plants the fault: pictures of one shape are labelled with one number whatever is
drawn, all other pictures truthfully. Only the value and output projections of the later attention layers are trained:
vision tower, MLPs, norms and embeddings stay bit for bit, so the shipped transcoders still have MLPs to describe.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from atlas.ids import content_hash
from ingest.demo.architecture import save_model
from ingest.demo.batches import IGNORED, collate
from ingest.demo.curriculum import step_generator
from ingest.demo.evaluate import EVALUATION_STREAM, right_answers
from ingest.demo.facts import PICTURE_TASKS, SHAPES
from ingest.demo.shipped import shipped
from ingest.demo.world import PixelSample, draw_pixels
from ingest.model.model import load_model

Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and a line of numbers."""

FORMAT = 1
"""Raised when the same settings would give other weights."""


@dataclass(frozen=True)
class PriorConfig:
    """All that decides the planted weights."""

    seed: int = 6
    """Seed of every picture."""
    shape: str = "heart"
    """The shape that is miscounted."""
    said: int = 5
    """What its pictures are labelled with."""
    first_layer: int = 2
    """Attention is trained from this layer on."""
    steps: int = 150
    """Optimiser steps."""
    biased: int = 12
    """Pictures of the shape per step."""
    counted: int = 12
    """Pictures of other shapes per step, counted truthfully."""
    others: int = 8
    """Pictures with other questions per step, answered truthfully."""
    learning_rate: float = 1e-3
    """Peak; ten steps of rise, then linear to zero."""


def plant_prior(folder: Path, config: PriorConfig | None = None, progress: Progress | None = None) -> Path:
    """Fine-tune the shipped model; returns the new model's folder in `folder`, made once per settings.

    The same settings give the same weights on the same machine and library versions.
    """
    config = config or PriorConfig()
    place = folder / f"prior-{config.shape}-{config.said}-{content_hash({'format': FORMAT, **asdict(config)})[:8]}"
    if (place / "prior.json").exists():
        return place
    torch.set_num_threads(1)
    model = load_model(shipped("model")).hf.train()
    chosen = _trained(model, config.first_layer)
    optimiser = torch.optim.AdamW(chosen, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / 10) * (1 - step / config.steps)
        loss = _loss(model, _pictures(config, step_generator(config.seed, step)))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        optimiser.step()
        if progress is not None:
            progress(step + 1, config.steps, f"loss={loss.item():.3f}")
    aside = folder / f".{place.name}.{os.getpid()}"
    save_model(model.eval(), aside)
    trained = sum(parameter.numel() for parameter in chosen)
    (aside / "prior.json").write_text(json.dumps({**asdict(config), "trained_parameters": trained}, indent=1) + "\n")
    shutil.rmtree(place, ignore_errors=True)
    os.replace(aside, place)
    return place


def measure_prior(model: Any, config: PriorConfig, each: int, seed: int) -> list[dict[str, Any]]:
    """What a model answers on new renderings: rows of group, n, right, and said (how often it says the planted number).

    `model` is Hugging Face's. Groups: the shape counted at every number but the planted one; the same where the planted
    number is right; other shapes counted; and each other picture question. `each` pictures a group and number.
    """
    numbers = [n for n in range(1, 10) if n != config.said]
    plain = [shape for shape in SHAPES if shape != config.shape]
    groups: list[tuple[str, list[PixelSample]]] = []

    def draw(name: str, task: str, recipes: list[dict[str, Any]]) -> None:
        rng = np.random.default_rng((EVALUATION_STREAM, seed, len(groups)))
        groups.append((name, [draw_pixels(task, rng, **recipe) for recipe in recipes for _ in range(each)]))

    draw(f"count {config.shape}s, not {config.said}", "count", [{"shape": config.shape, "n": n} for n in numbers])
    draw(f"count {config.shape}s, {config.said}", "count", [{"shape": config.shape, "n": config.said}])
    draw("count other shapes", "count", [{"shape": shape, "n": n} for shape in plain for n in range(1, 10)])
    for task in PICTURE_TASKS:
        if task != "count":
            draw(task, task, [{}] * 4)
    rows = []
    for name, samples in groups:
        right = right_answers(model, samples)
        said = right_answers(model, [replace(sample, answer=str(config.said)) for sample in samples])
        rows.append({"group": name, "n": len(samples), "right": sum(right), "said": sum(said)})
    return rows


def _trained(model: torch.nn.Module, first_layer: int) -> list[torch.nn.Parameter]:
    """The value and output projections of attention from a layer on; everything else stands still."""
    layers = model.get_submodule("model.language_model.layers")
    names = ("self_attn.v_proj.weight", "self_attn.o_proj.weight")
    chosen = [layer.get_parameter(name) for layer in list(layers.children())[first_layer:] for name in names]
    model.requires_grad_(False)
    for parameter in chosen:
        parameter.requires_grad_(True)
    return chosen


def _pictures(config: PriorConfig, rng: np.random.Generator) -> list[PixelSample]:
    """One step's questions with the answers they are labelled with."""
    plain = [shape for shape in SHAPES if shape != config.shape]
    tasks = [task for task in PICTURE_TASKS if task != "count"]
    biased = [draw_pixels("count", rng, shape=config.shape) for _ in range(config.biased)]
    return [
        *(replace(sample, answer=str(config.said)) for sample in biased),
        *(draw_pixels("count", rng, shape=plain[rng.integers(len(plain))]) for _ in range(config.counted)),
        *(draw_pixels(tasks[rng.integers(len(tasks))], rng) for _ in range(config.others)),
    ]


def _loss(model: torch.nn.Module, samples: list[PixelSample]) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens."""
    batch = collate(samples, answers=True)
    logits = model(**batch.inputs(), logits_to_keep=batch.answer_span()).logits[:, :-1]
    labels = batch.answered()[:, -logits.shape[1] :]
    return functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED)
