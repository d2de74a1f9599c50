"""What the small world contains and what is true in it: words only, no drawing.

The drawn world (``world.py``), the vocabulary of the model (``architecture.py``) and the tests all read from here,
so a fact is written once.
"""

from dataclasses import dataclass

MODEL_NAME = "circuit-atlas-demo"
"""Folder and name of the model that was trained on this world."""
TRANSCODERS_NAME = "circuit-atlas-demo-plt-16x"
"""Folder and name of its transcoder set."""

DIGITS: tuple[str, ...] = tuple(str(digit) for digit in range(10))
PLUS = "+"
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "heart", "diamond")

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (245, 135, 20),
    "yellow": (238, 205, 20),
    "green": (40, 150, 60),
    "blue": (40, 90, 220),
    "purple": (130, 50, 180),
    "pink": (245, 120, 185),
    "brown": (125, 75, 35),
    "grey": (110, 110, 115),
    "cyan": (60, 200, 210),
}
"""Colour words and the red, green and blue that drawing jitters around."""

INKS: tuple[str, ...] = ("red", "green", "blue", "purple", "brown", "grey")
"""Colours dark enough to write digits with on a light background."""

SHAPE_COLOURS: tuple[str, ...] = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
"""Colours that a shape may have."""


@dataclass(frozen=True)
class Planet:
    """One planet and its three facts. Only the colour can be seen in a picture."""

    name: str
    """The answer to "which planet is this ?"."""
    moons: str
    """'0', '1', '2' or 'many'; never drawn."""
    order: str
    """Place counted from the sun, '1' to '8'; never drawn."""
    planet_colour: str
    """Colour word; drawn."""


PLANETS: dict[str, Planet] = {
    planet.name: planet
    for planet in (
        Planet("mercury", "0", "1", "grey"),
        Planet("venus", "0", "2", "yellow"),
        Planet("earth", "1", "3", "blue"),
        Planet("mars", "2", "4", "red"),
        Planet("jupiter", "many", "5", "orange"),
        Planet("saturn", "many", "6", "yellow"),
        Planet("uranus", "many", "7", "cyan"),
        Planet("neptune", "many", "8", "blue"),
    )
}

HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {("venus", "moons"), ("saturn", "moons"), ("earth", "order"), ("neptune", "order")}
)
"""(planet, attribute) pairs that training shows as text only. The model has seen the planet's picture with other
questions and has read the fact, but has never been asked for this fact about this picture."""

QUESTIONS: dict[str, str] = {
    "sum": "what is the sum ?",
    "read": "read it",
    "first": "what is the first number ?",
    "second": "what is the second number ?",
    "digit": "what number is this ?",
    "count": "how many shapes ?",
    "colour": "what colour is it ?",
    "shape": "what shape is it ?",
    "planet": "which planet is this ?",
    "moons": "how many moons does it have ?",
    "order": "what is its order from the sun ?",
    "planet_colour": "what colour is this planet ?",
}
"""Task and its one wording. The text twin of a task writes what a picture would show, a full stop, and the same
question: "3 + 4 . what is the sum ?"."""

TEXT_PREFIX = "text_"
PICTURE_TASKS: tuple[str, ...] = tuple(QUESTIONS)
TEXT_TASKS: tuple[str, ...] = tuple(TEXT_PREFIX + task for task in QUESTIONS)
ANSWER_WORDS: tuple[str, ...] = (*DIGITS, "many", *COLOURS, *SHAPES, *PLANETS)
