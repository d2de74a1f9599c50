"""The command `atlas circuit`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from atlas.options import emit, home_of, home_option, output_options
from ingest.run_options import run_options

if TYPE_CHECKING:
    from ingest.interventions.circuit import Report

_SHOWN = ("slug", "other_slug", "answer", "rival", "kept", "size", "components", "share", "random_kept")


@click.command()
@click.argument("graphs", nargs=-1, metavar="[GRAPH OTHER]")
@click.option("--pairs", "file", type=click.Path(path_type=Path), help='File of lines {"graph": ..., "other": ...}.')
@click.option("--pair", help="All graphs whose prompt lines name this pair, each against each that answers unlike.")
@click.option(
    "--keep",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="Share of the answer that the circuit must keep.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=10, show_default=True, help="Points at which gradients are taken."
)
@click.option(
    "--rounds", type=click.IntRange(0), default=4, show_default=True, help="Times it is grown and pruned again."
)
@click.option("--controls", type=click.IntRange(0), default=20, show_default=True, help="Random circuits beside each.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the random circuits."
)
@run_options
@home_option
@output_options
def circuit(
    graphs: tuple[str, ...],
    file: Path | None,
    pair: str | None,
    keep: float,
    steps: int,
    rounds: int,
    controls: int,
    seed: int,
    model: str | None,
    transcoders: str | None,
    device: str,
    precision: str | None,
    out: Path | None,
    home: Path | None,
    form: str | None,
) -> None:
    """Find the smallest circuit that keeps an answer when everything else is as in another run.

    OTHER is the counterfactual: the same question about another picture, with another answer. Components are features
    and errors at their positions, and the embeddings of positions, as far as they differ between the two runs. Those
    of the circuit are live; all others take their values from OTHER's run, and nothing else is held. What is kept is
    the answer's logit minus that of OTHER's answer, 1 with nothing replaced and 0 with everything replaced. The random
    circuits have as many components of each kind, layer and modality. Beside it stands what all features keep with
    errors replaced, what all errors keep with features replaced, and what the nodes of the pruned graph keep.

    With several pairs the last object of --json is their summary: means with 95 % bootstrap intervals over the pairs.

    \b
    atlas circuit sum-3-4-a sum-6-2-a
    atlas circuit moons-mars-a moons-earth-a --keep 0.9 --out circuit.png
    atlas circuit --pairs pairs.jsonl --json
    """
    from ingest.interventions.case import Laboratory
    from ingest.interventions.circuit import summary
    from ingest.interventions.circuit_pairs import chosen_pairs, circuits
    from ingest.interventions.circuit_search import Search

    if out is not None:
        from atlas.figures import picture_format
        from ingest.interventions.circuit_picture import draw

        picture_format(out)  # before anything slow
    place = home_of(home)
    pairs = chosen_pairs(place, graphs, file, pair)
    laboratory = Laboratory(place, model=model, transcoders=transcoders, device=device, precision=precision)
    found = circuits(place, laboratory, pairs, Search(keep, steps, rounds), controls, seed)
    if form is not None:
        rows = [report.row() for report in found]
        emit(rows if len(found) == 1 or form != "json" else [*rows, summary(found)], form)
    else:
        _show(found)
    if out is not None:
        click.echo(f"wrote {draw(place, found, out)}", err=True)


def _show(found: "list[Report]") -> None:
    from ingest.interventions.circuit import summary

    emit([{name: report.row()[name] for name in _SHOWN} for report in found], None, title="Circuits")
    click.echo()
    if len(found) == 1:
        one = found[0]
        click.echo(f"kept by all features, errors replaced: {one.features_kept:.3f}")
        click.echo(f"kept by all errors, features replaced: {one.errors_kept:.3f}")
        click.echo(f"kept by the {one.graph_size} nodes of the pruned graph: {one.graph_kept:.3f}\n")
        emit([vars(part) for part in one.parts if part.kept], None, title="Made of")
        click.echo(f"\n{' '.join(map(str, one.nodes))}")
    else:
        whole = summary(found)
        for name in ("size", "share", "kept", "random_kept", "graph_kept", "features_kept", "errors_kept"):
            if name in whole:
                low, high = whole[f"{name}_low"], whole[f"{name}_high"]
                interval = "" if low is None else f", 95 % {low:.4g} to {high:.4g}"
                click.echo(f"{name}: {whole[name]:.4g} on average over {len(found)} pairs{interval}")
