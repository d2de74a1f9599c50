"""DuckDB: one file that nobody keeps open. Every open, by reader or writer, passes the gate (atlas/stores/gate.py).

    with duck.reading() as connection:   a duckdb connection, read-only; several at a time
    with duck.writing() as connection:   an SQLAlchemy connection in one transaction; alone
    duck.arrow(sql, parameters)          one question as an Arrow table

A store that is not there yet, or of an older schema, is made or upgraded on the way.
Do not open a writer inside a reader of the same thread: it would wait for itself, and say so after the limit.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from atlas.config import Home
from atlas.errors import StoreBusyError, StoreError
from atlas.stores import revisions
from atlas.stores.gate import Gate

WAIT_SECONDS = 60.0
"""How long an open waits for the others before it gives up."""


class Duck:
    """The DuckDB store of a home."""

    def __init__(self, home: Home, path: Path | None = None, wait: float = WAIT_SECONDS) -> None:
        self.path = path or home.duckdb
        self.wait = wait
        self._gate = Gate(self.path, wait)

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only connection. Raises StoreBusyError, StoreError."""
        while True:
            with self._gate.reading():
                connection = self._open() if self.path.exists() else None
                if connection is not None:
                    try:
                        if revisions.is_current(_revision(connection)):
                            yield connection
                            return
                    finally:
                        connection.close()
            with self.writing():
                pass  # which makes or upgrades it

    @contextmanager
    def open_writer(self) -> Iterator[sa.Connection]:
        """A connection to begin transactions on; its schema is current. Raises StoreBusyError, StoreError."""
        with self._gate.writing():
            engine = sa.create_engine(sa.URL.create("duckdb", database=str(self.path)), poolclass=NullPool)
            try:
                with self._connect(engine) as connection:
                    with connection.begin():
                        revisions.upgrade(connection)
                    yield connection
            finally:
                engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """An SQLAlchemy connection in one transaction: all of it happens, or nothing."""
        with self.open_writer() as connection, connection.begin():
            yield connection

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Hold the gate as a writer without opening the file, to replace it."""
        with self._gate.writing():
            yield

    def arrow(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> pa.Table:
        """Rows of one question."""
        with self.reading() as connection:
            return connection.execute(sql, parameters).to_arrow_table()

    def arrows(self, questions: Mapping[str, str]) -> dict[str, pa.Table]:
        """Rows of several questions behind one opening, so that no writer comes between them."""
        with self.reading() as connection:
            return {name: connection.execute(sql).to_arrow_table() for name, sql in questions.items()}

    def _open(self) -> duckdb.DuckDBPyConnection:
        """Open read-only; again until the limit, because programs outside (a DuckDB shell) know no gate."""
        end = time.monotonic() + self.wait
        while True:
            try:
                return duckdb.connect(str(self.path), read_only=True)
            except duckdb.IOException as error:
                _raise_unless_locked(error, self.path, end, self.wait)

    def _connect(self, engine: sa.Engine) -> sa.Connection:
        end = time.monotonic() + self.wait
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                return engine.connect()
            except sa.exc.DBAPIError as error:
                if not isinstance(error.orig, duckdb.Error):
                    raise
                _raise_unless_locked(error.orig, self.path, end, self.wait)


def insert_arrow(connection: sa.Connection, table: str, rows: pa.Table, new_only: bool = False) -> None:
    """Insert rows in bulk, in the connection's transaction; with `new_only`, those whose key is not there yet."""
    driver: Any = connection.connection.driver_connection
    driver.register("rows_to_insert", rows)
    try:
        rest = " ON CONFLICT DO NOTHING" if new_only else ""
        driver.execute(f'INSERT INTO "{table}" BY NAME SELECT * FROM rows_to_insert{rest}')  # noqa: S608  # tables are named by our code
    finally:
        driver.unregister("rows_to_insert")


def _revision(connection: duckdb.DuckDBPyConnection) -> str | None:
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except duckdb.CatalogException:
        return None
    return None if row is None else str(row[0])


def _raise_unless_locked(error: duckdb.Error, path: Path, end: float, wait: float) -> None:
    """Sleep a little if another program has the file open and there is time left, else raise."""
    if "lock" not in str(error).lower():
        raise StoreError(
            f"{path} cannot be opened ({str(error).splitlines()[0]})",
            "a DuckDB file of this atlas",
            "Run `atlas rebuild`: it makes the store again from the artefacts",
        ) from error
    if time.monotonic() >= end:
        raise StoreBusyError(
            f"{path} is open in another program ({str(error).splitlines()[0]}); waited {wait:g} s",
            "it to be closed within that time",
            "Close that program, or ask again when it has finished",
        ) from error
    time.sleep(0.02)
