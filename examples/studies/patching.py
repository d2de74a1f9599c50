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

from pathlib import Path

import click
import numpy as np
from common import open_demo, options, ranged, table
from drawing import Chart, Series, save
from swaps import EARLY, RUNS, SIZES, TASKS, WHERE, measured

from ingest.interventions.patch import FEATURES
from ingest.interventions.statistics import bootstrap


@click.command(help=__doc__.splitlines()[0])
@options(examples=56)
def study(home: Path | None, out: Path, examples: int) -> None:
    found = measured(open_demo(), examples)
    rates, moved = found.rates, found.moved
    click.echo("Answers that became the donor's, by number of features copied: renderings for choosing")
    table(["task", "pairs", *map(str, SIZES)], [[task, *curve] for task, curve in found.curves.items()])
    click.echo(f"\nThe same with {FEATURES} features on other renderings, and the controls, five runs of each a pair")
    told = [[ranged(*some, 3) for some in column] for column in zip(*rates.values(), strict=True)]
    rows = [
        [task, n, *row, f"{found.least[task]:.0f}"] for (task, n), row in zip(found.counts.items(), told, strict=True)
    ]
    table(["task", "pairs", *RUNS, "suffice (median)"], rows)
    click.echo("\nThe same by where, and how many, features are copied")
    table(["task", *WHERE], [[task, *(ranged(*some) for some in row)] for task, row in found.places.items()])
    columns = (*RUNS, EARLY)
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
    lines = [Series(task, curve[1:]) for task, curve in found.curves.items()]
    layers = [where for where in wheres if where.isdigit()]
    shown = [(c, 0) for c in columns] + [(RUNS[0], 1), (EARLY, 1)]
    after = [Series(c + (", by worth" if n else ""), [means[at, c][n] for at in layers]) for c, n in shown]
    charts = [
        Chart("answers that became the donor's", "task", list(TASKS), bars, bars=True, most=1.0),
        Chart("by features copied, for choosing", "features", list(map(str, SIZES)), lines, most=1.0),
        Chart("features after the patch that moved", "layer", layers, after, most=1.0),
    ]
    title = f"{FEATURES} features copied between renderings"
    click.echo(f"\nDrawn: {save(out / 'patching.png', title, charts)}")


if __name__ == "__main__":
    study()
