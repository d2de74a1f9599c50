"""A time limit for one statement: a timer that interrupts the connection."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb


class Clock:
    """Interrupts a connection once, unless stopped before."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, seconds: float) -> None:
        self.expired = False
        """Whether it interrupted."""
        self._connection = connection
        self._lock = threading.Lock()
        self._running = True
        self._timer = threading.Timer(max(seconds, 0.0), self._expire)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """From now on it does not interrupt."""
        self._timer.cancel()
        with self._lock:
            self._running = False

    def _expire(self) -> None:
        with self._lock:  # never interrupt a connection that was closed meanwhile
            if self._running:
                self.expired = True
                self._connection.interrupt()


@contextmanager
def time_limit(connection: duckdb.DuckDBPyConnection, seconds: float) -> Iterator[Clock]:
    """Within the block statements are interrupted after `seconds`; the clock then says that it expired."""
    clock = Clock(connection, seconds)
    try:
        yield clock
    finally:
        clock.stop()
