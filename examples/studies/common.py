"""What the studies share: new pictures of the demo world, what fires on them, their graphs in an atlas, and tables.

A study is run as `python examples/studies/NAME.py [--home DIR] [--out DIR] [--examples N]`, on the shipped demo model.
Renderings are drawn from generators seeded by (study, number), which neither training nor the demo's report has used.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any
from zlib import crc32

import click
import numpy as np
import torch

import atlas
from atlas.config import open_home
from atlas.errors import AtlasError
from ingest.demo.shipped import DEMO
from ingest.demo.world import Sample, draw
from ingest.interventions.statistics import wilson
from ingest.load import load
from ingest.model.capture import run
from ingest.model.inputs import prepare
from ingest.pipeline import Tracer, TraceSettings
from ingest.session import Request, open_tracer, run_ingest
from query.door import Atlas

STREAM = 1 << 41
"""First number of every generator's seed: training and evaluation use others."""


@dataclass(frozen=True)
class Question:
    """One prompt of a study."""

    slug: str
    """Name of its graph, and of its picture's file."""
    sample: Sample
    """Question, right answer, picture and recipe."""


@dataclass(frozen=True)
class Seen:
    """What fires on n prompts; L layers of F features each."""

    thing: np.ndarray
    """float32 [n, L, F]: activation summed over where the thing asked about is drawn (all soft tokens) or written (the
    words before the full stop)."""
    last: np.ndarray
    """float32 [n, L, F]: activation at the last position, where the answer is made."""
    answers: list[str]
    """The model's first choice of a next token, for each prompt."""


def options(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The command line of a study: --home (opened before anything runs, and made if need be), --out and --examples."""

    def decorate(run_study: Callable[..., None]) -> Callable[..., None]:
        where, many = click.Path(path_type=Path), click.IntRange(2)

        @wraps(run_study)
        def study(home: Path | None, out: Path, **more: Any) -> None:
            try:
                run_study(home=open_home(home or out / "home", create=True).root, out=out, **more)
            except AtlasError as error:
                raise click.ClickException(str(error)) from error

        named = click.option("--examples", type=many, default=examples, show_default=True, help="How many.")(study)
        named = click.option("--out", type=where, default=Path("studies"), show_default=True, help="For files.")(named)
        return click.option("--home", type=where, help="The atlas for its graphs.  [default: OUT/home]")(named)

    return decorate


def rendered(study: str, task: str, count: int, first: int = 0, **fixed: int | str) -> list[Question]:
    """New renderings `first` to `first + count - 1` of one recipe; equal arguments give equal pictures."""
    name = "-".join([study, task, *(str(value) for value in fixed.values())])
    seeds = [(STREAM, crc32(name.encode()), number) for number in range(first, first + count)]
    samples = [draw(task, np.random.default_rng(seed), **fixed) for seed in seeds]
    return [Question(f"{name}-{number}", sample) for number, sample in enumerate(samples, start=first)]


def open_demo(model: str = DEMO) -> Tracer:
    """The demo model, or another in its place, with the shipped transcoders."""
    return open_tracer(Request(None, None, model, DEMO, "cpu", "fp32", 0, TraceSettings()))


def look(tracer: Tracer, questions: Sequence[Question]) -> Seen:
    """Run the prompts and encode them; no attribution."""
    layers, width = tracer.bank.n_layers, max(tracer.bank.widths)
    thing, last = np.zeros((2, len(questions), layers, width), np.float32)
    answers = []
    for number, question in enumerate(questions):
        sample = question.sample
        images = [] if sample.image is None else [sample.image]
        inputs = prepare(tracer.model, sample.question, images)
        with torch.no_grad():
            record = run(tracer.model, inputs)
            encoded = tracer.bank.encode(record)
        soft = shown_at([place.text for place in inputs.positions], [place.modality for place in inputs.positions])
        for layer, encoding in enumerate(encoded.layers):
            active = encoding.active
            positions, indices, values = active.positions.numpy(), active.indices.numpy(), active.values.numpy()
            on = soft[positions]
            np.add.at(thing[number, layer], indices[on], values[on])
            end = positions == len(soft) - 1
            last[number, layer, indices[end]] = values[end]
        answers.append(tracer.model.tokenizer.decode([int(record.logits[-1].argmax())]).strip())
    return Seen(thing, last, answers)


def shown_at(texts: Sequence[str], modality: Sequence[str]) -> np.ndarray:
    """bool [T]: where the thing asked about is: all soft tokens, or, written, the words before the full stop."""
    soft = np.asarray(modality) == "image"
    if not soft.any():
        words = [text.strip() for text in texts]
        soft[words.index("user") + 2 : words.index(".")] = True
    return soft


def traced(
    tracer: Tracer, questions: Sequence[Question], home: Path, out: Path, group: str, targets: Any = None
) -> Atlas:
    """Trace the prompts into an atlas and open it. Their task there is `group`, so that questions can ask for them."""
    folder = out / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for question in questions:
        sample = question.sample
        line: dict[str, Any] = {"slug": question.slug, "prompt": sample.question, "expected": sample.answer}
        line |= {"task": group, "concept": sample.concept, "asks": sample.task}
        if targets is not None:
            line["targets"] = targets
        if sample.image is not None:
            sample.image.save(folder / f"{question.slug}.png")
            line["images"] = [f"pictures/{question.slug}.png"]
        lines.append(json.dumps(line))
    prompts = out / f"{group}.jsonl"
    prompts.write_text("\n".join(lines) + "\n")
    opened = open_home(home, create=True)
    request = Request(prompts, None, DEMO, DEMO, "cpu", "fp32", 0, tracer.settings)
    report = run_ingest(opened, request, tracer)
    if report.failed:
        raise click.ClickException(f"{len(report.failed)} prompts failed: {report.failed[0][1]}")
    load(opened)
    return atlas.open(home)


def table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under their names; numbers to the right."""
    lines = [[_cell(value) for value in row] for row in (names, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    for number, line in enumerate(lines):
        click.echo("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
        if not number:
            click.echo("  ".join("-" * width for width in widths))


def ranged(value: float, ends: tuple[float, float], digits: int = 2) -> str:
    """A number with its interval, as in 0.52 [0.41, 0.63]."""
    return f"{value:.{digits}f} [{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]"


def share(hits: Any) -> str:
    """The share of truths [n], with Wilson's interval."""
    return ranged(float(np.mean(hits)), wilson(int(np.sum(hits)), len(hits)))


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
