"""Masks of what can be drawn in one ink: characters and shapes, each in many jittered forms.

A mask is a float32 array in [0, 1], cropped to what is inked. Masks are cached by their form, and forms come from a
grid of sizes, turns, slants, widths and strokes, so that after a few thousand pictures drawing is only pasting.
The font is the one inside Pillow: no font file is read.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TURNS = (-8.0, -4.0, 0.0, 4.0, 8.0)
SLANTS = (-0.12, 0.0, 0.12)
WIDTHS = (0.9, 1.0, 1.12)
STROKES = (0, 1, 2)
SHAPE_TURNS = (-15.0, -7.5, 0.0, 7.5, 15.0)


@dataclass(frozen=True)
class Form:
    """How one glyph is drawn."""

    size: int
    """Height of the inked part, in pixels of the picture."""
    turn: float
    """Rotation in degrees, counter-clockwise."""
    slant: float
    """Horizontal shear: pixels to the right per pixel upwards."""
    width: float
    """Horizontal stretch; 1 keeps the font's proportions."""
    stroke: int
    """Extra stroke width, in pixels of a sheet about 100 pixels high."""


def character_form(rng: np.random.Generator, size: int) -> Form:
    """Draw a form for a character of about this height."""
    turn, slant, width, stroke = rng.integers(0, (len(TURNS), len(SLANTS), len(WIDTHS), len(STROKES)))
    return Form(2 * (size // 2), TURNS[turn], SLANTS[slant], WIDTHS[width], STROKES[stroke])


def shape_form(rng: np.random.Generator, size: int) -> Form:
    """Draw a form for a shape of about this height."""
    turn, width = rng.integers(0, (len(SHAPE_TURNS), len(WIDTHS)))
    return Form(2 * (size // 2), SHAPE_TURNS[turn], 0.0, (1.0 + WIDTHS[width]) / 2, 0)


@lru_cache(maxsize=1 << 15)
def character_mask(character: str, form: Form) -> np.ndarray:
    """Mask [height, width] of one character."""
    font = _font(96)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(character, stroke_width=4))
    sheet = Image.new("L", (right - left + 16, bottom - top + 16), 0)
    drawing = ImageDraw.Draw(sheet)
    drawing.text((8 - left, 8 - top), character, fill=255, font=font, stroke_width=1 + form.stroke)
    return _finish(sheet, form)


@lru_cache(maxsize=1 << 13)
def shape_mask(shape: str, form: Form) -> np.ndarray:
    """Mask [height, width] of one filled shape."""
    sheet = Image.new("L", (120, 120), 0)
    drawing = ImageDraw.Draw(sheet)
    if shape == "circle":
        drawing.ellipse((10, 10, 110, 110), fill=255)
    elif shape == "heart":
        drawing.ellipse((8, 14, 62, 66), fill=255)
        drawing.ellipse((58, 14, 112, 66), fill=255)
        drawing.polygon([(11, 51), (60, 112), (109, 51), (60, 40)], fill=255)
    else:
        drawing.polygon(_corners(shape), fill=255)
    return _finish(sheet, form)


def _corners(shape: str) -> list[tuple[float, float]]:
    """Corner points of a polygon shape on a sheet of 120 pixels."""
    if shape == "square":
        return [(16, 16), (104, 16), (104, 104), (16, 104)]
    if shape == "triangle":
        return [(60, 8), (114, 106), (6, 106)]
    if shape == "diamond":
        return [(60, 4), (98, 60), (60, 116), (22, 60)]
    points: list[tuple[float, float]] = []
    for corner in range(10):  # a five-pointed star
        radius = 58 if corner % 2 == 0 else 23
        angle = math.pi * corner / 5 - math.pi / 2
        points.append((60 + radius * math.cos(angle), 62 + radius * math.sin(angle)))
    return points


def _finish(sheet: Image.Image, form: Form) -> np.ndarray:
    """Slant, stretch, turn, crop and shrink a sheet to the form's height."""
    width, height = sheet.size
    new_width = int(width * form.width + abs(form.slant) * height)
    shift = form.slant * height / 2
    sheet = sheet.transform(
        (new_width, height),
        Image.Transform.AFFINE,
        (1 / form.width, form.slant / form.width, (width - new_width / form.width) / 2 - shift / form.width, 0, 1, 0),
        Image.Resampling.BILINEAR,
    )
    if form.turn:
        sheet = sheet.rotate(form.turn, Image.Resampling.BILINEAR, expand=True)
    sheet = sheet.crop(sheet.getbbox())
    scale = form.size / sheet.height
    sheet = sheet.resize((max(2, round(sheet.width * scale)), form.size), Image.Resampling.BOX)
    mask = np.asarray(sheet, dtype=np.float32) / 255.0
    mask.flags.writeable = False
    return mask


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own scalable font."""
    return ImageFont.load_default(size)
