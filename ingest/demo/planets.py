"""The eight planets as small pictures with a mask, cached by size and tilt.

What is drawn is what can be seen: disc, bands, ring, caps, craters, colour. Moons and the order from the sun are
not drawn, so a question about them takes two hops: picture to planet, planet to fact.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

SHEET = 160
DISC = (36, 36, 124, 124)
TILTS = (-12.0, -6.0, 0.0, 6.0, 12.0)


@dataclass(frozen=True)
class Sprite:
    """One planet at one size and tilt."""

    colour: np.ndarray
    """Float32 [height, width, 3], 0 to 255."""
    mask: np.ndarray
    """Float32 [height, width], 0 outside the planet, 1 inside."""


@lru_cache(maxsize=1 << 11)
def planet_sprite(name: str, diameter: int, tilt: float) -> Sprite:
    """Draw a planet whose disc has this diameter in pixels; a ring may reach beyond it."""
    disc = Image.new("L", (SHEET, SHEET), 0)
    ImageDraw.Draw(disc).ellipse(DISC, fill=255)
    surface = Image.new("RGB", (SHEET, SHEET), GROUND[name])
    _surface(ImageDraw.Draw(surface), name)
    mask = disc
    if name in ("saturn", "uranus"):
        surface, mask = _with_ring(surface, disc, name)
    turn = tilt + (-18.0 if name == "saturn" else 0.0)
    surface = surface.rotate(turn, Image.Resampling.BILINEAR)
    mask = mask.rotate(turn, Image.Resampling.BILINEAR)
    box = mask.getbbox()
    assert box is not None
    scale = diameter / (DISC[2] - DISC[0])
    size = (max(2, round((box[2] - box[0]) * scale)), max(2, round((box[3] - box[1]) * scale)))
    colour = np.asarray(surface.crop(box).resize(size, Image.Resampling.BOX), dtype=np.float32)
    shape = np.asarray(mask.crop(box).resize(size, Image.Resampling.BOX), dtype=np.float32) / 255.0
    colour.flags.writeable = False
    shape.flags.writeable = False
    return Sprite(colour, shape)


GROUND: dict[str, tuple[int, int, int]] = {
    "mercury": (135, 132, 130),
    "venus": (235, 205, 95),
    "earth": (45, 100, 215),
    "mars": (200, 75, 45),
    "jupiter": (225, 150, 85),
    "saturn": (225, 195, 120),
    "uranus": (130, 215, 220),
    "neptune": (40, 60, 190),
}
"""The colour under a planet's markings."""


Spot = tuple[tuple[int, int, int, int], tuple[int, int, int]]
"""An ellipse or rectangle as (left, top, right, bottom) on the sheet, and its colour."""

ELLIPSES: dict[str, tuple[Spot, ...]] = {
    "mercury": tuple(
        ((x - radius, y - radius, x + radius, y + radius), (88, 85, 84))
        for x, y, radius in ((62, 60, 11), (95, 72, 8), (72, 98, 13), (100, 102, 7), (84, 48, 6), (50, 84, 6))
    ),
    "earth": (((58, 26, 102, 44), (245, 248, 250)),),
    "mars": (((56, 28, 104, 50), (248, 240, 235)), ((50, 72, 104, 94), (140, 48, 32))),
    "jupiter": (((84, 84, 112, 102), (200, 50, 35)),),
    "uranus": (((54, 48, 84, 68), (190, 240, 242)),),
    "neptune": (((54, 70, 84, 88), (20, 28, 110)),),
}
"""Craters, caps and spots; drawn over the bands."""

BANDS: dict[str, tuple[Spot, ...]] = {
    "jupiter": tuple(((30, top, 130, top + 9), (165, 90, 50)) for top in (46, 68, 88, 108)),
    "saturn": tuple(((30, top, 130, top + 8), (205, 165, 90)) for top in (56, 92)),
    "neptune": (((74, 100, 112, 106), (225, 232, 250)),),
}
"""Straight bands."""

LANDS = (
    ((44, 58), (72, 50), (80, 68), (66, 88), (52, 80)),
    ((88, 70), (116, 62), (122, 88), (104, 112), (92, 96)),
    ((62, 98), (78, 100), (72, 118), (60, 112)),
)
"""Earth's continents, as corner points."""


def _surface(drawing: ImageDraw.ImageDraw, name: str) -> None:
    """Draw the markings; the disc's mask cuts them to shape."""
    if name == "venus":
        for y in (52, 78, 104):
            drawing.line([(30, y + 8), (62, y - 4), (98, y + 8), (130, y - 4)], fill=(250, 235, 170), width=9)
    if name == "earth":
        for corners in LANDS:
            drawing.polygon(corners, fill=(60, 165, 75))
    for box, colour in BANDS.get(name, ()):
        drawing.rectangle(box, fill=colour)
    for box, colour in ELLIPSES.get(name, ()):
        drawing.ellipse(box, fill=colour)


def _with_ring(surface: Image.Image, disc: Image.Image, name: str) -> tuple[Image.Image, Image.Image]:
    """Put a ring around the disc: wide and flat for Saturn, narrow and upright for Uranus."""
    if name == "saturn":
        box, width, ink = (4, 60, 156, 100), 12, (185, 150, 95)
        front = (0, 80, SHEET, SHEET)
    else:
        box, width, ink = (62, 6, 98, 154), 6, (225, 235, 240)
        front = (80, 0, SHEET, SHEET)
    ring = Image.new("L", (SHEET, SHEET), 0)
    ImageDraw.Draw(ring).ellipse(box, outline=255, width=width)
    seen = Image.new("L", (SHEET, SHEET), 0)
    seen.paste(ring.crop(front), front[:2])  # in front of the disc
    behind = np.asarray(ring) * (np.asarray(disc) == 0)
    seen = Image.fromarray(np.maximum(np.asarray(seen), behind).astype(np.uint8))
    surface.paste(Image.new("RGB", (SHEET, SHEET), ink), (0, 0), seen)
    return surface, Image.fromarray(np.maximum(np.asarray(disc), np.asarray(seen)))
