"""Failed inputs as rows of DuckDB."""

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
import sqlalchemy as sa

from atlas.artefact.failures import Failure
from atlas.stores.duck import Duck, insert_arrow
from atlas.stores.rows import arrow_rows


def failure_rows(failures: Sequence[Failure]) -> pa.Table:
    """Failures numbered by their line."""
    return arrow_rows("failure", [{"number": at, **asdict(failure)} for at, failure in enumerate(failures, start=1)])


def sync_failures(duck: Duck, failures: Sequence[Failure]) -> int:
    """Bring the table in line with the file, which only grows; how many there are."""
    found = int(duck.arrow("SELECT coalesce(max(number), 0) AS n FROM failure")["n"][0].as_py())
    if found != len(failures):
        with duck.writing() as connection:
            connection.execute(sa.text("DELETE FROM failure WHERE number > :n"), {"n": len(failures)})
            insert_arrow(connection, "failure", failure_rows(failures).slice(min(found, len(failures))))
    return len(failures)
