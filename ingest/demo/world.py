"""The small drawn world: one call draws a question, its picture and its right answer.

``draw("sum", rng)`` gives a new picture of two digits every time; ``draw("sum", rng, a=3, b=4)`` pins what is in it and
leaves how it is drawn to the generator. The same generator state gives the same sample, byte for byte. A text twin
("text_sum") asks the same question about the same things, written out instead of drawn.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from atlas.errors import InputError
from ingest.demo.canvas import SIDE, Canvas, Drawn, paper, put_character, put_planet, put_shape, sky
from ingest.demo.facts import (
    HELD_OUT,
    INKS,
    PICTURE_TASKS,
    PLANETS,
    PLUS,
    QUESTIONS,
    SHAPE_COLOURS,
    SHAPES,
    TEXT_PREFIX,
    TEXT_TASKS,
    Planet,
)

__all__ = ["HELD_OUT", "PICTURE_TASKS", "PLANETS", "TEXT_TASKS", "Planet", "Sample", "draw", "draw_pixels"]


Recipe = dict[str, Any]
"""What a sample is made of: a, b and n are numbers, colour, shape and planet are words."""


@dataclass(frozen=True)
class Sample:
    """One question with its right answer."""

    task: str
    """A name from PICTURE_TASKS or TEXT_TASKS."""
    question: str
    """The user's words; a picture, where there is one, comes before them."""
    answer: str
    """The right answer, blanks between its tokens."""
    image: Image.Image | None
    """The picture, 112 x 112 RGB; None for a text task."""
    concept: str
    """What the sample is about, for grouping: '3+4', 'mars', '5', 'red circle'."""
    truth: Recipe
    """The recipe (a, b, n, colour, shape, planet: what the task has) and 'drawn': a list of dicts with kind, word,
    colour and box (left, top, right, bottom in pixels)."""


def draw(task: str, rng: np.random.Generator, **fixed: int | str) -> Sample:
    """Draw one sample of a task.

    ``fixed`` pins the recipe: a and b (digits) for sum, read, first and second; a for digit; n (1 to 9), shape and
    colour for count; colour and shape for colour and shape; planet for the planet tasks. A pair of HELD_OUT is
    drawn as a picture only when its planet is pinned.
    """
    sample, canvas = _compose(task, rng, fixed)
    if canvas is None:
        return sample
    drawn = [vars(thing).copy() for thing in canvas.drawn]
    truth = {**sample.truth, "drawn": drawn}
    return Sample(sample.task, sample.question, sample.answer, canvas.image(), sample.concept, truth)


@dataclass(frozen=True)
class PixelSample:
    """A sample for training, where the picture stays an array."""

    task: str
    """A name from PICTURE_TASKS or TEXT_TASKS."""
    question: str
    """The user's words."""
    answer: str
    """The right answer."""
    pixels: np.ndarray | None
    """Uint8 [112, 112, 3]; None for a text task."""
    drawn: tuple[Drawn, ...]
    """What is in the picture."""
    truth: Recipe
    """The recipe."""


def draw_pixels(task: str, rng: np.random.Generator, **fixed: int | str) -> PixelSample:
    """The same as ``draw``, without the picture object: the fast path of training and evaluation."""
    sample, canvas = _compose(task, rng, fixed)
    pixels, drawn = (None, ()) if canvas is None else (canvas.bytes(), tuple(canvas.drawn))
    return PixelSample(task, sample.question, sample.answer, pixels, drawn, sample.truth)


def _compose(task: str, rng: np.random.Generator, fixed: Recipe) -> tuple[Sample, Canvas | None]:
    """Choose the recipe, answer it, and draw it unless the task is a text twin."""
    base = task.removeprefix(TEXT_PREFIX)
    if base not in QUESTIONS:
        known = ", ".join((*PICTURE_TASKS, *TEXT_TASKS))
        raise InputError(found=f"task {task!r}", expected=f"one of {known}", do="name a task of the drawn world")
    choose, render = _FAMILIES[base]
    recipe = choose(base, rng, fixed, task in TEXT_TASKS)
    canvas = None if task in TEXT_TASKS else render(recipe, rng)
    question = QUESTIONS[base] if canvas is not None else f"{_written(recipe)} . {QUESTIONS[base]}"
    return Sample(task, question, _answer(base, recipe), None, _concept(base, recipe), recipe), canvas


def _answer(task: str, recipe: Recipe) -> str:
    """The right answer to a task about a recipe."""
    if task == "sum":
        return str(recipe["a"] + recipe["b"])
    if task == "read":
        return f"{recipe['a']} + {recipe['b']}"
    if task in ("first", "second", "digit"):
        return str(recipe["b" if task == "second" else "a"])
    if task == "count":
        return str(recipe["n"])
    if task in ("colour", "shape"):
        return str(recipe[task])
    return str(recipe["planet"] if task == "planet" else getattr(PLANETS[recipe["planet"]], task))


def _concept(task: str, recipe: Recipe) -> str:
    """A short name for what the recipe is about."""
    if "planet" in recipe:
        return str(recipe["planet"])
    if "b" in recipe:
        return f"{recipe['a']}+{recipe['b']}"
    if "a" in recipe:
        return str(recipe["a"])
    return str(recipe["n"]) if task == "count" else f"{recipe['colour']} {recipe['shape']}"


def _written(recipe: Recipe) -> str:
    """The recipe in words, in place of a picture."""
    if "planet" in recipe:
        return str(recipe["planet"])
    if "b" in recipe:
        return f"{recipe['a']} {PLUS} {recipe['b']}"
    if "a" in recipe:
        return str(recipe["a"])
    return " ".join([f"{recipe['colour']} {recipe['shape']}"] * recipe.get("n", 1))


def _choose_digits(task: str, rng: np.random.Generator, fixed: Recipe, text: bool) -> Recipe:
    names = ("a",) if task == "digit" else ("a", "b")
    return {name: _pin(fixed, name, range(10), int(rng.integers(10))) for name in names}


def _choose_shapes(task: str, rng: np.random.Generator, fixed: Recipe, text: bool) -> Recipe:
    recipe = {
        "colour": _pin(fixed, "colour", SHAPE_COLOURS, SHAPE_COLOURS[rng.integers(len(SHAPE_COLOURS))]),
        "shape": _pin(fixed, "shape", SHAPES, SHAPES[rng.integers(len(SHAPES))]),
    }
    if task == "count":
        recipe["n"] = _pin(fixed, "n", range(1, 10), int(rng.integers(1, 10)))
    return recipe


def _choose_planet(task: str, rng: np.random.Generator, fixed: Recipe, text: bool) -> Recipe:
    names = [name for name in PLANETS if text or (name, task) not in HELD_OUT]
    return {"planet": _pin(fixed, "planet", PLANETS, names[rng.integers(len(names))])}


def _pin(fixed: Recipe, name: str, allowed: Iterable[Any], drawn: int | str) -> Any:
    """The pinned value of a recipe's part, or the drawn one."""
    value = fixed.get(name)
    if value is None:
        return drawn
    if value not in tuple(allowed):
        expected = f"one of {', '.join(str(item) for item in allowed)}"
        raise InputError(found=f"{name}={value!r}", expected=expected, do="pin a value that can be drawn")
    return value


def _render_digits(recipe: Recipe, rng: np.random.Generator) -> Canvas:
    """Two digits with a plus between them, or one digit alone."""
    canvas = paper(rng)
    inks = [INKS[ink] for ink in rng.integers(len(INKS), size=3)]
    if "b" not in recipe:
        size = int(rng.integers(36, 57))
        put_character(canvas, rng, str(recipe["a"]), inks[0], size, tuple(rng.uniform(26.0, SIDE - 26.0, size=2)))
        return canvas
    size = int(rng.integers(36, 47))
    across, down = rng.uniform(-6.0, 6.0), rng.uniform(30.0, SIDE - 30.0)
    steps = rng.uniform(-3.0, 3.0, size=(3, 2))
    for word, ink, x, height, step in (
        (str(recipe["a"]), inks[0], 22.0, size, steps[0]),
        (PLUS, inks[1], 56.0, size // 2, steps[1]),
        (str(recipe["b"]), inks[2], 90.0, size, steps[2]),
    ):
        put_character(canvas, rng, word, ink, height, (x + across + step[0], down + step[1]))
    return canvas


def _render_shapes(recipe: Recipe, rng: np.random.Generator) -> Canvas:
    """One large shape, or n small ones in jittered cells of a 4 x 4 grid."""
    canvas = paper(rng)
    if "n" not in recipe:
        size = int(rng.integers(38, 77))
        centre = tuple(rng.uniform(size / 2, SIDE - size / 2, size=2))
        put_shape(canvas, rng, recipe["shape"], recipe["colour"], size, centre)
        return canvas
    for cell in rng.permutation(16)[: recipe["n"]]:
        jitter = rng.uniform(-4.0, 4.0, size=2)
        centre = (14.0 + 28.0 * (cell % 4) + jitter[0], 14.0 + 28.0 * (cell // 4) + jitter[1])
        put_shape(canvas, rng, recipe["shape"], recipe["colour"], int(rng.integers(14, 21)), centre)
    return canvas


def _render_planet(recipe: Recipe, rng: np.random.Generator) -> Canvas:
    """One planet in a dark sky."""
    canvas = sky(rng)
    diameter = int(rng.integers(38, 63))
    centre = tuple(rng.uniform(diameter / 2 + 4, SIDE - diameter / 2 - 4, size=2))
    put_planet(canvas, rng, recipe["planet"], diameter, centre)
    return canvas


_FAMILIES: dict[str, tuple[Callable[..., Recipe], Callable[..., Canvas]]] = {
    **dict.fromkeys(("sum", "read", "first", "second", "digit"), (_choose_digits, _render_digits)),
    **dict.fromkeys(("count", "colour", "shape"), (_choose_shapes, _render_shapes)),
    **dict.fromkeys(("planet", "moons", "order", "planet_colour"), (_choose_planet, _render_planet)),
}
