"""Which questions and mosaics each training step shows. Every step has its own generator, so a resumed run
continues with exactly the data it would have seen."""

from dataclasses import dataclass

import numpy as np

from ingest.demo.facts import TEXT_PREFIX
from ingest.demo.mosaic import Labels, cell_labels, mosaic
from ingest.demo.world import PixelSample, draw_pixels

TASK_WEIGHTS: dict[str, float] = {
    "sum": 4.0,
    "read": 2.0,
    "first": 1.0,
    "second": 1.2,
    "digit": 0.7,
    "count": 2.0,
    "colour": 0.6,
    "shape": 1.0,
    "planet": 0.8,
    "moons": 0.8,
    "order": 0.8,
    "planet_colour": 0.5,
}
"""How often a picture question is asked, relative to the others."""

_OFTEN_WRITTEN = {"sum": 3.0, "count": 3.0, "moons": 1.0, "order": 1.0}
TEXT_WEIGHTS: dict[str, float] = {TEXT_PREFIX + task: _OFTEN_WRITTEN.get(task, 0.5) for task in TASK_WEIGHTS}
"""How often a written question is asked, relative to the others."""


@dataclass(frozen=True)
class Seen:
    """Pictures with labels for the vision tower."""

    pixels: list[np.ndarray]
    """Uint8 pictures [112, 112, 3]."""
    labels: list[Labels]
    """Their cell labels."""


def step_generator(seed: int, step: int) -> np.random.Generator:
    """The generator of one training step."""
    return np.random.default_rng((seed, step))


def questions(weights: dict[str, float], count: int, rng: np.random.Generator) -> list[PixelSample]:
    """Draw questions with these task weights."""
    shares = np.asarray(list(weights.values()))
    chosen = rng.choice(len(weights), size=count, p=shares / shares.sum())
    tasks = tuple(weights)
    return [draw_pixels(tasks[task], rng) for task in chosen]


def mosaics(count: int, rng: np.random.Generator) -> Seen:
    """Draw mosaics with their labels."""
    drawn = [mosaic(rng) for _ in range(count)]
    return Seen([canvas.bytes() for canvas in drawn], [cell_labels(canvas.drawn) for canvas in drawn])


def seen_in(samples: list[PixelSample]) -> Seen:
    """The pictures of questions with their labels."""
    pictured = [(sample.pixels, cell_labels(sample.drawn)) for sample in samples if sample.pixels is not None]
    return Seen([pixels for pixels, _ in pictured], [labels for _, labels in pictured])
