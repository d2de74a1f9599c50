"""Which features say "7", whatever the operands are?

Asked after the published case study of visual arithmetic (arXiv 2602.20330: result-digit features stable over contexts,
modular and range features). All 100 sums are drawn in several renderings. At the last position, for every result, the
feature that best predicts it by firing (F1) is chosen with a quarter of the pairs of operands left out, and judged on
these, in other renderings; a + b and b + a are left out together, and each quarter has its turn. The same is done for
the result's last digit, for its range (below 7, to 11, above), for each operand, and for results dealt out anew to the
pairs (the control).

Found (docs/studies.md): in the last layer, for 9 of 11 results; before it the best features know pairs of operands. No
feature stands for a last digit: the one for 4 never fires on 14. None was found for a range.
"""

from pathlib import Path

import click
import numpy as np
from common import look, open_demo, options, ranged, rendered, table, traced
from drawing import Chart, Series, save
from measures import judge, says

from ingest.interventions.statistics import bootstrap, wilson

PAIRS = np.array([(a, b) for a in range(10) for b in range(10)])
SUMS = PAIRS.sum(1)
PARTS = 4
RESULTS = range(4, 15)
"""Sums with three ways at least to make them, a + b and b + a being one."""
NEW = np.random.default_rng(0).permutation(100)
CLASSES = {
    "result": SUMS,
    "last digit": SUMS % 10,
    "range": np.digitize(SUMS, [7, 12]),
    "first operand": PAIRS[:, 0],
    "second operand": PAIRS[:, 1],
    "shuffled results": SUMS[NEW][PAIRS.min(1) * 10 + PAIRS.max(1)],
}


def folds() -> np.ndarray:
    """int [100]: which of the parts each pair is left out with; the ways to make a result go to the parts in turn."""
    turn, part = {int(result): int(result) for result in SUMS}, {}
    for a, b in PAIRS[PAIRS[:, 0] <= PAIRS[:, 1]].tolist():
        part[a, b] = part[b, a] = turn[a + b] % PARTS
        turn[a + b] += 1
    return np.array([part[a, b] for a, b in PAIRS.tolist()])


@click.command(help=__doc__.splitlines()[0])
@options(examples=6)
def study(home: Path, out: Path, examples: int) -> None:
    tracer, part = open_demo(), folds()
    drawn = [rendered("results", "sum", 1, first=n, a=a, b=b)[0] for n in range(examples) for a, b in PAIRS.tolist()]
    last = look(tracer, drawn).last > 0
    fires = last.reshape(examples, len(PAIRS), *last.shape[1:])
    layers = range(fires.shape[2])
    scores = {
        name: [[judge(fires[:, :, at], groups, value, part)[1][3] for value in _values(name)] for at in layers]
        for name, groups in CLASSES.items()
    }
    click.echo(f"F1 of the best feature on unseen operands, {examples} renderings, mean over values, by layer")
    table(["", *layers], [[name, *(float(np.mean(each)) for each in rows)] for name, rows in scores.items()])

    top, group = fires.shape[2] - 1, f"results-{examples}"
    near = [number for number, (a, b) in enumerate(PAIRS) if abs(a - b) <= 1 and a + b in RESULTS]
    asked, rows = traced(tracer, [drawn[number] for number in near], home, out, group), []
    for value in RESULTS:
        chosen, (hits, firing, wanted, _) = judge(fires[:, :, top], SUMS, value, part)
        often, same = max(set(chosen), key=chosen.count), (SUMS - value) % 10 == 0
        twin = fires[:, same & (value != SUMS), top, often]
        feeds = asked.ask("answer-drivers", answer=str(value), task=group).to_pylist()
        part_of = next((row["overall"] for row in feeds if row["feature"] == f"{top}/{often}"), 0.0)
        rates = [ranged(hits / max(n, 1), wilson(int(hits), int(n))) for n in (firing, wanted)]
        name = [value, f"{top}/{often}", f"{chosen.count(often)} of {PARTS}", says(tracer, top, often)]
        rows.append([*name, *rates, float(twin.mean()) if twin.size else "-", part_of])
    click.echo(f"\nLayer {top}: the feature that tells a result, on operands it was not chosen with")
    names = ["result", "feature", "chosen", "says", "precision", "recall", "fires on last digit's other sum"]
    table([*names, "share of the answer's input"], rows)
    series = [
        Series(name, [np.mean(row) for row in rows], [bootstrap(row) for row in rows]) for name, rows in scores.items()
    ]
    chart = Chart("F1 of the best feature, unseen operands", "layer", [str(at) for at in layers], series, most=1.0)
    bars = [Series("recall, unseen operands", [float(row[5].split()[0]) for row in rows])]
    bars += [Series("fires on the last digit's other sum", [0.0 if row[6] == "-" else row[6] for row in rows])]
    chart_of = Chart(f"Layer {top}, result by result", "result", [str(row[0]) for row in rows], bars, True, 1.0)
    click.echo(f"\nDrawn: {save(out / 'results.png', 'Features that say a result', [chart, chart_of])}")


def _values(name: str) -> list[int]:
    return list(RESULTS) if "result" in name else np.unique(CLASSES[name]).tolist()


if __name__ == "__main__":
    study()
