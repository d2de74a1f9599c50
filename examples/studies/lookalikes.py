"""Two pathways for look-alike pictures: do features cluster by looks, or by meaning?

Asked after the published case study of sea animals (arXiv 2602.20330: features of the high layers grouped species by
looks, not by kind). Here the planets are drawn and asked for their moons, which are not in the picture: earth looks
like neptune and has another answer, saturn does not look like neptune and has the same. Looks are alike as pixels are:
1 - distance of the mean drawing, cut out and scaled. Overlap is the Jaccard index of what fires on half of the
renderings. The first control deals looks (or answers) out to the planets anew; the second deals decoders out to the
features of a layer anew.

Found (docs/studies.md): each in its place. Where the picture stands overlap follows looks, weakly, and not the answer;
at the last position it follows the answer from layer 3 on, and not looks. Features that fire together write alike, a
little.
"""

from itertools import combinations
from pathlib import Path

import click
import numpy as np
from common import look, open_demo, options, ranged, rendered, table, traced
from drawing import Chart, Matrix, Series, save
from measures import dealt_out, jaccard, together

from ingest.demo.facts import PLANETS
from query.door import Atlas

NAMES = list(PLANETS)
PAIRS = np.array(list(combinations(range(len(NAMES)), 2)))
SAME = np.array([PLANETS[NAMES[a]].moons == PLANETS[NAMES[b]].moons for a, b in PAIRS])
DRAWS = 100
"""Of the bootstrap over features."""
PLACES = {"thing": "on the picture", "last": "at the last position"}


def alike(pictures: list) -> np.ndarray:  # type: ignore[type-arg]
    """[planet, planet] likeness of the drawings, 0 (the least alike) to 1."""
    cut = [[each.sample.image.crop(each.sample.truth["drawn"][0]["box"]) for each in some] for some in pictures]
    mean = np.stack([np.mean([np.asarray(each.resize((24, 24)), float) for each in some], axis=0) for some in cut])
    far = np.sqrt(((mean[:, None] - mean[None]) ** 2).mean(axis=(2, 3, 4)))
    return 1 - far / far.max()


@click.command(help=__doc__.splitlines()[0])
@options(examples=12)
def study(home: Path, out: Path, examples: int) -> None:
    tracer = open_demo()
    pictures = [rendered("lookalikes", "moons", examples, planet=planet) for planet in NAMES]
    seen = look(tracer, [each for some in pictures for each in some])
    looks, answers = alike(pictures), np.eye(len(NAMES))
    answers[tuple(PAIRS[SAME].T)] = answers[tuple(PAIRS[SAME][:, ::-1].T)] = 1.0
    pairs = looks[tuple(PAIRS.T)]
    groups = {
        "look alike, other answer": PAIRS[~SAME][np.argsort(-pairs[~SAME])[:3]],
        "look unlike, same answer": PAIRS[SAME][np.argsort(pairs[SAME])[:3]],
    }
    for name, members in groups.items():
        click.echo(f"{name}: {', '.join(f'{NAMES[a]} and {NAMES[b]}' for a, b in members)}")

    rows, clusters = [], []
    for place, name in PLACES.items():
        fires = getattr(seen, place)
        often = (fires > 0).reshape(len(NAMES), examples, *fires.shape[1:]).mean(1) >= 0.5
        for layer in range(fires.shape[1]):
            overlap = jaccard(often[:, None, layer], often[None, :, layer])
            means = [float(overlap[tuple(members.T)].mean()) for members in groups.values()]
            rows.append([name, layer, *means, dealt_out(overlap, looks), dealt_out(overlap, answers)])
            count, rho, ends, shuffled = together(tracer, layer, fires[:, layer], DRAWS)
            clusters.append([name, layer, count, ranged(rho, ends), shuffled])
    click.echo(f"\nOverlap of two planets' features, {examples} renderings each, and what it follows over all 28 pairs")
    table(["place", "layer", *groups, "follows looks", "follows the answer"], rows)
    click.echo("\nDo features that fire together write alike? Co-activation and decoder cosine, rank correlation")
    table(["place", "layer", "features", "correlation", "most of 20 shuffles"], clusters)

    asked = traced(tracer, [some[0] for some in pictures], home, out, f"lookalikes-{examples}")
    slugs = [some[0].slug for some in pictures]
    kept = {name: [_graphs(asked, slugs[a], slugs[b]) for a, b in members] for name, members in groups.items()}
    click.echo("\nOverlap of what their graphs keep")
    table(
        ["planets", "pairs", "Jaccard, mean"], [[name, len(each), float(np.mean(each))] for name, each in kept.items()]
    )
    panels: list[Chart | Matrix] = [Matrix("How alike the drawings are", NAMES, [name[:4] for name in NAMES], looks)]
    for place in PLACES.values():
        mine = [row for row in rows if row[0] == place]
        series = [Series(name, [row[2 + n] for row in mine]) for n, name in enumerate(groups)]
        panels.append(
            Chart(f"Overlap of two planets' features {place}", "layer", [str(row[1]) for row in mine], series)
        )
    click.echo(f"\nDrawn: {save(out / 'lookalikes.png', 'Look-alike planets and planets with one answer', panels)}")


def _graphs(asked: Atlas, a: str, b: str) -> float:
    return float(asked.ask("graph-similarity", a=a, b=b).column("jaccard")[0].as_py())


if __name__ == "__main__":
    study()
