"""The command `atlas patch`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atlas.options import emit, home_of, home_option
from ingest.run_options import run_options

if TYPE_CHECKING:
    from ingest.interventions.patch import Patched
    from ingest.interventions.patch_graphs import PatchedGraphs

_AT = "prompt, image, text, last, slot:NAME, image:0, cell:ROW,COL, or positions as in 5,6,-1"


@click.command()
@click.argument("donor", metavar="A")
@click.argument("recipient", metavar="B")
@click.argument("names", nargs=-1, metavar="[FEATURE|SUPERNODE]...")
@click.option("--at", default="prompt", show_default=True, help=f"Where in B: {_AT}.")
@click.option("--layers", metavar="FIRST-LAST", help="Look for features in these layers only.")
@click.option("--features", type=click.IntRange(1), help="Features to look for, at most.  [default: 128]")
@click.option(
    "--controls", type=click.IntRange(0), default=20, show_default=True, help="Runs of each of the two controls."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the controls.")
@click.option(
    "--mode",
    type=click.Choice(["free", "iterative", "frozen"]),
    default="free",
    show_default=True,
    help="What may follow: everything; all but attention patterns; only the graph's edges.",
)
@click.option("--generate", type=click.IntRange(0), default=8, show_default=True, help="Tokens to write at most.")
@run_options
@click.option("--no-evidence", is_flag=True, help="Leave no trace in the atlas.")
@home_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list with one object.")
def patch(donor: str, recipient: str, names: tuple[str, ...], **options: Any) -> None:
    """Copy features of A's run into B's, and see whether B's answer becomes A's, and what else follows.

    FEATURE is layer/index, or layer/index@position. Without any, those are copied that do most, by their gradients, for
    A's answer against B's. Positions correspond by the cells of pictures and the tokens of texts. Beside it run two
    controls: as many other features of the same layers, at the same positions as far as enough of them differ there,
    and random directions as strong as what the patch writes, place by place. What came of it is kept as evidence beside
    B's edges (`atlas ask flipping-features`).

    \b
    atlas patch moons-earth-a moons-mars-a
    atlas patch moons-earth-a moons-mars-a --layers 0-4 --features 256 --out patch.png
    atlas patch moons-earth-a moons-mars-a "planet seen" 3/1042@27 --at image --json
    """
    from atlas.errors import InputError
    from ingest.interventions.patch_graphs import Wish, parse_layers, patch_graphs, record

    out: Path | None = options["out"]
    layers, features = options["layers"], options["features"]
    if names and (layers is not None or features is not None):
        raise InputError(
            f"{'--layers' if layers is not None else '--features'} beside named features",
            "one of the two: they are for features that are looked for",
        )
    home = home_of(options["home"])
    if out is not None:
        from atlas.figures import picture_format

        picture_format(out)  # before anything slow
    from ingest.interventions.case import Laboratory
    from ingest.interventions.patch import FEATURES
    from ingest.interventions.record import keep
    from ingest.progress import bar

    wish = Wish(names, options["at"], None if layers is None else parse_layers(layers), features or FEATURES)
    laboratory = Laboratory(
        home,
        model=options["model"],
        transcoders=options["transcoders"],
        device=options["device"],
        precision=options["precision"],
    )
    with bar("running the model"):
        made = patch_graphs(
            home,
            laboratory,
            donor,
            recipient,
            wish,
            options["mode"],
            controls=options["controls"],
            seed=options["seed"],
            generate=options["generate"],
        )
    if options["as_json"]:
        emit([record(made)], "json")
    else:
        _show(made)
    if not options["no_evidence"]:
        new = keep(home, made.evidence)
        before = len(made.evidence) - new
        told = f"evidence: {new} new" + (f", {before} as before" if before else "")
        click.echo(told if made.evidence else "no evidence: nothing copied is a node of B, or no single one", err=True)
    if out is not None:
        from ingest.interventions.patch_picture import draw

        click.echo(f"wrote {draw(made, out)}", err=True)


def _show(patched: "PatchedGraphs") -> None:
    from ingest.interventions.patch_graphs import control_rows

    made = patched.made
    report = made.report
    click.echo(click.style(f"{patched.donor} -> {patched.recipient}, {made.mode}", bold=True))
    wanted = made.pair.recipient.model.tokenizer.decode([made.pair.wanted]).strip()
    given = report.answer.text.strip()
    became = "became A's" if made.became else "did not become A's"
    click.echo(f"{len(made.chosen)} features of {made.candidates} that differ are copied; the answer {became}")
    click.echo(f"A says {wanted!r}; B says {report.said_before!r}, and then {report.said_after!r}")
    leads = f"{made.lead_before:.2f} -> {made.lead_after:.2f}, in A {made.lead_donor:.2f}"
    click.echo(f"logit {wanted} - {given}: {leads}")
    if made.smallest is not None:
        click.echo(f"the first {made.smallest} of them suffice")
    click.echo()
    emit([{"token": t.text, "before": t.before, "after": t.after} for t in report.tokens], None)
    click.echo()
    emit(_places(made), None, title="Features copied")
    if made.controls:
        click.echo()
        emit(control_rows(made), None, title="Controls")
    click.echo()
    click.echo(click.style("Features after the patch, not copied: share that moved to A's values", bold=True))
    emit(_downstream(made), None)


def _places(made: "Patched") -> list[dict[str, Any]]:
    """Layer by layer, how many features are copied where."""
    case, rows = made.pair.recipient, []
    soft = [position.modality == "image" for position in case.inputs.positions]
    for layer in sorted(set(made.chosen.layers.tolist())):
        places = made.chosen.positions[made.chosen.layers == layer].tolist()
        at_answer = sum(place == case.answer_position for place in places)
        on_image = sum(soft[place] for place in places)
        rows.append(
            {"layer": layer, "image": on_image, "text": len(places) - on_image - at_answer, "answer": at_answer}
        )
    return rows


def _downstream(made: "Patched") -> list[dict[str, Any]]:
    """Where, how many, and the share that moved, by the patch and by each control."""
    from ingest.interventions.patch import CONTROL_KINDS
    from ingest.interventions.patch_graphs import mean_shifts

    names = {"features": "other features", "directions": "random directions"}
    columns = {names[kind]: mean_shifts(made.control(kind)) for kind in CONTROL_KINDS if made.control(kind)}
    rows = []
    for number, shift in enumerate(made.shifts):
        row: dict[str, Any] = {"where": f"layer {shift.where}" if shift.where.isdigit() else shift.where}
        row |= {"features": shift.features, "moved": shift.moved}
        row |= {name: shifts[number].moved for name, shifts in columns.items()}
        rows.append(row | {"moved, by worth": shift.moved_worth, "progress": shift.progress})
    return rows
