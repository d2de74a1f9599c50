"""One picture being drawn: a background, things pasted on it, and a list of what went where.

The list is the picture's truth. Boxes are (left, top, right, bottom) in pixels, right and bottom outside.
"""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ingest.demo.facts import COLOURS, DIGITS, PLANETS
from ingest.demo.glyphs import character_form, character_mask, shape_form, shape_mask
from ingest.demo.planets import TILTS, planet_sprite

SIDE = 112
"""Width and height of every picture, in pixels."""


@dataclass(frozen=True)
class Drawn:
    """One thing in a picture."""

    kind: str
    """digit, plus, shape or planet."""
    word: str
    """What it is: '3', '+', 'circle', 'mars'."""
    colour: str
    """Its colour word."""
    box: tuple[int, int, int, int]
    """Left, top, right, bottom in pixels."""


@dataclass
class Canvas:
    """A picture under construction."""

    pixels: np.ndarray
    """Float32 [112, 112, 3], 0 to 255."""
    drawn: list[Drawn] = field(default_factory=list)
    """What has been pasted, in order."""

    def image(self) -> Image.Image:
        """The finished picture."""
        return Image.fromarray(self.bytes())

    def bytes(self) -> np.ndarray:
        """The finished picture as uint8 [112, 112, 3]."""
        return (self.pixels + 0.5).astype(np.uint8)


def paper(rng: np.random.Generator) -> Canvas:
    """A light background of random tint with a slow gradient."""
    tint = rng.uniform(218.0, 252.0, size=3).astype(np.float32)
    slope = rng.uniform(-9.0, 9.0, size=2)
    ramp = np.linspace(-1.0, 1.0, SIDE, dtype=np.float32)
    shade = slope[0] * ramp[:, None] + slope[1] * ramp[None, :]
    return Canvas(np.clip(tint + shade[:, :, None].astype(np.float32), 0.0, 255.0))


def sky(rng: np.random.Generator) -> Canvas:
    """A dark background with stars."""
    tint = rng.uniform(4.0, 38.0, size=3).astype(np.float32)
    pixels = np.empty((SIDE, SIDE, 3), dtype=np.float32)
    pixels[:] = tint
    stars = rng.integers(0, SIDE, size=(int(rng.integers(12, 30)), 2))
    pixels[stars[:, 0], stars[:, 1]] = rng.uniform(120.0, 250.0, size=(len(stars), 1))
    return Canvas(pixels)


def put_character(
    canvas: Canvas, rng: np.random.Generator, word: str, colour: str, size: int, centre: tuple[float, float]
) -> None:
    """Write a digit or '+' of about this height around (x, y)."""
    mask = character_mask(word, character_form(rng, size))
    box = _paste(canvas, _ink(rng, colour), mask, centre)
    canvas.drawn.append(Drawn("digit" if word in DIGITS else "plus", word, colour, box))


def put_shape(
    canvas: Canvas, rng: np.random.Generator, word: str, colour: str, size: int, centre: tuple[float, float]
) -> None:
    """Paste a filled shape of about this height around (x, y)."""
    mask = shape_mask(word, shape_form(rng, size))
    canvas.drawn.append(Drawn("shape", word, colour, _paste(canvas, _ink(rng, colour), mask, centre)))


def put_planet(canvas: Canvas, rng: np.random.Generator, name: str, diameter: int, centre: tuple[float, float]) -> None:
    """Paste a planet whose disc has about this diameter around (x, y)."""
    sprite = planet_sprite(name, 2 * (diameter // 2), TILTS[rng.integers(len(TILTS))])
    light = np.clip(sprite.colour * np.float32(rng.uniform(0.85, 1.12)), 0.0, 255.0)
    box = _paste(canvas, light, sprite.mask, centre)
    canvas.drawn.append(Drawn("planet", name, PLANETS[name].planet_colour, box))


def _ink(rng: np.random.Generator, colour: str) -> np.ndarray:
    """The colour's red, green and blue, moved a little."""
    return np.clip(np.asarray(COLOURS[colour], np.float32) + rng.uniform(-16.0, 16.0, 3).astype(np.float32), 0, 255)


def _paste(canvas: Canvas, ink: np.ndarray, mask: np.ndarray, centre: tuple[float, float]) -> tuple[int, int, int, int]:
    """Blend ink through a mask centred at (x, y), moved where needed to stay inside; return the box it fills."""
    height, width = mask.shape
    left = int(min(max(0, round(centre[0] - width / 2)), max(0, SIDE - width)))
    top = int(min(max(0, round(centre[1] - height / 2)), max(0, SIDE - height)))
    height, width = min(height, SIDE - top), min(width, SIDE - left)
    mask = mask[:height, :width, None]
    if ink.ndim == 3:
        ink = ink[:height, :width]
    part = canvas.pixels[top : top + height, left : left + width]
    part += (ink - part) * mask
    return left, top, left + width, top + height
