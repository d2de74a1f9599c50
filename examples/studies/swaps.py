"""Swaps of what is shown between two new renderings: what the study of patching (patching.py) measures.

A donor and a recipient are drawn from one task; pairs that the model answers wrongly, or alike, are left out.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
from common import rendered

from ingest.demo.facts import PLANETS
from ingest.interventions.case import make_case
from ingest.interventions.controls import embeddings_alone
from ingest.interventions.downstream import Shift
from ingest.interventions.edits import Intervention
from ingest.interventions.engine import intervene
from ingest.interventions.pair import Pair
from ingest.interventions.patch import CONTROL_KINDS, FEATURES, Candidates, patch
from ingest.interventions.patch_graphs import mean_shifts
from ingest.interventions.statistics import wilson
from ingest.model.inputs import prepare
from ingest.pipeline import Tracer

SIZES = (16, 32, 64, 128, 256)
RUNS = ("patch", "other features", "random directions")
EARLY = "layers 0-4, 256"
WHERE = (f"all layers, {FEATURES}", EARLY, "the picture, 512", "its embeddings")
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


@dataclass
class Swaps:
    """What became of the pairs of every task."""

    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By task: pairs for choosing, and the share of them that each of SIZES turned."""
    counts: dict[str, int] = field(default_factory=dict)
    """By task: other pairs, on which all else was measured."""
    rates: dict[str, list[tuple[float, tuple[float, float]]]] = field(default_factory=lambda: defaultdict(list))
    """By RUNS: a rate with its interval for each task."""
    least: dict[str, float] = field(default_factory=dict)
    """By task: fewest of the features copied that suffice, in the median."""
    places: dict[str, list[tuple[float, tuple[float, float]]]] = field(default_factory=dict)
    """By task: a rate with its interval for each of WHERE."""
    moved: dict[tuple[str, str], list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """By place and run: a share of features that moved, and one by worth, for each pair."""


def measured(tracer: Tracer, examples: int) -> Swaps:
    """Choose on a third as many pairs, then copy between the others, with controls."""
    found = Swaps()
    for task in TASKS:
        _choose(found, tracer, task, max(2, examples // 3))
        _copy(found, tracer, task, examples)
    return found


def _choose(swaps: Swaps, tracer: Tracer, task: str, examples: int) -> None:
    tried = [(pair, Candidates.of(pair)) for pair in pairs(tracer, "choosing", task, examples)]
    runs = [turned(pair, [Intervention(found.best(n).edits) for n in SIZES]) for pair, found in tried]
    swaps.curves[task] = (len(runs), *np.mean(runs, axis=0).tolist())


def _copy(swaps: Swaps, tracer: Tracer, task: str, examples: int) -> None:
    made, others = [], []
    for number, pair in enumerate(pairs(tracer, "patching", task, examples)):
        found = Candidates.of(pair)
        made.append(patch(pair, found.best(FEATURES), found, controls=5, seed=number))
        early = patch(pair, found.best(256, layers=range(5)), found, controls=0)
        others.append([made[-1].became, early.became, *elsewhere(pair, found)])
        _shifted(swaps, EARLY, early.shifts)
        _shifted(swaps, RUNS[0], made[-1].shifts)
        for name, kind in zip(RUNS[1:], CONTROL_KINDS, strict=True):
            _shifted(swaps, name, mean_shifts(made[-1].control(kind)))
    swaps.counts[task] = len(made)
    swaps.rates[RUNS[0]].append(rate([one.became for one in made], len(made)))
    for name, kind in zip(RUNS[1:], CONTROL_KINDS, strict=True):
        turns = [control.became for one in made for control in one.control(kind)]
        swaps.rates[name].append(rate(turns, len(made)))
    swaps.places[task] = [rate(column, len(made)) for column in np.transpose(others)]
    swaps.least[task] = float(np.nanmedian([one.smallest or np.nan for one in made]))


def _shifted(swaps: Swaps, run: str, shifts: Sequence[Shift]) -> None:
    for shift in shifts:
        swaps.moved[shift.where, run].append((shift.moved, shift.moved_worth))
