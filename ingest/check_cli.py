"""The command `atlas check`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from atlas.options import emit, home_of, home_option, output_options
from ingest.run_options import run_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.interventions.check import Checked

_MODES = ["frozen", "iterative", "free"]
_SHOWN = 10


@click.command()
@click.argument("graphs", nargs=-1, metavar="[GRAPH]...")
@click.option("--task", "tasks", multiple=True, help="All graphs of a task that were traced here; repeat for several.")
@click.option("--top", type=click.IntRange(1), default=50, show_default=True, help="Features taken away at most.")
@click.option(
    "--by",
    type=click.Choice(["influence", "direct"]),
    default="influence",
    show_default=True,
    help="The strongest: by influence in the graph, or by the size of the direct edge to the answer's lead.",
)
@click.option("--mode", "modes", type=click.Choice(_MODES), multiple=True, help="Only this mode.  [default: all three]")
@click.option(
    "--rows",
    type=click.Choice(["graphs", "features"]),
    default="graphs",
    show_default=True,
    help="What --json, --csv and --arrow print.",
)
@click.option("--evidence/--no-evidence", default=True, help="Keep what was seen in the atlas.  [default: evidence]")
@run_options
@home_option
@output_options
def check(
    graphs: tuple[str, ...],
    tasks: tuple[str, ...],
    top: int,
    by: str,
    modes: tuple[str, ...],
    rows: str,
    evidence: bool,
    model: str | None,
    transcoders: str | None,
    device: str,
    precision: str | None,
    out: Path | None,
    home: Path | None,
    form: str | None,
) -> None:
    """Compare what a graph says of its features with what taking them away does.

    The strongest features, each at its position, are ablated one by one, and the answer's logit minus its runner-up's
    is watched: with all but the edges held (frozen), with attention held (iterative), and with nothing held (free).
    What is printed is Spearman's rank correlation of predicted and observed change. Predictions: direct, minus the edge
    to this difference; paths, minus the effect over all paths of the frozen graph; gradient, the derivative of what a
    mode leaves free; norms, the same with the norms that the change meets first in full. The runner-up need not be in
    the graph, so edges to the difference are made anew. Frozen mode is told by `direct`, the others by `norms`.

    What was seen is kept as evidence, for the answer and for the five strongest edges of each feature: see
    `atlas ask contradicted-edges` and `atlas ask flipping-features`. The same check again adds nothing.

    \b
    atlas check sum-3-4-a
    atlas check sum-3-4-a sum-3-4-b --top 20 --mode free --out check.png
    atlas check --task sum --task moons --json
    """
    from typing import get_args

    from atlas.domain.evidence import MODES
    from ingest.interventions.case import Laboratory
    from ingest.interventions.check import Strength
    from ingest.interventions.check_many import check_graphs, chosen_graphs

    if out is not None:
        from atlas.figures import picture_format
        from ingest.interventions.check_picture import draw

        picture_format(out)  # before anything slow
    place = home_of(home)
    chosen = chosen_graphs(place, graphs, tasks)
    laboratory = Laboratory(place, model=model, transcoders=transcoders, device=device, precision=precision)
    strength = next(known for known in get_args(Strength) if known == by)
    asked = tuple(mode for mode in MODES if not modes or mode in modes)
    made, new = check_graphs(place, laboratory, chosen, top, strength, asked, evidence)
    if form is not None:
        emit([row for one in made for row in (one.feature_rows() if rows == "features" else [one.row()])], form)
    else:
        _show(made)
    if evidence:
        seen = sum(len(one.evidence) for one in made)
        click.echo(f"evidence: {new} rows added" + (f", {seen - new} as before" if seen > new else ""), err=True)
    if out is not None:
        click.echo(f"wrote {draw(made, out)}", err=True)


def _show(made: "Sequence[Checked]") -> None:
    from ingest.interventions.check_many import summary_rows

    modes = list(made[0].observed)
    if len(made) > 1:
        emit([_line(one) for one in made], None, title="Rank correlation of predicted and observed change of the lead")
        click.echo()
        emit(list(summary_rows(made, modes)), None, title="By prediction: median over graphs (least to largest)")
    else:
        one = made[0]
        click.echo(f"{one.slug}: {one.answer!r} leads {one.runner_up!r} by {one.lead:.3g} logits\n")
        emit(
            [
                {"prediction": row["prediction"]} | {mode: row[mode] for mode in modes}
                for row in summary_rows(made, modes)
            ],
            None,
            title=f"Rank correlations, {len(one.nodes)} features",
        )
        click.echo()
        emit(
            [_feature(row) for row in one.feature_rows()][:_SHOWN], None, title="Change of the lead, strongest features"
        )
    gaps = [one.frozen_gap for one in made if one.frozen_gap is not None]
    if gaps:
        click.echo(f"\nFrozen: edges and what was seen differ by {max(gaps):.0e} of what the target reads, at most.")
    for mode in modes:
        flips, runs = sum(int(one.flipped[mode].sum()) for one in made), sum(len(one.nodes) for one in made)
        click.echo(f"{mode}: {flips} of {runs} ablations change the answer.")


def _line(one: "Checked") -> dict[str, object]:
    from ingest.interventions.check import MAIN

    row: dict[str, object] = {"slug": one.slug, "answer": one.answer, "runner_up": one.runner_up, "lead": one.lead}
    return row | {"features": len(one.nodes)} | {mode: one.correlation(MAIN[mode], mode) for mode in one.observed}


def _feature(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != "slug" and not name.startswith("flipped")}
