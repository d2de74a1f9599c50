"""Whether a graph tells what ablations do: its strongest features are taken away one by one, the answer's lead watched.

Predictions are those of predict.py. Which one is meant where a mode has one rank correlation: in frozen mode the direct
edges, which are exact there; in the others `norms`, what follows from the clean run without any ablation.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from atlas.artefact.names import find_graph
from atlas.artefact.read import read_description, read_table
from atlas.config import Home
from atlas.domain.circuit import Nodes
from atlas.domain.evidence import MODES, Evidence, Mode
from atlas.errors import InputError
from atlas.ids import NodeId
from ingest.attribution.frozen import fold, freeze
from ingest.attribution.sources import Sources
from ingest.interventions.case import Case, Laboratory
from ingest.interventions.check_evidence import Seen, Watch, evidence_rows
from ingest.interventions.edits import Edits, Intervention
from ingest.interventions.engine import intervene, pre_activations
from ingest.interventions.predict import (
    Lead,
    Occurrences,
    Prediction,
    direct_edges,
    gradient_effects,
    norm_effects,
    path_effects,
    slopes,
)
from ingest.interventions.statistics import spearman
from ingest.model.precision import precision_of

Strength = Literal["influence", "direct"]
STRENGTHS: tuple[Strength, ...] = get_args(Strength)
MAIN: dict[Mode, Prediction] = {"frozen": "direct", "iterative": "norms", "free": "norms"}
"""The prediction meant where only one is told."""

_READ_BYTES = 2**30
"""Most that what the encoders read may take, over all runs at once."""


@dataclass(frozen=True, eq=False)
class Checked:
    """One graph: n features taken away one by one, what was predicted and what was seen."""

    graph: str
    """Id."""
    slug: str
    """Readable name."""
    task: str | None
    """Group of prompts it belongs to."""
    answer: str
    """The most probable token."""
    runner_up: str
    """The next one."""
    lead: float
    """The answer's logit minus the runner-up's, in the clean run."""
    nodes: tuple[NodeId, ...]
    """The features taken away, the strongest first."""
    predicted: dict[Prediction, dict[Mode, np.ndarray]]
    """[n] predicted change of the lead, by prediction and mode."""
    observed: dict[Mode, np.ndarray]
    """[n] change that was seen."""
    flipped: dict[Mode, np.ndarray]
    """[n] whether another token became the most probable."""
    frozen_gap: float | None
    """Largest difference of an edge and what frozen ablation did, over the sum of |incoming| of its target: the lead,
    the answer and the features watched; None where frozen mode was not run."""
    evidence: list[Evidence]
    """What is to be kept in the atlas."""

    def correlation(self, prediction: Prediction, mode: Mode) -> float:
        """Spearman's rank correlation of predicted and observed change; NaN of fewer than two features."""
        return spearman(self.predicted[prediction][mode], self.observed[mode])

    def row(self) -> dict[str, Any]:
        """As one JSON object; modes that were not run are missing values."""
        told = {f"rank_correlation_{mode}": self._maybe(MAIN[mode], mode) for mode in MODES}
        named = {f"prediction_{mode}": MAIN[mode] for mode in MODES}
        every = {f"{name}_{mode}": self._maybe(name, mode) for name in self.predicted for mode in MODES}
        flips = {f"flipped_{mode}": int(self.flipped[mode].sum()) if mode in self.flipped else None for mode in MODES}
        described = {
            "graph": self.graph,
            "slug": self.slug,
            "task": self.task,
            "answer": self.answer,
            "runner_up": self.runner_up,
            "lead": self.lead,
            "features": len(self.nodes),
        }
        return described | told | named | every | {"frozen_gap": self.frozen_gap} | flips

    def feature_rows(self) -> Iterator[dict[str, Any]]:
        """A row for every feature taken away."""
        for at, node in enumerate(self.nodes):
            row: dict[str, Any] = {
                "slug": self.slug,
                "feature": f"{node.layer}/{node.index}",
                "position": node.position,
            }
            for mode in self.observed:
                row[f"predicted_{mode}"] = float(self.predicted[MAIN[mode]][mode][at])
                row[f"observed_{mode}"] = float(self.observed[mode][at])
            row |= {name: float(next(iter(self.predicted[name].values()))[at]) for name in ("direct", "paths")}
            yield row | {f"flipped_{mode}": bool(self.flipped[mode][at]) for mode in self.flipped}

    def _maybe(self, prediction: Prediction, mode: Mode) -> float | None:
        found = self.correlation(prediction, mode) if mode in self.observed else math.nan
        return None if math.isnan(found) else found


def check_graph(
    home: Home,
    laboratory: Laboratory,
    graph: str,
    top: int = 50,
    by: Strength = "influence",
    modes: tuple[Mode, ...] = MODES,
) -> Checked:
    """Take the `top` strongest features of a graph away one by one: by influence in the graph, or by |direct edge| to
    the lead. Raises NotFoundError, and InputError for a graph without features or one that cannot be run again."""
    graph = find_graph(home, graph)
    nodes = read_table(home, graph, Nodes)
    check_features(graph, nodes)
    case = laboratory.case(graph)
    lead = Lead.of(case)
    with torch.no_grad(), precision_of(case.model):
        frozen = freeze(case.run, fold(case.model.weights()), case.bank, case.encoded)
        edges, sources, incoming_abs = direct_edges(case, frozen, lead.targets)
        ordinals, columns = _strongest(nodes, sources, edges, top, by)
        chosen = Occurrences.among(sources, columns)
        effects = {"direct": edges[columns], "paths": path_effects(case, frozen, lead.targets)[columns]}
    del frozen
    if not len(chosen):
        raise InputError(f"none of the features of graph {graph[:12]} fires here", "the precision it was traced in")
    watch = Watch.of(home, case, nodes, ordinals)
    seen = {mode: _ablate(case, lead, chosen, watch, mode) for mode in modes}
    predicted = {mode: _predictions(case, lead, chosen, effects, mode) for mode in modes}
    description = read_description(home, graph)
    texts = [case.model.tokenizer.decode([token]).strip() for token in (lead.plus, lead.minus)]
    gap = watch.gap(seen["frozen"], -effects["direct"], float(incoming_abs)) if "frozen" in seen else None
    return Checked(
        graph=graph,
        slug=description.slug,
        task=description.task,
        answer=texts[0],
        runner_up=texts[1],
        lead=float(lead.targets.values[0]),
        nodes=watch.nodes,
        predicted={name: {mode: predicted[mode][name] for mode in modes} for name in predicted[modes[0]]},
        observed={mode: found.lead.numpy() for mode, found in seen.items()},
        flipped={mode: (found.said != found.said_before).numpy() for mode, found in seen.items()},
        frozen_gap=gap,
        evidence=[row for mode in modes for row in evidence_rows(case, watch, mode, seen[mode])]
        if case.own_precision
        else [],
    )


def check_features(graph: str, nodes: Nodes) -> None:
    """Raise InputError for a graph without a feature to take away."""
    if not (nodes.kind == "feature").any():
        raise InputError(f"graph {graph[:12]} has no feature", "one to take away", "Trace it with more --max-nodes")


def _strongest(nodes: Nodes, sources: Sources, edges: Tensor, top: int, by: Strength) -> tuple[list[int], Tensor]:
    """Ordinals and source columns of the strongest feature nodes, the strongest first; those that do not fire in this
    run (rounding may choose another feature) are left out."""
    ordinals = np.flatnonzero(nodes.kind == "feature")
    layers, positions, indices = (
        torch.from_numpy(column[ordinals].astype(np.int64)) for column in (nodes.layer, nodes.position, nodes.index)
    )
    every = slice(0, sources.n_features)
    known = _keys(sources.layers[every], sources.positions[every], sources.indices[every]).cpu()
    wanted = _keys(layers, positions, indices)
    columns = torch.searchsorted(known, wanted).clamp_max(max(0, len(known) - 1))
    fires = known[columns] == wanted if len(known) else torch.zeros_like(wanted, dtype=torch.bool)
    ordinals, columns = ordinals[fires.numpy()], columns[fires]
    strength = nodes.influence[ordinals] if by == "influence" else edges.cpu()[columns].abs().numpy()
    order = np.argsort(-np.nan_to_num(strength), kind="stable")[:top]
    return ordinals[order].tolist(), columns[torch.from_numpy(order)].to(edges.device)


def _keys(layers: Tensor, positions: Tensor, indices: Tensor) -> Tensor:
    """[n] numbers in the order of the sources: by layer, position, index."""
    return layers << 52 | positions << 32 | indices


def _predictions(
    case: Case, lead: Lead, chosen: Occurrences, effects: dict[str, Tensor], mode: Mode
) -> dict[Prediction, np.ndarray]:
    """[n] predicted changes of the lead. In frozen mode the derivative is the edge, and no norm moves."""
    first = full = effects["direct"]
    if mode != "frozen":
        found = slopes(case, lead, mode)
        first, full = gradient_effects(case, found, chosen), norm_effects(case, lead, found, chosen)
    every: dict[Prediction, Tensor] = {
        "direct": effects["direct"], "paths": effects["paths"], "gradient": first, "norms": full,
    }  # fmt: skip
    return {name: -effect.double().cpu().numpy() for name, effect in every.items()}


def _ablate(case: Case, lead: Lead, chosen: Occurrences, watch: Watch, mode: Mode) -> Seen:
    """Take each feature away in a run of its own, and see what becomes of the lead, the answer and what is watched."""
    places = list(zip(chosen.layers.tolist(), chosen.indices.tolist(), chosen.positions.tolist(), strict=True))
    parts = []
    step = _runs_at_once(case)
    for start in range(0, len(places), step):
        part = places[start : start + step]
        items = [Intervention(), *(Intervention(Edits.of([layer], [index], [at])) for layer, index, at in part)]
        outcome = intervene(case, items, mode, keep_reads=True)
        targets = watch.targets(start, start + len(part))
        pre = pre_activations(case, outcome, targets.layers, targets.indices, targets.positions).double().cpu()
        parts.append(Seen.of(lead, watch.answer, outcome.logits[:, 0].double().cpu(), pre, targets.rows))
    return Seen.joined(parts)


def _runs_at_once(case: Case) -> int:
    facts = case.model.facts
    one = facts.n_layers * case.n_positions * facts.width * torch.finfo(case.model.dtype).bits // 8
    return max(1, _READ_BYTES // one - 1)
