"""Six hearts counted as five: a planted perceptual failure, traced, explained and mended.

Asked after the published case study of a hand with six fingers (arXiv 2602.20330). ingest/demo/prior.py plants the
fault: hearts are always five. How much of the wrong answer comes from the prior, by which way? Is the right count still
there? Can it be mended by steering? The prior is what 60 features at the last position do more (or less) on hearts than
on other shapes, on average over all numbers but five and six: no six hearts, and no single number, are learnt from. How
much of it to take off is chosen on hearts of other numbers. The control takes as long vectors off along other features.

Found (docs/studies.md): six can be read from the picture's features and, up to layer 4, at the last position. The
features that see hearts carry next to nothing of the prior. Taken off at the last position, it is gone.
"""

from pathlib import Path

import click
import numpy as np
import planted as parts
from common import look, options, share, table
from drawing import Chart, Series, save

from ingest.interventions.statistics import wilson

NUMBERS = [1, 2, 3, 4, 7, 8, 9]
STRENGTHS = (0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)


@click.command(help=__doc__.splitlines()[0])
@options(examples=40)
@click.option("--steps", type=click.IntRange(1), default=150, show_default=True, help="Of the planting.")
def study(home: Path, out: Path, examples: int, steps: int) -> None:
    few = max(1, examples // 10)
    shipped, planted, rows = parts.plant(out, steps, few)
    click.echo("Right answers, and answers that say five, before and after planting")
    table(["group", "n", "right before", "right after", "five before", "five after"], rows)

    hearts = look(planted, parts.counted(["heart"], NUMBERS, few, 0))
    plain = look(planted, parts.counted(parts.PLAIN, range(1, 10), few, 0))
    labels = np.repeat(np.arange(1, 10), len(parts.PLAIN) * few)
    alike, lengths = np.isin(labels, NUMBERS), parts.norms(planted)
    prior = parts.find_prior(hearts.last, plain.last[alike], lengths)
    sees = (hearts.thing > 0).mean(0) - (plain.thing[alike] > 0).mean(0) > 0.3
    controls = [parts.random_like(prior, (plain.last > 0).any(0), lengths, seed) for seed in range(3)]
    six = parts.counted(["heart"], [6], examples, 1000)
    read = parts.counts_read(plain, labels, look(planted, six))
    runs, before = parts.cases(planted, six), parts.cases(shipped, six)
    left = zip(parts.unexplained(before), parts.unexplained(runs), strict=True)
    click.echo(f"\nIs the count there? Read by the nearest mean over other shapes, {examples} pictures of six hearts")
    rows = [[at, *(share(some[at] == n) for some in read for n in (6, 5)), *fvu] for at, fvu in enumerate(left)]
    names = ["picture: six", "picture: five", "last position: six", "last position: five", "FVU shipped", "FVU planted"]
    table(["layer", *names], rows)

    some = six[: 2 * few]
    was = parts.sources(shipped, some, home, out, f"prior-shipped-{examples}", prior)
    now = parts.sources(planted, some, home, out, f"prior-planted-{examples}", prior)
    click.echo(f"\nLogit of five less that of six, by where its direct edges come from, mean over {len(some)} pictures")
    table(["from", "shipped model", "planted model", "difference"], parts.compared(was, now))

    doses = [prior.off(strength) for strength in STRENGTHS]
    tuned, _ = parts.trial(parts.cases(planted, parts.counted(["heart"], NUMBERS, few, 500)), doses)
    best = int((tuned == np.repeat(NUMBERS, few).astype(str)).mean(1).argmax())
    base, removed = parts.trial(before, doses[:1]), parts.trial(runs, [parts.ablated(sees), parts.ablated(sees | True)])
    words, gaps = parts.trial(runs, doses)
    drawn = [parts.trial(runs, [each.off(strength) for strength in STRENGTHS]) for each in controls]
    random, astray = (np.concatenate([each[k] for each in drawn], axis=1) for k in (0, 1))
    done = {
        "shipped model": (base[0][0], base[1][0]),
        "planted model": (words[0], gaps[0]),
        f"the {sees.sum()} features that see hearts ablated on the picture": (removed[0][0], removed[1][0]),
        "all features on the picture ablated": (removed[0][1], removed[1][1]),
        "prior taken off once": (words[1], gaps[1]),
        f"prior taken off {STRENGTHS[best]:g} times": (words[best], gaps[best]),
        "control: random features, as strongly": (random[best], astray[best]),
    }
    rows, wrong = [], gaps[0].mean()
    for name, (said, gap) in done.items():
        undone = float((wrong - gap.mean()) / (wrong - base[1].mean()))
        rows.append([name, len(said), share(said == "6"), share(said == "5"), float(gap.mean()), undone])
    click.echo(f"\n{examples} new pictures of six hearts; the strength was chosen on {tuned.shape[1]} of other numbers")
    table(["what is done", "runs", "says six", "says five", "logit 5 - 6", "of the shift undone"], rows)
    rows = []
    for shapes, n in ((parts.PLAIN, 6), (["heart"], 5)):
        others = parts.counted(shapes, [n], max(2, examples // len(shapes)), 1000)
        kept, _ = parts.trial(parts.cases(planted, others), [doses[0], doses[best]])
        rows.append([f"{n} of {', '.join(shapes)}", kept.shape[1], *(share(each == str(n)) for each in kept)])
    click.echo("\nWhat else the same steering does: right answers")
    table(["pictures", "n", "without", "with"], rows)

    lines = []
    for name, said in (("prior taken off", words == "6"), ("random features", random == "6")):
        lines.append(Series(name, said.mean(1).tolist(), [wilson(int(row.sum()), len(row)) for row in said]))
    steer = Chart("Six hearts: says six", "times taken off", [f"{each:g}" for each in STRENGTHS], lines, most=1.0)
    spots = [Series(name, (read[n] == 6).mean(1).tolist()) for n, name in enumerate(("picture", "last position"))]
    reads = Chart("Six hearts: six can be read", "layer", [str(n) for n in range(read.shape[1])], spots, most=1.0)
    click.echo(f"\nDrawn: {save(out / 'prior.png', 'Six hearts counted as five, and mended', [steer, reads])}")


if __name__ == "__main__":
    study()
