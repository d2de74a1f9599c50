"""The commands `atlas steer` and `atlas ablate`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atlas.options import emit, home_of, home_option
from ingest.run_options import run_options

if TYPE_CHECKING:
    from atlas.domain.evidence import Action
    from atlas.domain.plan import Plan
    from ingest.interventions.steer import Steered, Steering

_AT = "all, prompt, image, text, last, generated, slot:NAME, image:0, cell:ROW,COL, or positions as in 5,6,-1."
_GIVEN: "tuple[Action, ...]" = ("set", "scale", "add")


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Arguments and options that both commands share."""
    for option in reversed(
        (
            click.argument("graph"),
            click.argument("names", nargs=-1, metavar="[FEATURE|SUPERNODE]..."),
            click.option("--plan", "plan_file", metavar="FILE", help="A plan as JSON instead; - is standard input."),
            click.option(
                "--features-from",
                metavar="FILE",
                help="Features in the rows of a question's --json instead; - is standard input.",
            ),
            click.option("--at", help=f"Where: {_AT}  [default: all]"),
            click.option(
                "--mode",
                type=click.Choice(["free", "iterative", "frozen"]),
                default="free",
                show_default=True,
                help="What may follow: everything; all but attention patterns; only the graph's edges.",
            ),
            click.option(
                "--generate", type=click.IntRange(0), default=8, show_default=True, help="Tokens to write at most."
            ),
            click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Tokens shown."),
            click.option(
                "--moved", type=click.IntRange(0), default=10, show_default=True, help="Moved features shown."
            ),
            click.option("--no-evidence", is_flag=True, help="Leave no trace in the atlas."),
            run_options,
            home_option,
            click.option("--json", "as_json", is_flag=True, help="Print one JSON list of objects, one a run."),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.option("--add", type=float, metavar="V", help="Add V to each activation.")
@click.option("--scale", type=float, metavar="S", help="Multiply each activation by S.")
@click.option("--set", type=float, metavar="V", help="Make each activation V.")
@click.option(
    "--dose",
    metavar="D,D,...",
    help="Run it at several strengths: V or S times each D. Without V or S the doses are factors, as of --scale 1.",
)
@_common
def steer(dose: str | None, **options: Any) -> None:
    """Change features of a graph while the model runs, and see what it says then.

    FEATURE is layer/index, or layer/index@position. What came of it is kept as evidence beside the graph's edges
    (`atlas ask contradicted-edges`, `atlas ask flipping-features`).

    \b
    atlas steer sum-3-4-a 3/1042 --scale 2
    atlas steer sum-3-4-a 3/1042@27 --dose 0,1,2,4 --out curves.png
    atlas steer moons-mars-a "mars seen" --set 8 --at image --mode iterative
    atlas steer moons-mars-a --plan plan.json --json
    """
    from atlas.errors import InputError
    from ingest.interventions.dose import parse_doses

    doses = () if dose is None else parse_doses(dose)
    given = {name: options.pop(name) for name in _GIVEN}
    named = {name: value for name, value in given.items() if value is not None}
    if options["plan_file"] is not None:
        if named:
            raise InputError(f"--{next(iter(named))} beside --plan", "one of the two", "Write it into the plan")
        _run(options, "scale", None, doses)
        return
    if not named and doses:
        named = {"scale": 1.0}
    if len(named) != 1:
        found = " beside ".join(f"--{name}" for name in named) or "nothing that is to be done"
        raise InputError(found, "one of --set V, --scale S, --add V", "To take features away use `atlas ablate`")
    ((action, value),) = named.items()
    _run(options, action, value, doses)


@click.command()
@_common
def ablate(**options: Any) -> None:
    """Take features of a graph away while the model runs, and see what it says then.

    FEATURE is layer/index, or layer/index@position. What came of it is kept as evidence beside the graph's edges
    (`atlas ask contradicted-edges`, `atlas ask flipping-features`).

    \b
    atlas ablate sum-3-4-a 3/1042
    atlas ablate sum-3-4-a "digit three" --at image --mode frozen
    atlas ask answer-drivers --graph sum-3-4-a --limit 5 --json | atlas ablate sum-3-4-a --features-from -
    """
    _run(options, "ablate", None, ())


def _run(options: dict[str, Any], action: "Action", value: float | None, doses: tuple[float, ...]) -> None:
    out: Path | None = options["out"]
    home = home_of(options["home"])
    if out is not None:
        from atlas.figures import picture_format

        picture_format(out)  # before anything slow
    plan = _plan(options, action, value)
    from ingest.interventions.case import Laboratory
    from ingest.interventions.record import keep
    from ingest.interventions.steer import records, steer
    from ingest.progress import bar

    laboratory = Laboratory(
        home,
        model=options["model"],
        transcoders=options["transcoders"],
        device=options["device"],
        precision=options["precision"],
    )
    with bar("running the model"):
        made = steer(
            home,
            laboratory,
            options["graph"],
            plan,
            options["mode"],
            doses=doses,
            top=options["top"],
            moved=options["moved"],
            generate=options["generate"],
        )
    if options["as_json"]:
        emit(records(made), "json")
    else:
        _show(made)
    rows = [row for run in made.runs for row in run.evidence]
    if not options["no_evidence"]:
        new = keep(home, rows)
        click.echo(_kept(made, len(rows), new), err=True)
    if out is not None:
        from ingest.interventions.steer_picture import draw

        click.echo(f"wrote {draw(made, out)}", err=True)


def _plan(options: dict[str, Any], action: "Action", value: float | None) -> "Plan":
    from atlas.errors import InputError
    from ingest.interventions.plan_text import plan_of, read_features, read_plan

    names, file, rows = options["names"], options["plan_file"], options["features_from"]
    given = [what for what, there in (("FEATURE", names), ("--plan", file), ("--features-from", rows)) if there]
    if len(given) != 1:
        found = " beside ".join(given) or "no feature named"
        raise InputError(found, "features or a supernode, --plan FILE or --features-from FILE")
    if file is not None:
        if options["at"] is not None:
            raise InputError("--at beside --plan", "one of the two", "Write it into the plan")
        return read_plan(file)
    return plan_of(names or read_features(rows), "all" if options["at"] is None else options["at"], action, value)


def _kept(made: "Steering", rows: int, new: int) -> str:
    if not any(run.changed for run in made.runs):
        return "no evidence: no activation of the prompt was changed"
    if not rows:
        return "no evidence: the graph keeps none of what was changed, or one feature of several"
    return f"evidence: {new} new" + (f", {rows - new} as before" if rows > new else "")


def _show(made: "Steering") -> None:
    from ingest.interventions.steer_picture import title

    click.echo(click.style(title(made), bold=True))
    if len(made.runs) > 1:
        emit([_dose(run) for run in made.runs], None)
        return
    run = made.runs[0]
    report = run.report
    count = "1 activation is" if run.changed == 1 else f"{run.changed} activations are"
    click.echo(f"{count} changed in the prompt")
    said = f"{report.said_before!r} -> {report.said_after!r}" if report.flipped else f"{report.said_after!r}, as before"
    click.echo(f"the model says {said}")
    first, second = report.answer.text.strip(), report.runner_up.text.strip()
    click.echo(f"logit {first} - {second}: {report.difference_before:.4f} -> {report.difference_after:.4f}")
    if made.answer is not None and report.observed is not None:
        edges = "" if run.predicted is None else f"; its edges say {run.predicted:+.4f}"
        click.echo(f"what the graph explains, {made.answer.text!r}, changes by {report.observed:+.4f}{edges}")
    click.echo()
    emit([{"token": t.text, "before": t.before, "after": t.after} for t in report.tokens], None)
    if report.moved:
        click.echo()
        emit(_features(made, run), None, title="Features that changed most")


def _dose(run: "Steered") -> dict[str, Any]:
    report = run.report
    return {
        "dose": run.dose,
        "says": report.said_after,
        "flipped": report.flipped,
        f"p({report.answer.text.strip()})": report.answer.after,
        "top": report.answer_after.text.strip(),
        "p(top)": report.answer_after.after,
        "lead": report.lead_after,
        "target": report.observed,
        "by the edges": run.predicted,
    }


def _features(made: "Steering", run: "Steered") -> list[dict[str, Any]]:
    from ingest.interventions.steer import place_text

    positions = made.case.inputs.positions
    labelled = any(moved.feature in made.labels for moved in run.report.moved)
    return [
        {
            "feature": f"{moved.feature}@{moved.position}",
            "at": place_text(positions[moved.position]),
        }
        | ({"label": made.labels.get(moved.feature)} if labelled else {})
        | {"before": moved.before, "after": moved.after}
        for moved in run.report.moved
    ]
