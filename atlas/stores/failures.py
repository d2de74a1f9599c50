"""Failed inputs as rows of DuckDB."""

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa
import sqlalchemy as sa

from atlas.artefact.failures import Failure
from atlas.stores.duck import Duck, insert_arrow
from atlas.stores.rows import arrow_rows


def failure_rows(failures: Sequence[Failure]) -> pa.Table:
    """Failures as rows."""
    return arrow_rows("failure", [asdict(failure) for failure in failures])


def sync_failures(duck: Duck, failures: Sequence[Failure]) -> int:
    """Bring the table in line with the file; how many there are."""
    stored = duck.arrow("SELECT number FROM failure ORDER BY number")["number"].to_pylist()
    if stored != [failure.number for failure in failures]:
        with duck.writing() as connection:
            connection.execute(sa.text("DELETE FROM failure"))
            insert_arrow(connection, "failure", failure_rows(failures))
    return len(failures)
