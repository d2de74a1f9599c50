"""How often the demo model is right, on pictures and sentences it has never seen.

An answer counts when every token of it and the end of the turn are the model's first choice, which is what greedy
generation gives.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ingest.demo.batches import IGNORED, collate
from ingest.demo.facts import HELD_OUT, PICTURE_TASKS, TEXT_TASKS
from ingest.demo.world import PixelSample, draw_pixels
from ingest.model.model import load_model
from ingest.training.data import Batches
from ingest.training.replace import replaced_mlps
from ingest.transcoders.bank import load_bank

BATCH = 50
EVALUATION_STREAM = 1 << 40
"""Evaluation generators are seeded (this, seed, ...), training generators (seed, step): they never meet."""


def accuracy(
    model_dir: Path,
    per_task: int = 200,
    seed: int = 1,
    transcoders: Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[dict[str, Any]]:
    """One row per task: task, kind ('picture', 'text' or 'held_out'), n, correct, accuracy, stderr.

    A held_out row is one (planet, attribute) pair that training never showed as a picture; its task is
    'planet attribute'. With ``transcoders`` every MLP is replaced by its transcoder, without error terms.
    """
    torch.set_num_threads(1)
    model = load_model(str(model_dir))
    bank = None if transcoders is None else load_bank(str(transcoders), model)
    cases: list[tuple[str, str, str, dict[str, str]]] = [(task, "picture", task, {}) for task in PICTURE_TASKS]
    cases += [(task, "text", task, {}) for task in TEXT_TASKS]
    cases += [(f"{planet} {task}", "held_out", task, {"planet": planet}) for planet, task in sorted(HELD_OUT)]
    rows = []
    with nullcontext() if bank is None else replaced_mlps(model, bank):
        for number, (name, kind, task, fixed) in enumerate(cases):
            rng = np.random.default_rng((EVALUATION_STREAM, seed, number))
            samples = [draw_pixels(task, rng, **fixed) for _ in range(per_task)]
            rows.append(_row(name, kind, right_answers(model.hf, samples)))
            if progress is not None:
                progress(number + 1, len(cases), f"{name} {rows[-1]['accuracy']:.3f}")
    return rows


def right_answers(model: torch.nn.Module, samples: list[PixelSample]) -> list[bool]:
    """For each sample, whether the model answers it rightly."""
    right: list[bool] = []
    for first in range(0, len(samples), BATCH):
        batch = collate(samples[first : first + BATCH], answers=True)
        span = batch.answer_span()
        with torch.inference_mode():
            logits = model(**batch.inputs(), logits_to_keep=span).logits[:, :-1]
        labels = batch.answered()[:, -logits.shape[1] :]
        right += ((logits.argmax(-1) == labels) | (labels == IGNORED)).all(-1).tolist()
    return right


def world_batches(count: int, seed: int, batch_size: int = 32) -> Batches:
    """Makes batches of ``count`` questions from the whole world, two pictures to one text, with answers appended: what
    the demo's transcoders are trained and judged on. Held-out pictures do not occur."""

    def batches(_model: object) -> Iterator[Mapping[str, Tensor]]:
        rng = np.random.default_rng((EVALUATION_STREAM, seed, 1 << 20))
        for number in range(-(-count // batch_size)):
            tasks = TEXT_TASKS if number % 3 == 2 else PICTURE_TASKS
            chosen = [tasks[task] for task in rng.integers(len(tasks), size=batch_size)]
            batch = collate([draw_pixels(task, rng) for task in chosen], answers=True)
            yield batch.with_labels()

    return batches


def _row(name: str, kind: str, right: list[bool]) -> dict[str, Any]:
    share = sum(right) / len(right)
    return {
        "task": name,
        "kind": kind,
        "n": len(right),
        "correct": sum(right),
        "accuracy": round(share, 4),
        "stderr": round(math.sqrt(share * (1 - share) / len(right)), 4),
    }
