"""Opening pictures: one clear error for each way a file can fail to be one."""

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from atlas.errors import InputError

PIXEL_LIMIT = 64_000_000
"""Largest picture that is opened, in pixels (8,000 x 8,000). A small file can claim more than memory holds."""


def open_image(path: str | Path) -> Image.Image:
    """The picture in a file as RGB, turned upright. Raises InputError naming the file."""
    path = Path(path)
    if not path.is_file():
        found = f"{path} is a folder" if path.is_dir() else f"no file {path}"
        raise InputError(found, "a picture file", "Check the path; in a prompts file it is relative to that file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below says it better
            with Image.open(path) as file:
                check_size(file, str(path))
                return ImageOps.exif_transpose(file).convert("RGB")
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture", "PNG, JPEG, WebP, GIF, BMP or TIFF") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error}", f"at most {PIXEL_LIMIT:,} pixels", "Scale it down first") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise on damaged files
        raise InputError(f"{path} is damaged ({error})", "a whole picture file", "Save or copy it again") from error


def check_size(image: Image.Image, name: str) -> None:
    """Raises InputError if a picture is empty or larger than the limit; reads its header only."""
    pixels = image.width * image.height
    if not 0 < pixels <= PIXEL_LIMIT:
        raise InputError(
            f"{name} has {image.width} x {image.height} pixels",
            f"at most {PIXEL_LIMIT:,} pixels",
            "Scale it down first",
        )
