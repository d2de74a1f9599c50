"""Options and output that all commands share. Imports click only, so that help is instant."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from atlas.config import DEFAULT_HOME, HOME_VARIABLE, Home, home_path, open_home

if TYPE_CHECKING:
    import pyarrow as pa

Command = TypeVar("Command", bound=Callable[..., Any])


def home_option(command: Command) -> Command:
    """Add --home; the command receives `home`, a path or None (see `home_of`)."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        default=None,
        callback=_inherit_home,
        help=f"Folder of the atlas.  [default: ${HOME_VARIABLE}, else ./{DEFAULT_HOME}]",
    )(command)


def home_of(path: Path | None, create: bool = False) -> Home:
    """Open the home an option named. Raises HomeError."""
    from atlas.log import log_to

    home = open_home(path, create=create)
    log_to(home)
    return home


def check_home(path: Path | None) -> None:
    """Refuse a home that is there but cannot be used, before anything slow is done. Raises HomeError."""
    if Home(home_path(path)).marker.exists():
        open_home(path)


def output_options(command: Command) -> Command:
    """Add --json, --csv and --arrow; the command receives `form`: json, csv, arrow or None for people."""
    for name, help in (
        ("arrow", "Print an Arrow IPC stream."),
        ("csv", "Print CSV."),
        ("json", "Print one JSON list of objects."),
    ):
        command = click.option(f"--{name}", "form", flag_value=name, default=None, help=help)(command)
    return command


def emit(
    rows: "pa.Table | Sequence[dict[str, Any]]",
    form: str | None,
    title: str = "",
    empty: str = "nothing found",
) -> None:
    """Print rows in the form asked for: data to stdout; for people a table, or one line on stderr if it is empty."""
    import pyarrow as pa

    if form == "json":
        records = rows.to_pylist() if isinstance(rows, pa.Table) else list(rows)
        click.echo(json.dumps([_plain(record) for record in records], ensure_ascii=False, indent=1, default=str))
        return
    if form is not None:
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows))
        sink = sys.stdout.buffer
        if form == "csv":
            import pyarrow.csv

            pyarrow.csv.write_csv(_flat(table), sink)
        else:
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
        sink.flush()
        return
    if len(rows) == 0:
        click.echo(empty, err=True)
        return
    _show(rows.to_pylist() if isinstance(rows, pa.Table) else list(rows), title)


def _show(records: list[dict[str, Any]], title: str) -> None:
    """A table as wide as the terminal, or wider: lines break between words only. A pipe gets each row on one line."""
    import shutil

    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
    on_screen = sys.stdout.isatty()
    least = most = -_GAP
    for name in records[0]:
        values = [record.get(name) for record in records]
        numeric = all(value is None or isinstance(value, int | float) for value in values)
        cells = [name, *map(_cell, values)]
        longest = max(map(_width, cells))
        words = longest if numeric else max((_width(word) for cell in cells for word in cell.split()), default=0)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", min_width=words)
        least, most = least + words + _GAP, most + longest + _GAP
    for record in records:
        table.add_row(*(_cell(record.get(name)) for name in records[0]))
    width = max(least, shutil.get_terminal_size().columns) if on_screen else max(most, len(title), 1)
    console = Console(width=width, highlight=False, markup=False)
    with console.capture() as printed:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))


_GAP = 2  # blanks between columns


def _width(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "-"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value)
    return repr(value)[1:-1] if isinstance(value, str) and not value.isprintable() else str(value)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no bytes."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return value.hex()
    return value


def _flat(table: "pa.Table") -> "pa.Table":
    """CSV has no lists: they become JSON text."""
    import pyarrow as pa

    for position, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            texts = [
                None if v is None else json.dumps(_plain(v), default=str) for v in table.column(position).to_pylist()
            ]
            table = table.set_column(position, column.name, pa.array(texts, pa.string()))
    return table


def _inherit_home(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """`atlas --home X list` and `atlas list --home X` mean the same."""
    if value is None:
        root = context.find_root()
        return root.params.get("home") if root is not context else None
    return value
