"""Small pictures kept beside a graph: thumbnails, and heat maps laid over their picture.

Both are WebP; equal input gives equal bytes, so a picture is named by the hash of its data.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from atlas.errors import InputError
from atlas.ids import bytes_hash

MEDIA_TYPE = "image/webp"
THUMBNAIL_SIDE = 256
OVERLAY_SIDE = 112
CLIP_PERCENTILE = 95.0  # as in the published renderer: a few strong patches would hide the rest
_QUALITY = 85
_DIMMED = 0.35  # how much of the picture's own brightness is left where the map is low


@dataclass(frozen=True)
class Thumbnail:
    """An encoded small picture."""

    sha: str
    """sha256 of `data`."""
    media_type: str
    """image/webp."""
    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""
    data: bytes
    """The encoded picture."""


def thumbnail(image: Image.Image, side: int = THUMBNAIL_SIDE) -> Thumbnail:
    """The picture, no side longer than `side`; small ones keep their size."""
    return _encode(_fit(_rgb(image), side))


def overlay(image: Image.Image, values: np.ndarray, side: int = OVERLAY_SIDE) -> Thumbnail:
    """A heat map [h, w] over the picture: grey and dim where it is low, warm and bright where it is high.

    Values are clipped at their 95th percentile and stretched to 0..1; a flat map is low everywhere. Raises InputError.
    """
    picture = _fit(_rgb(image), side, enlarge=True)
    heat = Image.fromarray(stretch(values)).resize(picture.size, Image.Resampling.BILINEAR)
    level = np.clip(np.asarray(heat, dtype=np.float32), 0.0, 1.0)[..., None]
    grey = np.asarray(picture.convert("L"), dtype=np.float32)[..., None] / 255.0
    blended = grey * _DIMMED * (1 - level) + level * (0.25 * grey + 0.75 * warm(level[..., 0]))
    return _encode(Image.fromarray((np.clip(blended, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)))


def stretch(values: np.ndarray) -> np.ndarray:
    """float32 [h, w] in 0..1: clipped at the 95th percentile, then least to 0 and largest to 1. Raises InputError."""
    heat = np.asarray(values, dtype=np.float64)
    if heat.ndim != 2 or heat.size == 0 or not np.isfinite(heat).all():
        raise InputError(f"a heat map of shape {list(heat.shape)}", "finite values [height, width]")
    low, high = float(heat.min()), float(np.percentile(heat, CLIP_PERCENTILE))
    if high <= low:
        high = float(heat.max())  # a few patches hold everything
    scaled = np.zeros_like(heat) if high <= low else np.clip((heat - low) / (high - low), 0.0, 1.0)
    return scaled.astype(np.float32)


def warm(level: np.ndarray) -> np.ndarray:
    """Colours float32 [..., 3] for levels in 0..1: dark red, orange, pale yellow, brighter all the way."""
    stops = np.array([0.0, 0.35, 0.7, 1.0])
    colours = np.array([[0.30, 0.02, 0.10], [0.80, 0.20, 0.08], [0.99, 0.65, 0.15], [1.00, 0.97, 0.70]])
    return np.stack([np.interp(level, stops, colours[:, channel]) for channel in range(3)], axis=-1).astype(np.float32)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
        solid = Image.new("RGBA", image.size, "white")
        solid.alpha_composite(image.convert("RGBA"))
        return solid.convert("RGB")
    return image.convert("RGB")


def _fit(image: Image.Image, side: int, enlarge: bool = False) -> Image.Image:
    scale = side / max(image.size)
    if scale >= 1 and not enlarge:
        return image
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _encode(image: Image.Image) -> Thumbnail:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=_QUALITY, method=4, exif=b"", icc_profile=b"", xmp=b"")
    data = buffer.getvalue()
    return Thumbnail(bytes_hash(data), MEDIA_TYPE, image.width, image.height, data)
