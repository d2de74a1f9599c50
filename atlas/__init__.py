"""Circuit Atlas: attribution graphs of vision-language models, kept so that they can be asked.

import atlas
home = atlas.open("atlas-home")
home.ask("recurring-features", task="sum").to_pandas()
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from query.door import Atlas

__version__ = "0.1.0"


def open(home: "str | Path | None" = None) -> "Atlas":
    """Open an atlas for questions. Needs no torch. Raises HomeError if `home` holds none.

    home: its folder; ATLAS_HOME, else ./atlas-home, if not given.
    """
    door = importlib.import_module("query.door")  # by name: atlas must not import query
    atlas: Atlas = door.Atlas(home)
    return atlas
