"""Options of all commands that run graphs again (ingest/interventions/case.py, Laboratory)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_OPTIONS = (
    click.option("--model", help="Where the graph's model lies, if not where it was; `demo` is the shipped one."),
    click.option("--transcoders", help="Where its transcoders lie, if not where they were."),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N."),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "fp64", "tf32", "bf16"]),
        help="How numbers round.  [default: the graph's]",
    ),
    click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Draw it, too: a .png or .svg file."),
)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --model, --transcoders, --device, --precision and --out to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
