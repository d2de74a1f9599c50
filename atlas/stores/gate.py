"""The gate before DuckDB's file, and the lock of the loader: flock files, so that a lock dies with its process.

DuckDB lets one process write, or several read, and an open refused is not queued: readers in a loop would keep a
writer out for ever (docs/decisions: measured, none of its writes in 30 s). So every open passes two lock files:

    reader   gate shared -> lock shared -> let go of the gate -> open, ask, close -> let go of the lock
    writer   gate exclusive -> lock exclusive -> open, write, close -> let go of both

A waiting writer holds the gate, so no new reader comes in and it goes next.
"""

import errno
import fcntl
import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from atlas.errors import StoreBusyError

_RECORD_BYTES = 256  # the holder's name is one write of fixed length, so that a longer one before it leaves no rest
_POLL_SECONDS = 0.004


class LockFile:
    """A file that is only there to be locked; its content says who locked it last."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def hold(
        self, exclusive: bool, wait: float, what: str, on_wait: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        """Hold the lock, waiting up to `wait` seconds; `on_wait` is told the holder once. Raises StoreBusyError."""
        descriptor = self._open()
        if descriptor is None:
            yield
            return
        try:
            self._wait(descriptor, exclusive, wait, what, on_wait)
            self._sign(descriptor, "writing" if exclusive else "reading")
            yield
        finally:
            os.close(descriptor)  # which also unlocks

    def holder(self) -> str:
        """Who locked the file last, for a message."""
        try:
            record = json.loads(self.path.read_text())
            return f"process {record['pid']} on {record['host']}, {record['doing']} since {record['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "a process that did not sign"

    def _open(self) -> int | None:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            if error.errno not in {errno.EROFS, errno.EACCES}:
                raise
        try:
            return os.open(self.path, os.O_RDONLY)  # who may only read can still wait for those who write
        except FileNotFoundError:
            return None  # nobody has ever locked it, and who may not make it does not write

    def _wait(
        self, descriptor: int, exclusive: bool, wait: float, what: str, on_wait: Callable[[str], None] | None
    ) -> None:
        mode = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
        end = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, mode)
                return
            except BlockingIOError:
                pass
            if time.monotonic() >= end:
                raise StoreBusyError(
                    f"{what} is held by {self.holder()}; waited {wait:g} s",
                    "it to be free within that time",
                    "Try again when that process has finished, or stop it",
                )
            if on_wait is not None:
                on_wait(self.holder())
                on_wait = None
            time.sleep(_POLL_SECONDS * random.uniform(0.5, 1.5))

    def _sign(self, descriptor: int, doing: str) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            return
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record = json.dumps({"pid": os.getpid(), "host": socket.gethostname()[:64], "doing": doing, "since": since})
        os.pwrite(descriptor, record.ljust(_RECORD_BYTES - 1).encode() + b"\n", 0)


class Gate:
    """The two lock files beside a database file."""

    def __init__(self, database: Path, wait: float) -> None:
        self.database = database
        self.wait = wait
        self._gate = LockFile(database.with_name(database.name + ".gate"))
        self._lock = LockFile(database.with_name(database.name + ".lock"))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Be one of several readers. Raises StoreBusyError."""
        end = time.monotonic() + self.wait
        with ExitStack() as held:
            with self._gate.hold(False, self.wait, str(self.database)):
                held.enter_context(self._lock.hold(False, max(end - time.monotonic(), 0.0), str(self.database)))
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only one. Raises StoreBusyError."""
        end = time.monotonic() + self.wait
        with ExitStack() as held:
            held.enter_context(self._gate.hold(True, self.wait, str(self.database)))
            held.enter_context(self._lock.hold(True, max(end - time.monotonic(), 0.0), str(self.database)))
            yield
