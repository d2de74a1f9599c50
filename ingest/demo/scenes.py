"""The two dozen pictures of `atlas demo`, drawn from one seed, and what stands where in each."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ingest.demo.world import Sample, draw

CELL = 28
"""Pixels along one side of the square that a soft token stands for."""

_SUMS = ((3, 4, 6), (4, 3, 2), (2, 5, 3), (6, 2, 3))
"""(first digit, second digit, renderings)."""
_PLANETS = (("mars", 4), ("earth", 4), ("saturn", 2))
_SEED = 2602


@dataclass(frozen=True)
class Scene:
    """One prompt of the demo, with the truth about its picture."""

    slug: str
    """Name of its graph."""
    sample: Sample
    """Question, answer, picture and recipe."""

    def thing_at(self, row: int, col: int) -> str:
        """What is drawn under a soft token: the words of the objects whose box it touches, or background."""
        left, top = col * CELL, row * CELL
        words = [
            str(thing["word"])
            for thing in self.sample.truth.get("drawn", ())
            if thing["box"][0] < left + CELL
            and thing["box"][2] > left
            and thing["box"][1] < top + CELL
            and thing["box"][3] > top
        ]
        return " ".join(words) or "background"


def scenes() -> list[Scene]:
    """The same pictures every time: sums in several renderings, planets' moons, and two questions in words.

    Saturn's moons are a held-out pair: the model has read the fact and seen the planet, but was never asked for the
    one about the other.
    """
    rng = np.random.default_rng(_SEED)
    found = []
    for a, b, renderings in _SUMS:
        found += [Scene(f"sum-{a}-{b}-{letter}", draw("sum", rng, a=a, b=b)) for letter in "abcdef"[:renderings]]
    for planet, renderings in _PLANETS:
        found += [
            Scene(f"moons-{planet}-{letter}", draw("moons", rng, planet=planet)) for letter in "abcd"[:renderings]
        ]
    found.append(Scene("words-3-4", draw("text_sum", rng, a=3, b=4)))
    found.append(Scene("words-mars", draw("text_moons", rng, planet="mars")))
    return found


def write_scenes(folder: Path) -> tuple[Path, list[Scene]]:
    """Write pictures and a prompts file into a folder; the prompts file and the scenes."""
    found = scenes()
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    lines = []
    for scene in found:
        sample = scene.sample
        line: dict[str, object] = {
            "prompt": sample.question,
            "task": sample.task,
            "concept": sample.concept,
            "expected": sample.answer,
        }
        if sample.image is not None:
            name = f"pictures/{scene.slug}.png"
            sample.image.save(folder / name)
            line["images"] = [name]
        lines.append(json.dumps({**line, "slug": scene.slug}))
    prompts = folder / "prompts.jsonl"
    prompts.write_text("\n".join(lines) + "\n")
    return prompts, found
