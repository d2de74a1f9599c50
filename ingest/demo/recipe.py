"""How the demo model is trained: first to see, then to answer, under one learning-rate curve.

    stage A   mosaics and question pictures through the vision tower, auxiliary loss; text questions through the
              language model, every step at first and every fourth step later
    stage B   picture questions through the whole model, the auxiliary loss fading, mosaics and text beside them

One process, one thread. A run killed at any moment continues from its last checkpoint with the same data and the
same learning rates, and ends with the model it would have ended with.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import Gemma3ForConditionalGeneration as Gemma

from ingest.demo.architecture import build_model, save_model
from ingest.demo.batches import IGNORED, collate, pixel_values
from ingest.demo.checkpoint import load_checkpoint, save_checkpoint
from ingest.demo.curriculum import (
    TASK_WEIGHTS,
    TEXT_WEIGHTS,
    Seen,
    mosaics,
    questions,
    seen_in,
    step_generator,
)
from ingest.demo.sight import SightHead, SightLoss
from ingest.demo.world import PixelSample

Progress = Callable[[int, int, str], None]
"""Called with steps done, steps in all, and a line of numbers."""


@dataclass(frozen=True)
class RecipeConfig:
    """All that decides the trained weights."""

    seed: int = 0
    """Seed of the initial weights and of every picture."""
    vision_steps: int = 2000
    """Steps of stage A."""
    joint_steps: int = 2500
    """Steps of stage B."""
    warmup_steps: int = 150
    """Steps over which the learning rate rises."""
    learning_rate: float = 2e-3
    """Peak of the cosine that spans both stages."""
    final_rate: float = 0.02
    """The cosine's end, as a share of its peak."""
    weight_decay: float = 0.05
    """AdamW's decay, on matrices only."""
    clip: float = 1.0
    """Largest gradient norm."""
    mosaics_a: int = 32
    """Mosaics per step of stage A."""
    pictures_a: int = 12
    """Question pictures per step of stage A, for the auxiliary loss only."""
    mosaics_b: int = 10
    """Mosaics per step of stage B."""
    pictures_b: int = 32
    """Picture questions per step of stage B."""
    texts: int = 24
    """Text questions in a text batch."""
    text_every_step_until: int = 400
    """Text batches come every step before this step, every fourth after it in stage A, every second in stage B."""
    text_weight: float = 0.5
    """Weight of the text loss."""
    sight_start: float = 0.5
    """Weight of the auxiliary loss when stage B begins; stage A uses 1."""
    sight_end: float = 0.1
    """Weight of the auxiliary loss when stage B ends."""
    checkpoint_every: int = 250
    """Steps between checkpoints."""
    report_every: int = 50
    """Steps between progress lines."""

    @property
    def steps(self) -> int:
        """Steps of both stages."""
        return self.vision_steps + self.joint_steps


@dataclass(frozen=True)
class TrainedModel:
    """What a finished run reports."""

    folder: Path
    """The Hugging Face folder."""
    steps: int
    """Steps taken in all."""
    cpu_seconds: float
    """Processor time of all steps, those before a resume included."""


def train_demo(config: RecipeConfig, folder: Path, work: Path, progress: Progress | None = None) -> TrainedModel:
    """Train the demo model into ``folder``; ``work`` keeps the checkpoint that a killed run resumes from."""
    torch.set_num_threads(1)
    model, sight = build_model(config.seed).train(), SightHead()
    optimiser = _optimiser(config, model, sight)
    work.mkdir(parents=True, exist_ok=True)
    resumed = load_checkpoint(work, config, model, sight, optimiser)
    spent, started = resumed.cpu_seconds, time.process_time()
    meter = Meter()
    for step in range(resumed.step, config.steps):
        rate = learning_rate(config, step)
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = _step_loss(config, step, model, sight, meter)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimiser.step()
        done, seconds = step + 1, spent + time.process_time() - started
        if progress is not None and (done % config.report_every == 0 or done == config.steps):
            progress(done, config.steps, f"cpu_s={seconds:.0f} lr={rate:.2e} {meter.line()}")
        if done % config.checkpoint_every == 0 and done < config.steps:
            save_checkpoint(work, config, model, sight, optimiser, done, seconds)
    seconds = spent + time.process_time() - started
    save_checkpoint(work, config, model, sight, optimiser, config.steps, seconds)
    save_model(model.eval(), folder)
    return TrainedModel(folder, config.steps, seconds)


def learning_rate(config: RecipeConfig, step: int) -> float:
    """Linear rise, then a cosine down to a small share of the peak."""
    rise = min(1.0, (step + 1) / config.warmup_steps)
    cosine = 0.5 * (1.0 + torch.cos(torch.tensor(torch.pi * step / config.steps)).item())
    return config.learning_rate * rise * (config.final_rate + (1.0 - config.final_rate) * cosine)


class Meter:
    """Running averages of losses and accuracies, for progress lines."""

    def __init__(self, keep: float = 0.96) -> None:
        self.keep = keep
        self.values: dict[str, float] = {}

    def add(self, name: str, value: float) -> None:
        """Blend one more measurement into a running average."""
        before = self.values.get(name, value)
        self.values[name] = self.keep * before + (1 - self.keep) * value

    def line(self) -> str:
        """All averages as name=value."""
        return " ".join(f"{name}={value:.3f}" for name, value in self.values.items())


def _step_loss(config: RecipeConfig, step: int, model: Gemma, sight: SightHead, meter: Meter) -> torch.Tensor:
    """The whole loss of one step."""
    rng = step_generator(config.seed, step)
    if step < config.vision_steps:
        pictures = questions(TASK_WEIGHTS, config.pictures_a, rng)
        shown, labelled = mosaics(config.mosaics_a, rng), seen_in(pictures)
        both = Seen(shown.pixels + labelled.pixels, shown.labels + labelled.labels)
        seen = _look(model, sight, both)
        meter.add("sight", seen.accuracy)
        loss, text_period = seen.loss, 4
    else:
        fade = (step - config.vision_steps) / config.joint_steps
        weight = config.sight_start + fade * (config.sight_end - config.sight_start)
        seen = _look(model, sight, mosaics(config.mosaics_b, rng))
        meter.add("sight", seen.accuracy)
        asked = questions(TASK_WEIGHTS, config.pictures_b, rng)
        answered = _answer_loss(model, asked, meter)
        assert answered.soft_tokens is not None
        own: SightLoss = sight(answered.soft_tokens, model.get_input_embeddings().weight, seen_in(asked).labels)
        loss, text_period = answered.loss + weight * (seen.loss + own.loss) / 2, 2
    if step < config.text_every_step_until or step % text_period == 0:
        text_loss = _answer_loss(model, questions(TEXT_WEIGHTS, config.texts, rng), meter).loss
        meter.add("text_loss", text_loss.item())
        loss = loss + config.text_weight * text_loss
    meter.add("loss", loss.item())
    return loss


@dataclass(frozen=True)
class AnswerLoss:
    """What asking a batch of questions gave."""

    loss: torch.Tensor
    """Mean cross-entropy of the answers' tokens."""
    soft_tokens: torch.Tensor | None
    """[picture, 16, d_model] that the pictures became; None without pictures."""


def _look(model: Gemma, sight: SightHead, seen: Seen) -> SightLoss:
    """Pictures through vision tower and projector, scored by the auxiliary loss."""
    patches = model.model.vision_tower(pixel_values=pixel_values(seen.pixels)).last_hidden_state
    soft_tokens = model.model.multi_modal_projector(patches)
    loss: SightLoss = sight(soft_tokens, model.get_input_embeddings().weight, seen.labels)
    return loss


def _answer_loss(model: Gemma, samples: list[PixelSample], meter: Meter) -> AnswerLoss:
    """Ask questions through the whole model."""
    batch = collate(samples, answers=True)
    caught: list[torch.Tensor] = []
    handle = model.model.multi_modal_projector.register_forward_hook(lambda _module, _args, out: caught.append(out))
    try:
        logits = model(**batch.inputs(), logits_to_keep=batch.answer_span()).logits[:, :-1]
    finally:
        handle.remove()
    labels = batch.answered()[:, -logits.shape[1] :]
    loss = functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED)
    right = ((logits.argmax(-1) == labels) | (labels == IGNORED)).all(-1)
    for sample, hit in zip(samples, right.tolist(), strict=True):
        meter.add(sample.task, float(hit))
    return AnswerLoss(loss, caught[0] if caught else None)


def _optimiser(config: RecipeConfig, model: Gemma, sight: SightHead) -> torch.optim.AdamW:
    """AdamW with decay on matrices only."""
    parameters = [*model.parameters(), *sight.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
