"""Does an answer follow features copied from another picture's run, and does what lies between follow too?

Asked after Circuit Tracing in Vision-Language Models (arXiv 2602.20330, circuit patching, Mars to Earth), which showed
one hand-made example and no control. Here features are found by their gradients alone, and every pair is of two new
renderings. How many features to copy, and how to score them, was chosen on renderings of their own (the first table),
never on those reported. Pairs that the model answers wrongly, or alike, are left out.

Found (docs/studies.md): 128 of about 4,500 features turn 95 to 100 % of the answers, controls almost none. But they do
it where the answer is read: features of the picture's own positions turn few, for what is seen travels in the
embeddings that the vision tower hands over. And not everything after the patch shifts: a fifth of the features does,
under a tenth with the controls; counted by what each could do to the answer it is half of them, and three quarters in
the last layer (256 features of layers 0 to 4).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

import click
import numpy as np
from common import open_demo, options, ranged, rendered, table
from drawing import Chart, Series, save

from ingest.demo.facts import PLANETS
from ingest.interventions.case import make_case
from ingest.interventions.controls import embeddings_alone
from ingest.interventions.edits import Intervention
from ingest.interventions.engine import intervene
from ingest.interventions.pair import Pair
from ingest.interventions.patch import CONTROL_KINDS, FEATURES, Candidates, patch
from ingest.interventions.patch_graphs import mean_shifts
from ingest.interventions.statistics import bootstrap, wilson
from ingest.model.inputs import prepare
from ingest.pipeline import Tracer

SIZES = (16, 32, 64, 128, 256)
RUNS = ("patch", "other features", "random directions")
WHERE = (f"all layers, {FEATURES}", "layers 0-4, 256", "the picture, 512", "its embeddings")
SWAPS = [({"planet": a}, {"planet": b}) for a, b in permutations(PLANETS, 2)]
TASKS = {
    "planet": SWAPS,
    "moons": [(a, b) for a, b in SWAPS if PLANETS[a["planet"]].moons != PLANETS[b["planet"]].moons],
    "digit": [({"a": a}, {"a": b}) for a, b in permutations(range(10), 2)],
    "sum": [({"a": n % 10, "b": a}, {"a": n % 10, "b": b}) for n, (a, b) in enumerate(permutations(range(10), 2))],
}


def pairs(tracer: Tracer, group: str, task: str, count: int) -> Iterator[Pair]:
    """Pairs of new renderings, of up to `count` recipes spread over all, that are answered rightly and differently."""
    recipes, model = TASKS[task], tracer.model
    for number in np.unique(np.linspace(0, len(recipes) - 1, min(count, len(recipes))).round().astype(int)):
        drawn = [rendered(f"{group}-{number}-{side}", task, 1, **recipes[number][side])[0].sample for side in (0, 1)]
        pair = Pair.of(*(make_case(model, tracer.bank, prepare(model, s.question, [s.image])) for s in drawn))
        said = [model.tokenizer.decode([token]).strip() for token in (pair.wanted, pair.given)]
        if said == [sample.answer for sample in drawn] and said[0] != said[1]:
            yield pair


def turned(pair: Pair, runs: list[Intervention]) -> list[bool]:
    """Whether each run answers as the donor does."""
    answers = intervene(pair.recipient, runs, "free").logits[:, 0].argmax(dim=-1)
    return (answers == pair.wanted).tolist()


def elsewhere(pair: Pair, found: Candidates) -> list[bool]:
    """The same with features of the picture alone, and by the picture's embeddings."""
    soft = [place.index for place in pair.recipient.inputs.positions if place.modality == "image"]
    return turned(pair, [Intervention(found.best(512, soft).edits), embeddings_alone(pair)])


def rate(turns: Sequence[bool], n: int) -> tuple[float, tuple[float, float]]:
    """Share of runs that turned the answer, with Wilson's interval over n pairs: five runs of a pair are alike."""
    share = float(np.mean(turns))
    return share, wilson(round(share * n), n)


@click.command(help=__doc__.splitlines()[0])
@options(examples=56)
def study(home: Path | None, out: Path, examples: int) -> None:
    tracer, curves, least = open_demo(), {}, {}
    rates, places, moved = defaultdict(list), {}, defaultdict(list)
    for task in TASKS:
        tried = [(pair, Candidates.of(pair)) for pair in pairs(tracer, "choosing", task, max(2, examples // 3))]
        runs = [turned(pair, [Intervention(found.best(n).edits) for n in SIZES]) for pair, found in tried]
        curves[task] = (len(runs), *np.mean(runs, axis=0).tolist())
        made, early, others = [], [], []
        for number, pair in enumerate(pairs(tracer, "patching", task, examples)):
            found = Candidates.of(pair)
            made.append(patch(pair, found.best(FEATURES), found, controls=5, seed=number))
            early.append(patch(pair, found.best(256, layers=range(5)), found, controls=0))
            others.append([made[-1].became, early[-1].became, *elsewhere(pair, found)])
        rates["patch"].append(rate([one.became for one in made], len(made)))
        for name, kind in zip(RUNS[1:], CONTROL_KINDS, strict=True):
            rates[name].append(rate([control.became for one in made for control in one.control(kind)], len(made)))
        places[task] = [ranged(*rate(column, len(made))) for column in np.transpose(others)]
        least[task] = (len(made), float(np.nanmedian([one.smallest or np.nan for one in made])))
        for one, other in zip(made, early, strict=True):
            for shift in other.shifts:
                moved[shift.where, "layers 0-4, 256"].append((shift.moved, shift.moved_worth))
            for shift in one.shifts:
                moved[shift.where, RUNS[0]].append((shift.moved, shift.moved_worth))
            for name, kind in zip(RUNS[1:], CONTROL_KINDS, strict=True):
                for shift in mean_shifts(one.control(kind)):
                    moved[shift.where, name].append((shift.moved, shift.moved_worth))

    click.echo("Answers that became the donor's, by number of features copied: renderings for choosing")
    table(["task", "pairs", *map(str, SIZES)], [[task, *curve] for task, curve in curves.items()])
    click.echo(f"\nThe same with {FEATURES} features on other renderings, and the controls, five runs of each a pair")
    told = [[ranged(*some, 3) for some in column] for column in zip(*rates.values(), strict=True)]
    rows = [[task, n, *row, f"{few:.0f}"] for (task, (n, few)), row in zip(least.items(), told, strict=True)]
    table(["task", "pairs", *RUNS, "suffice (median)"], rows)
    click.echo("\nThe same by where, and how many, features are copied")
    table(["task", *WHERE], [[task, *row] for task, row in places.items()])
    columns = (*RUNS, WHERE[1])
    means = {key: np.nanmean(rows, axis=0) for key, rows in moved.items()}
    ends = {key: bootstrap([row[0] for row in rows]) for key, rows in moved.items()}
    wheres = sorted({where for where, _ in moved})
    for n, words in enumerate(("counted alike, with 95 % intervals", "counted by worth")):
        click.echo(f"\nFeatures after the patch, not copied: share that moved to the donor's values, {words}")
        rows = [
            [at, *(ranged(means[at, c][n], ends[at, c]) if not n else float(means[at, c][n]) for c in columns)]
            for at in wheres
        ]
        table(["where", *columns], rows)
    bars = [Series(name, *zip(*some, strict=True)) for name, some in rates.items()]
    lines = [Series(task, curve[1:]) for task, curve in curves.items()]
    layers = [where for where in wheres if where.isdigit()]
    shown = [(c, 0) for c in columns] + [(RUNS[0], 1), (WHERE[1], 1)]
    after = [Series(c + (", by worth" if n else ""), [means[at, c][n] for at in layers]) for c, n in shown]
    charts = [
        Chart("answers that became the donor's", "task", list(TASKS), bars, bars=True, most=1.0),
        Chart("by features copied, for choosing", "features", list(map(str, SIZES)), lines, most=1.0),
        Chart("features after the patch that moved", "layer", layers, after, most=1.0),
    ]
    click.echo(
        f"wrote {save(out / 'patching.png', f'{FEATURES} features copied between renderings', charts)}", err=True
    )


if __name__ == "__main__":
    study()
