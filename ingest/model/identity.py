"""Names that stay true: a model or a transcoder set is its repository and revision, or the hash of its files.

Hashing gigabytes again and again would be slow, so the hash of a large file is kept beside its size, change time and
inode in the user's cache folder. Losing that file costs time and nothing else.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CACHED_FROM = 16 * 2**20
"""Bytes from which a file's hash is kept between processes."""

_NOTES = (".md", ".pdf", ".png", ".jpg")  # read by people, not by the model


@dataclass(frozen=True)
class Identity:
    """What a thing is, independent of where it lies."""

    name: str
    """Repository or folder name, for people."""
    revision: str | None
    """Commit of the repository; None for a local folder."""
    content: str | None
    """sha256 over the files of a local folder; None for a repository, whose commit says it all."""

    @property
    def key(self) -> str:
        """One text that is equal exactly when the thing is: goes into ids."""
        return f"{self.name}@{self.revision}" if self.content is None else f"sha256:{self.content}"


def folder_files(folder: Path) -> list[Path]:
    """The files of a folder that can change a result, in order of their names."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() not in _NOTES)
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def content_hash(files: dict[str, Path]) -> str:
    """sha256 over names and contents; equal folders have equal hashes wherever they lie."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(json.dumps([name, file_hash(files[name])]).encode())
    return whole.hexdigest()


def folder_hash(folder: Path) -> str:
    """The content hash of all files of a folder."""
    return content_hash({path.relative_to(folder).as_posix(): path for path in folder_files(folder)})


def file_hash(path: Path) -> str:
    """sha256 of one file's bytes; from the cache when size, change time and inode are those of last time."""
    status = path.stat()
    if status.st_size < CACHED_FROM:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    key, stamp = str(path.resolve()), [status.st_size, status.st_mtime_ns, status.st_ino]
    known = _read_cache()
    entry = known.get(key)
    if isinstance(entry, list) and len(entry) == 2 and entry[0] == stamp and isinstance(entry[1], str):
        return entry[1]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _write_cache({**_read_cache(), key: [stamp, digest]})
    return digest


def _cache_file() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "circuit-atlas" / "file-hashes.json"


def _read_cache() -> dict[str, Any]:
    try:
        known = json.loads(_cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_cache(known: dict[str, Any]) -> None:
    target = _cache_file()
    aside = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(known))
        os.replace(aside, target)
    except OSError:
        return  # a home that cannot be written costs hashing again, no more
