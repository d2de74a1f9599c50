"""Where do picture and word meet, layer by layer?

Asked after Circuit Tracing in Vision-Language Models (arXiv 2602.20330, hierarchical integration): at which layers do
features fire on the picture of a thing and on its word, and where do text positions first read image features? Every
concept (planets, digits, shapes, colours) is drawn in several renderings and written once. Overlap is the Jaccard index
of the features that fire (on at least half of the renderings), at the place of the thing and at the last position, and
is compared with that of picture and word of other concepts of the same kind. The interval is over concepts.

Found (docs/studies.md): where the thing stands, picture and word share a little more than other concepts do, in every
layer alike; they meet at the last position, more with every layer, digits from layer 2 on, the others later. Text reads
the picture's patches from layer 0 on, and its features seldom.
"""

from collections import Counter
from pathlib import Path

import click
import numpy as np
from common import look, open_demo, options, ranged, rendered, table, traced
from drawing import Chart, Series, save
from measures import overlaps

from ingest.demo.facts import PLANETS, SHAPE_COLOURS, SHAPES
from ingest.interventions.statistics import bootstrap

KINDS = {
    "planets": [("moons", {"planet": planet}) for planet in PLANETS],
    "digits": [("digit", {"a": digit}) for digit in range(10)],
    "shapes": [("shape", {"shape": shape, "colour": "red"}) for shape in SHAPES],
    "colours": [("colour", {"colour": colour, "shape": "circle"}) for colour in SHAPE_COLOURS],
}


@click.command(help=__doc__.splitlines()[0])
@options(examples=6)
def study(home: Path, out: Path, examples: int) -> None:
    tracer = open_demo()
    found, shown, subjects = [], [], []
    for kind, concepts in KINDS.items():
        pictures = [rendered("meeting", task, examples, **fixed) for task, fixed in concepts]
        words = [rendered("meeting", f"text_{task}", 1, **fixed)[0] for task, fixed in concepts]
        for some, word in list(zip(pictures, words, strict=True))[:: max(1, 6 // examples)]:
            shown += [some[0], word]
        names = [str(next(iter(fixed.values()))) for _, fixed in concepts]
        subjects += zip([word.sample.concept for word in words], names, strict=True)
        drawn, written = [look(tracer, some) for some in pictures], look(tracer, words)
        for place in ("thing", "last"):
            fires = np.stack([(getattr(some, place) > 0).mean(0) >= 0.5 for some in drawn])
            found += [(kind, place, row) for row in overlaps(fires, getattr(written, place) > 0)]
    asked = traced(tracer, shown, home, out, group := f"meeting-{examples}")

    layers = tracer.bank.n_layers
    both = {place: np.stack([row for _, at, row in found if at == place]) for place in ("thing", "last")}
    rows, lines = [], {place: [] for place in both}
    for layer in range(layers):
        cells: list[object] = [layer]
        for place, values in both.items():
            mean, ends = values[:, layer].mean(0), bootstrap(values[:, layer, 0] - values[:, layer, 1])
            lines[place].append((mean, ends))
            cells += [float(mean[0]), float(mean[1]), ranged(mean[0] - mean[1], ends, 3)]
        rows.append(cells)
    click.echo(f"Overlap of picture and word, {len(both['last'])} concepts, {examples} renderings each")
    table(["layer", "thing: same", "other", "same - other", "last: same", "other", "same - other"], rows)
    kinds = {kind: np.mean([row for name, at, row in found if (name, at) == (kind, "last")], axis=0) for kind in KINDS}
    click.echo("\nAt the last position, same - other by kind and layer")
    table(["kind", *range(layers)], [[kind, *map(float, mean[:, 0] - mean[:, 1])] for kind, mean in kinds.items()])

    click.echo(f"\nFeatures kept in {len(shown)} graphs, one drawn and one written for each concept")
    names = ("layer", "joint", "image_only", "text_only", "joint_part", "share_joint")
    kept = asked.ask("joint-features-by-layer", task=group).to_pylist()
    meet: Counter[int] = Counter()
    for concept, word in subjects:
        on_both = asked.ask("concept-image-and-word", concept=concept, task=group, word=word).to_pylist()
        meet.update(row["layer"] for row in on_both if row["score"] > 0)  # 0: kept in every graph
    table([*names, "on thing and its word"], [[*(row[name] for name in names), meet[row["layer"]]] for row in kept])

    click.echo("\nFirst layer at which a text position reads the picture: graphs, by least share of the reader's input")
    reads = []
    for source, share in (("image", 0.01), ("image", 0.05), ("feature", 0.01), ("feature", 0.02)):
        first = asked.ask("first-crossing-layer", task=group, source=source, min_share=share).to_pylist()
        count = Counter(row["layer"] for row in first)
        reads.append([source, share, *(count[layer] for layer in range(layers)), count[layers], count[None]])
    table(["reads from", "share", *range(layers), "logits only", "never"], reads)
    _draw(out, lines)


def _draw(out: Path, lines: dict[str, list]) -> None:  # type: ignore[type-arg]
    panels = []
    for place, title in (("thing", "Where the thing is drawn and written"), ("last", "At the last position")):
        means, ends = zip(*lines[place], strict=True)
        same, other = (Series(name, [mean[at] for mean in means]) for at, name in enumerate(("same", "other concept")))
        gap = Series("same - other, 95 %", [mean[0] - mean[1] for mean in means], ends)
        panels.append(Chart(title, "layer", [str(layer) for layer in range(len(means))], [same, other, gap], most=1.0))
    click.echo(f"\nDrawn: {save(out / 'meeting.png', 'Overlap of picture and word, by layer', panels)}")


if __name__ == "__main__":
    study()
