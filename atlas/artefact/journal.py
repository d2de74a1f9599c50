"""Append-only files of JSON lines, safe for several processes and for a kill in the middle of a line.

A line counts once its newline is there. Readers leave out a torn last line; the next writer cuts it off before it
appends. Writers take turns by flock on the file itself, which is never renamed.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atlas.errors import ArtefactError


class Journal:
    """The lines of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[dict[str, Any]]:
        """All complete lines. Raises ArtefactError for a line that is no JSON object."""
        try:
            return self._parse(self.path.read_bytes())
        except FileNotFoundError:
            return []

    @contextmanager
    def writing(self) -> Iterator["Appender"]:
        """Hold the file alone: read its lines, then append some."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            data = _read_all(descriptor)
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                os.ftruncate(descriptor, whole)
            yield Appender(descriptor, self._parse(data[:whole]))
        finally:
            os.close(descriptor)  # which also unlocks

    def _parse(self, data: bytes) -> list[dict[str, Any]]:
        records = []
        for number, line in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n")[:-1], start=1):
            try:
                record = json.loads(line)
            except ValueError as error:
                record = error
            if not isinstance(record, dict):
                raise ArtefactError(
                    f"{self.path}, line {number} cannot be read",
                    "a JSON object",
                    "Restore the file from a copy; what it says cannot be made again",
                )
            records.append(record)
        return records


class Appender:
    """A journal held for writing."""

    def __init__(self, descriptor: int, records: list[dict[str, Any]]) -> None:
        self.records = records
        self._descriptor = descriptor

    def append(self, records: list[dict[str, Any]]) -> None:
        """Add lines; they are on disk when this returns."""
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()
        os.lseek(self._descriptor, 0, os.SEEK_END)
        view = memoryview(lines)
        while view:
            view = view[os.write(self._descriptor, view) :]
        os.fsync(self._descriptor)
        self.records.extend(records)


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts = []
    while size > 0 and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
