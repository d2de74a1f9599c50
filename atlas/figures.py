"""What every drawing by matplotlib shares: its file's format, and settings that make equal drawings equal files."""

from pathlib import Path
from typing import Any

from atlas.errors import InputError

SETTINGS: Any = {  # matplotlib types its keys as literals in some versions and as texts in others
    "svg.fonttype": "none",
    "svg.hashsalt": "circuit-atlas",
    "font.family": ["DejaVu Sans"],
    "text.parse_math": False,
}
"""For matplotlib's rc_context."""


def picture_format(path: Path) -> str:
    """The format that a file's ending means: png or svg. Raises InputError."""
    fmt = path.suffix.lower().lstrip(".")
    if fmt not in {"png", "svg"}:
        raise InputError(f"{path.name} ends in neither .png nor .svg", "the name of a .png or .svg file")
    return fmt
