"""Thumbnails and overlays: named by their bytes, the same every time, and true to what they show."""

import io

import numpy as np
import pytest
from PIL import Image

from atlas.errors import InputError
from atlas.ids import bytes_hash
from atlas.pictures import Thumbnail, overlay, stretch, thumbnail, warm


def picture(width: int = 300, height: int = 150, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def opened(small: Thumbnail) -> np.ndarray:
    with Image.open(io.BytesIO(small.data)) as image:
        assert image.format == "WEBP"
        assert image.size == (small.width, small.height)
        return np.asarray(image.convert("RGB")).astype(float)


def test_a_thumbnail_is_named_by_its_bytes_and_keeps_the_shape() -> None:
    small = thumbnail(picture())
    assert small.sha == bytes_hash(small.data)
    assert small.media_type == "image/webp"
    assert (small.width, small.height) == (256, 128)
    opened(small)


def test_small_pictures_keep_their_size() -> None:
    small = thumbnail(picture(40, 30))
    assert (small.width, small.height) == (40, 30)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "LA", "I;16"])
def test_every_kind_of_picture_can_be_shown(mode: str) -> None:
    image = picture().convert("I").convert("I;16") if mode == "I;16" else picture(mode=mode)
    opened(thumbnail(image))
    opened(overlay(image, np.eye(4)))


def test_transparent_is_shown_on_white() -> None:
    small = opened(thumbnail(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))
    assert small.min() > 250


def test_equal_input_gives_equal_bytes_and_other_input_others() -> None:
    values = np.arange(16.0).reshape(4, 4)
    assert thumbnail(picture()) == thumbnail(picture())
    assert overlay(picture(), values) == overlay(picture(), values)
    assert overlay(picture(), values).sha != overlay(picture(), values.T).sha


def test_what_a_file_says_about_its_picture_changes_nothing() -> None:
    buffer = io.BytesIO()
    picture().save(buffer, "PNG", dpi=(300, 300))
    assert thumbnail(Image.open(buffer)) == thumbnail(picture())


def test_an_overlay_is_bright_where_the_map_is_high() -> None:
    values = np.zeros((4, 4))
    values[0, 3] = 1.0
    small = overlay(Image.new("RGB", (224, 224), (128, 128, 128)), values)
    shown = opened(small).mean(axis=-1)
    assert (small.width, small.height) == (112, 112)
    assert shown[5:20, 92:107].mean() > 2 * shown[60:, :50].mean()


def test_a_flat_map_is_low_everywhere() -> None:
    shown = opened(overlay(Image.new("RGB", (64, 64), "white"), np.full((8, 8), 3.0)))
    assert np.ptp(shown) < 10


def test_a_map_is_clipped_at_its_95th_percentile_and_stretched() -> None:
    values = np.arange(100.0).reshape(10, 10)
    values[0, 0] = 1e6
    level = stretch(values)
    assert level.min() == 0.0
    assert level.max() == 1.0
    assert (level == 1.0).sum() == 5
    assert level[5, 0] == pytest.approx((50 - 1) / (np.percentile(values, 95) - 1), rel=1e-6)


def test_colours_grow_brighter_with_the_level() -> None:
    brightness = warm(np.linspace(0, 1, 50)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(brightness) > 0).all()


@pytest.mark.parametrize("values", [np.array([]), np.zeros(4), np.full((2, 2), np.nan), np.array([[np.inf, 0.0]])])
def test_maps_that_are_none_are_refused(values: np.ndarray) -> None:
    with pytest.raises(InputError, match="heat map"):
        overlay(picture(), values)
