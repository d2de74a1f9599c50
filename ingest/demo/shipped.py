"""Where the shipped model and transcoders lie on this machine."""

from importlib import resources
from pathlib import Path
from typing import Literal

from ingest.demo.facts import MODEL_NAME, TRANSCODERS_NAME

DEMO = "demo"
"""Name of the shipped model and of its transcoders, wherever they lie on the machine that opens them."""

_NAMES = {"model": MODEL_NAME, "transcoders": TRANSCODERS_NAME}


def shipped(what: Literal["model", "transcoders"]) -> str:
    """Folder of the shipped model or transcoders."""
    return str(shipped_assets() / _NAMES[what])


def shipped_assets() -> Path:
    """Folder of everything shipped with the demo."""
    return Path(str(resources.files("ingest.demo"))) / "assets"


def opened_place(what: Literal["model", "transcoders"], place: str) -> str:
    """The folder or repository meant: `demo` is the shipped one."""
    return shipped(what) if place == DEMO else place
