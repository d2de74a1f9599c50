"""Free SQL from people: it may read the atlas's tables, for a limited time, and touch nothing else.

Three walls, because each alone has a door (measured; tests/stores/test_sandbox.py tries them):
    1. the text must parse as one SELECT, and may call only table functions of a short list
       (`SELECT * FROM enable_logging(...)` is a SELECT that changes the instance)
    2. it runs in a DuckDB instance of its own, with the store attached read-only, no access to files, network,
       extensions or Python's variables, a memory limit, and a locked configuration
    3. a timer interrupts it, and rows beyond the limit are not fetched
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from atlas.config import Home
from atlas.errors import QuestionError
from atlas.stores.clock import time_limit
from atlas.stores.duck import Duck

ROW_LIMIT = 10_000
SECONDS = 30.0
MEMORY = "2GB"
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree"})
"""Table functions that only compute."""
_SETTINGS = (
    "SET python_enable_replacements = false",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET temp_directory = ''",
    f"SET memory_limit = '{MEMORY}'",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_ONE_SELECT = "one SELECT (or WITH, FROM, VALUES, DESCRIBE, SHOW TABLES) that reads the atlas's tables"
_SEE = "See docs/schema.md for tables and columns"


class FreeAnswer(NamedTuple):
    """Rows of a free question."""

    table: pa.Table
    """The rows, up to the limit."""
    truncated: bool
    """Whether there are more."""


def free_sql(home: Home, text: str, row_limit: int = ROW_LIMIT, seconds: float = SECONDS) -> FreeAnswer:
    """Run a person's SQL. Raises QuestionError with the reason for whatever may not or cannot run, StoreBusyError."""
    duck = Duck(home)
    with duck.reading(), _instance(duck) as connection:  # reading keeps writers out while the instance has the file
        _check(connection, text)
        return _run(connection, text, row_limit, seconds)


@contextmanager
def _instance(duck: Duck) -> Iterator[duckdb.DuckDBPyConnection]:
    """An instance of its own: what a question might do to it ends with it."""
    connection = duckdb.connect(":memory:", config={"threads": "2"})
    try:
        path = str(duck.path).replace("'", "''")
        connection.execute(f"ATTACH '{path}' AS atlas (READ_ONLY)")
        connection.execute("USE atlas")
        for setting in _SETTINGS:
            connection.execute(setting)
        yield connection
    finally:
        connection.close()


def _check(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    try:
        statements = connection.extract_statements(text)
        if len(statements) != 1:
            raise QuestionError(
                f"the text holds {len(statements)} statements", _ONE_SELECT, "Ask one question at a time"
            )
        row = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchone()
    except duckdb.Error as error:
        raise QuestionError(_reason(error), _ONE_SELECT, _SEE) from error
    tree = json.loads(row[0]) if row else {"error": True}
    if tree.get("error"):
        kind = statements[0].type.name
        raise QuestionError(
            f"the text is a statement of type {kind}", _ONE_SELECT, "Questions read; they change nothing"
        )
    for name in _table_functions(tree):
        if name not in TABLE_FUNCTIONS:
            raise QuestionError(
                f"the text calls the table function {name}",
                f"only {', '.join(sorted(TABLE_FUNCTIONS))}",
                "Questions read the atlas's tables and nothing else",
            )


def _table_functions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if node.get("type") == "TABLE_FUNCTION":
            yield str(node.get("function", {}).get("function_name", "")).lower()
        for value in node.values():
            yield from _table_functions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _table_functions(value)


def _run(connection: duckdb.DuckDBPyConnection, text: str, row_limit: int, seconds: float) -> FreeAnswer:
    with time_limit(connection, seconds) as clock:
        try:
            return _fetch(connection, text, row_limit)
        except duckdb.OutOfMemoryException as error:
            raise QuestionError(
                f"the question needs more than {MEMORY} of memory",
                "an answer within that limit",
                "Ask for less: name graphs or features, or aggregate",
            ) from error
        except (duckdb.Error, pa.ArrowException) as error:
            if clock.expired:
                raise QuestionError(
                    f"the question ran longer than {seconds:g} s",
                    "an answer within that time",
                    "Ask for less: name graphs or features, or raise --timeout",
                ) from error
            raise QuestionError(_reason(error), _ONE_SELECT, _SEE) from error


def _fetch(connection: duckdb.DuckDBPyConnection, text: str, row_limit: int) -> FreeAnswer:
    reader = connection.execute(text).to_arrow_reader(2048)
    batches, count = [], 0
    for batch in reader:
        batches.append(batch)
        count += batch.num_rows
        if count > row_limit:
            break
    rows = pa.Table.from_batches(batches, schema=reader.schema).slice(0, row_limit)
    return FreeAnswer(rows.rename_columns(_told_apart(rows.column_names)), count > row_limit)


def _told_apart(names: list[str]) -> list[str]:
    """The names, a repeated one with its number behind it: a row as a record would keep one of them."""
    found: list[str] = []
    for name in names:
        number, free = 2, name
        while free in found or (free != name and free in names):
            free, number = f"{name}_{number}", number + 1
        found.append(free)
    return found


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
