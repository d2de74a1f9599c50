"""Write a file beside its place and rename it: a reader sees all of it or none."""

import os
from contextlib import suppress
from pathlib import Path

from atlas.errors import InputError


def write_aside(path: Path, data: bytes) -> Path:
    """Write `data` to `path`, replacing what is there. Raises InputError where that cannot be done."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise InputError(
            f"{path} cannot be written ({error.strerror})", "a file in a folder you may write to"
        ) from error
    return path
