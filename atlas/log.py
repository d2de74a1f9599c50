"""The log file of a home: one logger per module, one file, nothing on the screen."""

import logging
import os
from pathlib import Path

from atlas.config import Home

_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_ROOMS = ("atlas", "ingest", "query")


def log_to(home: Home) -> None:
    """From now on the loggers of the house write to HOME/log/atlas.log, if they may. The first line opens the file."""
    for room in _ROOMS:
        logger = logging.getLogger(room)
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
        handler = logging.FileHandler(home.log, delay=True) if _writable(home.log) else logging.NullHandler()
        handler.setFormatter(logging.Formatter(_FORMAT))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _writable(path: Path) -> bool:
    return os.access(path if path.exists() else path.parent, os.W_OK)


def log_file() -> Path | None:
    """The file written to, if a home is open."""
    for handler in logging.getLogger(_ROOMS[0]).handlers:
        if isinstance(handler, logging.FileHandler):
            return Path(handler.baseFilename)
    return None
