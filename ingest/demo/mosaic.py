"""Pictures that teach the vision tower to see: a jittered grid of digits, shapes and planets.

A mosaic carries about eight labelled objects where a question's picture carries one or two, which is why reading
digits is learnt in minutes. Labels sit on the 4 x 4 cells of 28 pixels that become the model's soft tokens.
"""

from dataclasses import dataclass

import numpy as np

from ingest.demo.canvas import SIDE, Canvas, Drawn, paper, put_character, put_planet, put_shape, sky
from ingest.demo.facts import COLOURS, DIGITS, INKS, PLANETS, PLUS, SHAPE_COLOURS, SHAPES

CELLS = 4
SEEN_WORDS: tuple[str, ...] = (*DIGITS, PLUS, *SHAPES, *PLANETS)
"""Words that a cell can be labelled with; label 0 is "nothing", label 1 + i is word i."""
SEEN_COLOURS: tuple[str, ...] = tuple(COLOURS)


@dataclass(frozen=True)
class Labels:
    """What is centred in each soft token's cell, row by row."""

    word: np.ndarray
    """Int64 [16]: 0 for nothing, else 1 + index into SEEN_WORDS."""
    colour: np.ndarray
    """Int64 [16]: index into SEEN_COLOURS, -1 where nothing is."""


def mosaic(rng: np.random.Generator) -> Canvas:
    """Draw a grid of two, three or four objects a side, its phase and objects moved at random."""
    per_side = int(rng.choice((2, 3, 4), p=(0.2, 0.4, 0.4)))
    pitch = SIDE / per_side * rng.uniform(0.98, 1.12)
    night = rng.random() < 0.15
    canvas = sky(rng) if night else paper(rng)
    phase = rng.uniform(-0.2, 0.2, size=2) * pitch
    for row in range(per_side):
        for column in range(per_side):
            if rng.random() < 0.1:
                continue
            offset = rng.uniform(-0.1, 0.1, size=2) * pitch
            x = (column + 0.5) * pitch + phase[0] + offset[0]
            y = (row + 0.5) * pitch + phase[1] + offset[1]
            if 6 < x < SIDE - 6 and 6 < y < SIDE - 6:
                _put_any(canvas, rng, pitch, (x, y), night)
    return canvas


def cell_labels(drawn: list[Drawn] | tuple[Drawn, ...]) -> Labels:
    """Label each cell with the object whose box is centred in it."""
    word = np.zeros(CELLS * CELLS, dtype=np.int64)
    colour = np.full(CELLS * CELLS, -1, dtype=np.int64)
    side = SIDE // CELLS
    for thing in drawn:
        left, top, right, bottom = thing.box
        cell = CELLS * min(CELLS - 1, (top + bottom) // 2 // side) + min(CELLS - 1, (left + right) // 2 // side)
        word[cell] = 1 + SEEN_WORDS.index(thing.word)
        colour[cell] = SEEN_COLOURS.index(thing.colour)
    return Labels(word, colour)


def _put_any(canvas: Canvas, rng: np.random.Generator, pitch: float, centre: tuple[float, float], night: bool) -> None:
    """Put one random object: planets only at night, mostly digits by day."""
    kind = rng.random()
    if night or kind < 0.1:
        put_planet(canvas, rng, tuple(PLANETS)[rng.integers(8)], int(pitch * rng.uniform(0.75, 0.95)), centre)
    elif kind < 0.25:
        word, colour = SHAPES[rng.integers(len(SHAPES))], SHAPE_COLOURS[rng.integers(len(SHAPE_COLOURS))]
        put_shape(canvas, rng, word, colour, int(pitch * rng.uniform(0.55, 0.85)), centre)
    else:
        plus = kind < 0.32
        word = PLUS if plus else DIGITS[rng.integers(10)]
        height = min(56.0, pitch * (rng.uniform(0.5, 0.7) if plus else rng.uniform(0.9, 1.2)))
        put_character(canvas, rng, word, INKS[rng.integers(len(INKS))], int(height), centre)
