"""Parts of the study of a planted failure (prior.py): the prior at the last position, and how to take it off."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Question, Seen, open_demo, ranged, rendered, traced

from ingest.demo.facts import SHAPES
from ingest.demo.prior import PriorConfig, measure_prior, plant_prior
from ingest.interventions.case import Case, make_case
from ingest.interventions.edits import Edits, Intervention
from ingest.interventions.engine import intervene
from ingest.interventions.statistics import bootstrap
from ingest.model.inputs import prepare
from ingest.pipeline import Tracer
from ingest.progress import bar

Change = Callable[[Case], Intervention]
AGAINST = ("5", "6")
PLAIN = [shape for shape in SHAPES if shape != "heart"]


def counted(shapes: Sequence[str], numbers: Sequence[int], count: int, first: int) -> list[Question]:
    """New renderings of a question how many there are, number by number."""
    drawn = [rendered("prior", "count", count, first, shape=shape, n=n) for n in numbers for shape in shapes]
    return [each for some in drawn for each in some]


@dataclass(frozen=True)
class Prior:
    """Features at the last position that differ between the miscounted shape and others."""

    layers: np.ndarray
    """int [K]"""
    indices: np.ndarray
    """int [K]"""
    means: np.ndarray
    """float [K]: mean activation on the shape, less that on other shapes with the same numbers."""

    def off(self, strength: float) -> Change:
        """Take `strength` times the means off at the last position."""
        offsets = torch.from_numpy(-strength * self.means)

        def change(case: Case) -> Intervention:
            places = [case.n_positions - 1] * len(self.layers)
            return Intervention(Edits.of(self.layers, self.indices, places, factor=1.0, offset=offsets))

        return change


def plant(out: Path, steps: int, each: int) -> tuple[Tracer, Tracer, list[list[Any]]]:
    """The shipped model, the one with the planted prior, and rows of their accuracy: group, n, right before and after,
    answers that say the planted number before and after; `each` pictures a group and number."""
    out.mkdir(parents=True, exist_ok=True)
    config = PriorConfig(steps=steps)
    with bar("planting", steps) as watch:
        folder = plant_prior(out, config, lambda done, total, _: watch.count(done, total))
    shipped, planted = open_demo(), open_demo(str(folder))
    before, after = (measure_prior(tracer.model.hf, config, each, seed=1) for tracer in (shipped, planted))
    pairs = zip(before, after, strict=True)
    return shipped, planted, [[a["group"], a["n"], a["right"], b["right"], a["said"], b["said"]] for a, b in pairs]


def norms(tracer: Tracer) -> np.ndarray:
    """float [L, F]: how long a vector each feature adds to the residual stream per unit, before the norm's scale."""
    layers = enumerate(tracer.model.weights().layers)
    rows = [
        tracer.bank.decoder_rows(n, torch.arange(tracer.bank.widths[n])) * layer.mlp_post_gain for n, layer in layers
    ]
    return np.stack([each.norm(dim=1).numpy() for each in rows])


def find_prior(shape: np.ndarray, others: np.ndarray, lengths: np.ndarray, count: int = 60) -> Prior:
    """The `count` features whose mean differs most, by what it writes, between activations at the last position
    [n, L, F] of the shape and of others, both with the same numbers of things."""
    means = shape.mean(0) - others.mean(0)
    best = np.argsort(-np.abs(means * lengths), axis=None)[:count]
    layers, indices = np.unravel_index(best, means.shape)
    return Prior(layers, indices, means[layers, indices].astype(np.float64))


def random_like(prior: Prior, fires: np.ndarray, lengths: np.ndarray, seed: int) -> Prior:
    """The control: for each feature another of its layer that fires somewhere (bool [L, F]), writing as strongly."""
    rng, free, chosen = np.random.default_rng(seed), fires.copy(), []
    free[prior.layers, prior.indices] = False
    for layer in prior.layers:
        chosen.append(int(rng.choice(np.flatnonzero(free[layer]))))
        free[layer, chosen[-1]] = False
    indices = np.array(chosen)
    scale = lengths[prior.layers, prior.indices] / lengths[prior.layers, indices]
    return Prior(prior.layers, indices, prior.means * scale)


def ablated(chosen: np.ndarray) -> Change:
    """Features (bool [L, F]) taken away wherever they fire on the picture."""

    def change(case: Case) -> Intervention:
        soft, parts = torch.tensor([place.modality == "image" for place in case.inputs.positions]), []
        for layer, encoding in enumerate(case.encoded.layers):
            active = encoding.active
            on = soft[active.positions] & torch.from_numpy(chosen[layer])[active.indices]
            parts.append(Edits.of([layer] * int(on.sum()), active.indices[on], active.positions[on]))
        return Intervention(Edits.joined(parts))

    return change


def cases(tracer: Tracer, questions: Sequence[Question]) -> list[Case]:
    """The prompts with their clean runs."""
    model = tracer.model
    asked = [(question.sample.question, question.sample.image) for question in questions]
    return [make_case(model, tracer.bank, prepare(model, words, [image])) for words, image in asked if image]


def trial(runs: Sequence[Case], changes: Sequence[Change]) -> tuple[np.ndarray, np.ndarray]:
    """Each run with each change, free: the answers, and the logit of five less that of six, both [changes, runs]."""
    tokenizer = runs[0].model.tokenizer
    five, six = (tokenizer.convert_tokens_to_ids(word) for word in AGAINST)
    logits = torch.stack(
        [intervene(case, [each(case) for each in changes], "free").logits[:, 0] for case in runs], dim=1
    )
    words = [[str(tokenizer.decode([token])).strip() for token in row] for row in logits.argmax(-1).tolist()]
    return np.array(words), (logits[..., five] - logits[..., six]).numpy()


def unexplained(runs: Sequence[Case]) -> list[float]:
    """By layer, the share of the MLP output's variance that the transcoder leaves over (FVU), all positions pooled."""
    shares = []
    for layer in range(runs[0].bank.n_layers):
        true = torch.cat([case.run.layers[layer].mlp_out for case in runs])
        error = torch.cat([case.encoded.layers[layer].error for case in runs])
        shares.append(float((error**2).sum() / ((true - true.mean(0)) ** 2).sum()))
    return shares


def nearest(learnt: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """The label [n] whose mean over what was learnt [m, F] is nearest to each row asked [n, F]."""
    values = np.unique(labels)
    means = np.stack([learnt[labels == value].mean(0) for value in values])
    return np.asarray(values[((asked[:, None] - means) ** 2).sum(-1).argmin(1)])


def counts_read(learnt: Seen, labels: np.ndarray, asked: Seen) -> np.ndarray:
    """int [2, L, n]: the number read for each prompt by the nearest mean, on the picture and at the last position."""
    places = ((learnt.thing, asked.thing), (learnt.last, asked.last))
    layers = range(learnt.last.shape[1])
    return np.array([[nearest(one[:, at], labels, other[:, at]) for at in layers] for one, other in places])


def sources(
    tracer: Tracer, questions: Sequence[Question], home: Path, out: Path, group: str, prior: Prior
) -> dict[str, np.ndarray]:
    """What the direct edges into the logit of five less that of six add up to, by where they come from: [n] each."""
    named = [Question(f"{question.slug}-{group}", question.sample) for question in questions]
    asked, found = traced(tracer, named, home, out, group, {"difference": list(AGAINST)}), []
    of_prior = {*zip(prior.layers.tolist(), prior.indices.tolist(), strict=True)}
    for question in named:
        graph = asked.graph(question.slug)
        answer = int(np.flatnonzero(graph.nodes.kind == "logit")[0])
        into = graph.incoming.take(np.flatnonzero(graph.incoming.target == answer))
        feature, last = into.kind == "feature", into.position == len(graph.positions.text) - 1
        picture = np.asarray(graph.positions.modality)[into.position] == "image"
        ours = np.array([pair in of_prior for pair in zip(into.layer.tolist(), into.index.tolist(), strict=True)])
        masks = {
            "the prior's features, last position": feature & last & ours,
            "other features, last position": feature & last & ~ours,
            "features on the picture": feature & picture,
            "patches of the picture": into.kind == "image",
            "errors": into.kind == "error",
            "words, biases and their features": (feature & ~last & ~picture) | np.isin(into.kind, ["token", "bias"]),
        }
        sums = {name: float(into.weight[mask].sum()) for name, mask in masks.items()}
        found.append({**sums, "all of it": float(graph.nodes.pre_activation[answer])})
    return {name: np.array([row[name] for row in found]) for name in found[0]}


def compared(was: dict[str, np.ndarray], now: dict[str, np.ndarray]) -> list[list[Any]]:
    """Rows of two models' `sources`: where from, both means, their difference with its interval over prompts."""
    gaps = {name: now[name] - was[name] for name in now}
    return [
        [name, float(was[name].mean()), float(now[name].mean()), ranged(gap.mean(), bootstrap(gap))]
        for name, gap in gaps.items()
    ]
