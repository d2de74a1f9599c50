"""The command `atlas compare`."""

from pathlib import Path

import click

from atlas.options import emit, home_of, home_option, output_options

_PEOPLE = 8
_PROGRAMS = 10_000


@click.command()
@click.argument("graphs", nargs=-1, required=True, metavar="A B [C]...")
@click.option(
    "--fold",
    type=click.FloatRange(0, 1, min_open=True),
    help="Count near-duplicates from this cosine on as one feature.  [default: only the same feature counts]",
)
@click.option("--unlike", is_flag=True, help="Compare although sets, conventions, precisions or thresholds differ.")
@click.option(
    "--rows",
    "by",
    type=click.Choice(["features", "layers", "edges"]),
    default="features",
    show_default=True,
    help="What --json, --csv and --arrow print.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    help=f"Most rows.  [default: {_PEOPLE} features a section for people, {_PROGRAMS} with --json, --csv or --arrow]",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Draw it, too: a .png or .svg file.")
@home_option
@output_options
def compare(
    graphs: tuple[str, ...],
    fold: float | None,
    unlike: bool,
    by: str,
    limit: int | None,
    out: Path | None,
    home: Path | None,
    form: str | None,
) -> None:
    """Compare graphs: what all of them keep, what only one does, by layer and modality.

    A percentage is a share of the graph's influence. A feature that is not kept in a graph may still fire there: the
    activations before pruning say so; of imported graphs that is unknown.

    \b
    atlas compare moons-mars-a moons-earth-a
    atlas compare moons-mars-a moons-earth-a --fold 0.8 --out moons.png
    """
    from query.compare import compare as run

    if out is not None:
        from atlas.figures import picture_format
        from query.compare_picture import draw

        picture_format(out)  # before anything slow
    made = run(home_of(home), graphs, fold, unlike)
    if form is not None:
        table = made.rows(by)
        emit(table.slice(0, limit or _PROGRAMS), form)
        if table.num_rows > (limit or _PROGRAMS):
            click.echo(f"stopped at {limit or _PROGRAMS} rows; --limit allows more", err=True)
    else:
        _show(made, fold, limit or _PEOPLE)
    for remark in made.remarks:
        click.echo(f"note: {remark}", err=True)
    if out is not None:
        click.echo(f"wrote {draw(made, out)}", err=True)


def _show(made: object, fold: float | None, most: int) -> None:
    from query import compare_text as text
    from query.compare import Comparison

    assert isinstance(made, Comparison)
    for line in text.summary(made, fold):
        click.echo(line)
    sections = [("", text.graph_lines(made)), ("By layer and modality", text.layer_lines(made))]
    for title, rows in [*sections, *text.feature_sections(made, most)]:
        if rows:
            click.echo(f"\n{click.style(title, bold=True)}" if title else "")
            emit(rows, None)
