"""Does the model add drawn numbers as it adds written ones?

Asked after the published case study of visual arithmetic (arXiv 2602.20330). All 100 sums of two digits are drawn (in
several renderings) and written. Three tables: which features at the last position a sum drawn and the same sum written
have in common; how much of what varies there is said by the first operand, the second, and the sum (share of variance
between groups, less what the same groups explain with pairs shuffled); and which way the strongest paths take from the
operands to the answer.

Found (docs/studies.md): yes. At the last position the operands are told in layers 0 and 1, their pair from layer 2 on,
the sum from layer 3 on, drawn and written alike, and half of what fires is the same for both.
"""

from pathlib import Path

import click
import numpy as np
from common import Question, look, open_demo, options, ranged, rendered, shown_at, table, traced
from drawing import Chart, Series, save
from measures import excess, jaccard

from ingest.interventions.statistics import bootstrap
from query.door import Atlas

PAIRS = [(a, b) for a in range(10) for b in range(10)]
GROUPS = {"first": [a for a, _ in PAIRS], "second": [b for _, b in PAIRS], "sum": [a + b for a, b in PAIRS]}
WAYS = ("none", "at the operands", "at the last position", "at both", "at other words")
BY = {(False, False): 0, (True, False): 1, (False, True): 2, (True, True): 3}


def ways(asked: Atlas, question: Question) -> list[float]:
    """Shares of the strongest paths from the operands to the answer, by the way they take."""
    positions = asked.graph(question.slug).positions
    thing = set(np.flatnonzero(shown_at(list(positions.text), list(positions.modality))).tolist())
    last, shares = len(positions.text) - 1, np.zeros(len(WAYS))
    for row in asked.ask("strongest-paths", graph=question.slug, limit=500, floor=0.001).to_pylist():
        passed = {int(node.rpartition("@")[2]) for node in row["nodes"][1:-1]}
        if row["from_position"] in thing:
            straight = BY[bool(passed & thing), last in passed]
            shares[4 if passed - thing - {last} else straight] += row["strength"]
    return (shares / shares.sum()).tolist()


@click.command(help=__doc__.splitlines()[0])
@options(examples=3)
def study(home: Path, out: Path, examples: int) -> None:
    tracer = open_demo()
    drawn = [rendered("arithmetic", "sum", 1, first=n, a=a, b=b)[0] for n in range(examples) for a, b in PAIRS]
    written = [rendered("arithmetic", "text_sum", 1, a=a, b=b)[0] for a, b in PAIRS]
    seen, read = look(tracer, drawn), look(tracer, written)
    for name, asked, answers in (("drawn", drawn, seen.answers), ("written", written, read.answers)):
        right = sum(answer == question.sample.answer for answer, question in zip(answers, asked, strict=True))
        click.echo(f"{name}: {right} of {len(asked)} answers are right")

    often = (seen.last > 0).reshape(examples, len(PAIRS), *seen.last.shape[1:]).mean(0) >= 0.5
    sums = np.array(GROUPS["sum"])
    alike = (sums[:, None] == sums) & ~np.eye(len(sums), dtype=bool)
    rows, lines, layers = [], [], range(tracer.bank.n_layers)
    for layer in layers:
        pairs = jaccard(often[:, None, layer], read.last[None, :, layer] > 0)
        same, others = np.diag(pairs), [pairs[sums[:, None] != sums].mean(), pairs[alike].mean()]
        rows.append([layer, ranged(same.mean(), bootstrap(same)), *(float(each) for each in others[::-1])])
        lines.append((same.mean(), *others[::-1], bootstrap(same)))
    click.echo("\nOverlap at the last position, a sum drawn and a sum written")
    table(["layer", "the same pair", "same sum, other pair", "other sum"], rows)

    said = {
        f"{how}, {name}": [excess(values[:, layer], groups) for layer in layers]
        for how, values in (("drawn", seen.last), ("written", read.last))
        for name, groups in GROUPS.items()
    }
    click.echo("\nShare of what varies at the last position that is said by ..., above chance")
    table(["layer", *said], [[layer, *(values[layer] for values in said.values())] for layer in layers])

    some = range(0, len(PAIRS), max(1, len(PAIRS) // (4 * examples)))
    shown = [asked[place] for asked in (drawn, written) for place in some]
    asked = traced(tracer, shown, home, out, f"arithmetic-{examples}")
    parts = np.array([ways(asked, question) for question in shown]).reshape(2, len(some), len(WAYS))
    click.echo(
        f"\nStrength of the strongest paths from the operands to the answer, {len(some)} sums, by where they pass"
    )
    table(
        ["paths through features", "drawn", "written"],
        [[way, *(ranged(part[:, n].mean(), bootstrap(part[:, n])) for part in parts)] for n, way in enumerate(WAYS)],
    )
    names = [str(layer) for layer in layers]
    series = [
        Series(name, [line[n] for line in lines]) for n, name in enumerate(("same pair", "same sum", "other sum"))
    ]
    series[0] = Series("same pair, 95 %", series[0].values, [line[3] for line in lines])
    panels = [
        Chart("Overlap of a sum drawn and a sum written", "layer", names, series, most=1.0),
        Chart("Variance explained, above chance", "layer", names, [Series(*each) for each in said.items()]),
    ]
    click.echo(f"\nDrawn: {save(out / 'arithmetic.png', 'Arithmetic drawn and written: the last position', panels)}")


if __name__ == "__main__":
    study()
