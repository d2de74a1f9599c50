"""A store opened once for all that one answer needs, with a time limit.

    with reading(home, timeout=10) as store:
        store.arrow("SELECT ...", {...})

The database is open, and writers wait, only inside the block.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from atlas.config import Home
from atlas.errors import QuestionError
from atlas.stores.clock import time_limit
from atlas.stores.duck import Duck

TIMEOUT = 60.0
"""Seconds an answer may take unless told otherwise."""


class Reading:
    """An open store: rows for a text, until the time is over."""

    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._end = time.monotonic() + timeout

    def arrow(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run a text and return all rows. Raises QuestionError when the time is over."""
        with time_limit(self._connection, self._end - time.monotonic()) as clock:
            try:
                table: pa.Table = self._connection.execute(sql, dict(parameters or {})).to_arrow_table()
                return table
            finally:
                if clock.expired:
                    raise QuestionError(
                        f"no answer within {self._timeout:g} s",
                        "a question that is answered in that time",
                        "Narrow it (fewer graphs, a higher floor or share), or allow more with --timeout",
                    )


@contextmanager
def reading(home: Home, timeout: float = TIMEOUT) -> Iterator[Reading]:
    """Open the store of a home to read. Raises StoreBusyError, StoreError."""
    with Duck(home).reading() as connection:
        yield Reading(connection, timeout)
