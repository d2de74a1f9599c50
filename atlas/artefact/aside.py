"""Writing beside and renaming into place, so that what has a name is complete.

Half-written things lie in HOME/tmp under names that carry host and process; those of a process that is gone are
swept by the next writer.
"""

import os
import shutil
import socket
import time
import uuid
from pathlib import Path

from atlas.config import Home

_STALE_SECONDS = 24 * 3600  # for other hosts, whose processes cannot be asked


def aside(home: Home, what: str) -> Path:
    """A new name in HOME/tmp for this process; nothing is made there yet."""
    home.tmp.mkdir(parents=True, exist_ok=True)
    return home.tmp / f"{what}.{_host()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"


def replace_file(home: Home, path: Path, data: bytes) -> None:
    """Write a file so that readers see the old or the new one, also after a power cut."""
    half = aside(home, path.name)
    write_synced(half, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(half, path)
    sync_folder(path.parent)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the disk has a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(home: Home) -> list[Path]:
    """Remove from HOME/tmp what no living process can still be writing; the paths removed."""
    removed = []
    for path in sorted(home.tmp.iterdir()) if home.tmp.exists() else []:
        if _abandoned(path):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def alive(pid: int) -> bool:
    """Whether a process of this host still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _abandoned(path: Path) -> bool:
    parts = path.name.rsplit(".", 3)
    if len(parts) == 4 and parts[1] == _host() and parts[2].isdigit():
        return not alive(int(parts[2]))
    try:
        return time.time() - path.stat().st_mtime > _STALE_SECONDS
    except FileNotFoundError:
        return False


def _host() -> str:
    return socket.gethostname().replace(".", "-")
