"""What is stored, pending and failed; and bringing the schema up to date."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from atlas.options import emit, home_of, home_option, output_options


@click.command()
@home_option
@output_options
@click.option("--failures", is_flag=True, help="List the inputs that failed, with the reason of each.")
def status(home: Path | None, form: str | None, failures: bool) -> None:
    """Say what is stored, pending and failed.

    \b
    atlas status
    atlas status --failures --json
    """
    from atlas.artefact.failures import read_failures

    place = home_of(home)
    failed = [asdict(failure) for failure in read_failures(place)]
    if failures:
        emit(failed, form, empty="no input failed")
        return
    rows = _facts(place, len(failed))
    emit(rows, form, title=str(place.root))
    if form is None and failed:
        click.echo("atlas status --failures says what failed and why", err=True)


@click.command()
@home_option
def migrate(home: Path | None) -> None:
    """Bring the database schema up to date.

    \b
    atlas migrate
    """
    from atlas.stores.migrate import upgrade

    click.echo(f"DuckDB is at revision {upgrade(home_of(home))}")


def _facts(place: Any, failed: int) -> list[dict[str, Any]]:
    from atlas.artefact.read import graph_ids
    from atlas.stores.duck import Duck

    ids = set(graph_ids(place))
    duck = Duck(place)
    loaded: dict[str, set[str]] = {"duckdb": set(), "vectors": set()}
    counts: dict[str, int] = {}
    if place.duckdb.exists():
        for row in duck.arrow("SELECT store, id FROM projection").to_pylist():
            loaded.setdefault(row["store"], set()).add(row["id"])
        for table in ("node", "edge", "feature", "activation", "near_duplicate"):
            counts[table] = duck.arrow(f"SELECT count(*) AS n FROM {table}").to_pylist()[0]["n"]  # noqa: S608  # our names
    rows: list[dict[str, Any]] = [{"what": "graphs (artefacts)", "count": len(ids), "remark": ""}]
    for store in ("duckdb", "vectors"):
        pending = len(ids - loaded[store])
        remark = f"{pending} pending: run `atlas load`" if pending else "complete"
        rows.append({"what": f"graphs in {store}", "count": len(loaded[store] & ids), "remark": remark})
    remarks = {"near_duplicate": "pairs at cosine 0.9 or more"}
    rows += [
        {"what": f"{table} rows", "count": count, "remark": remarks.get(table, "")} for table, count in counts.items()
    ]
    rows.append({"what": "failed inputs", "count": failed, "remark": ""})
    return rows
