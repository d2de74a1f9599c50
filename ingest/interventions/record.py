"""What interventions leave in the atlas: the answer's node as the graph has it, and rows of evidence about it.

A row is about one edge, or about a supernode. A run that changes several activations says nothing about a single edge,
so its rows carry no prediction, and share their run: the questions can tell what changed alone. Where one feature of
several changed is all that the graph kept, there is no row, for it would look as if it had been alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

import numpy as np
import torch
from torch import Tensor

from atlas.artefact.evidence import append_evidence, read_evidence
from atlas.artefact.read import read_manifest, read_table
from atlas.config import Home
from atlas.domain.circuit import Incoming, Nodes
from atlas.domain.evidence import Evidence, Mode
from atlas.domain.plan import Change, Plan
from atlas.ids import NodeId, canonical_json, content_hash
from ingest.attribution.targets import TargetSpec, Vocabulary
from ingest.attribution.targets import resolve as resolve_targets
from ingest.interventions.case import Case
from ingest.interventions.edits import GENERATED, Edits
from ingest.load import load

Place = tuple[int, int, int]
"""Layer, index and position of a feature."""


@dataclass(frozen=True)
class Answer:
    """What a graph explains, its target of most weight, as a node to be watched."""

    node: NodeId
    """The logit node."""
    text: str
    """Its text."""
    plus: int
    """Vocabulary id of the answer, or of the first answer of a difference."""
    minus: int | None
    """Vocabulary id of the second answer of a difference; None for a logit, which is taken minus the mean of all."""
    cap: float | None
    """The model's soft cap, if it has one: the value is taken before it."""
    edges: dict[Place, float]
    """The edges into it from features, kept by the graph or not, up to those of the tail."""
    nodes: frozenset[Place]
    """The features that are nodes of the graph."""

    @classmethod
    def of(cls, home: Home, case: Case) -> Self | None:
        """The answer of the case's graph; None without a graph, and for a vector, which logits do not give."""
        if case.graph is None:
            return None
        spec = TargetSpec.from_json(read_manifest(home, case.graph).identity["targets"])
        if spec.kind == "vector":
            return None
        nodes = read_table(home, case.graph, Nodes)
        at = int(np.flatnonzero(nodes.is_answer)[0])
        index = int(nodes.index[at])
        plus, minus = _difference(spec, case) if spec.kind == "difference" else (index, None)
        return cls(
            node=NodeId("logit", int(nodes.layer[at]), index, int(nodes.position[at])),
            text=str(nodes.text[at]),
            plus=plus,
            minus=minus,
            cap=case.model.weights().logit_softcap,
            edges=_edges(read_table(home, case.graph, Incoming), at),
            nodes=frozenset(_places(nodes, nodes.kind == "feature")),
        )

    def value(self, logits: Tensor) -> Tensor:
        """[...] value of the node, given the model's logits [..., V]."""
        if self.cap is not None:
            logits = torch.atanh(logits / self.cap) * self.cap
        other = logits.mean(dim=-1) if self.minus is None else logits[..., self.minus]
        return logits[..., self.plus] - other

    def predicted(self, case: Case, edits: Edits) -> float | None:
        """Change of the value that the edges predict: each weight, times the part of its activation that is changed.

        0 where nothing is changed. None where an activation is changed that was 0, for it has no edge; and where no
        edge is listed: what the artefact's tail leaves out is not told one by one. Changes after the prompt do not
        count.
        """
        changed = changed_activations(case, edits)
        total, listed = 0.0, not changed
        for place, before, change in changed:
            if before == 0:
                return None
            if place in self.edges:
                total, listed = total + self.edges[place] * change / before, True
        return total if listed else None


@dataclass(frozen=True)
class Done:
    """One change of a plan that ran."""

    change: Change
    """What was asked."""
    edits: Edits
    """What it came to in this run."""

    @property
    def supernode(self) -> str | None:
        """Name of the supernode that was changed; None for features."""
        return self.change.what if isinstance(self.change.what, str) else None


def run_id(graph: str, plan: Plan, done: Sequence[Done], mode: Mode) -> str:
    """Names the run: sha256 of its graph, its mode, its plan without the name, and the features and positions that the
    plan came to, for supernodes and answers of questions change."""
    places = [torch.stack([d.edits.layers, d.edits.indices, d.edits.positions], dim=1).tolist() for d in done]
    asked = replace(plan, name=None).to_json()
    return content_hash({"graph": graph, "mode": mode, "plan": asked, "places": places})


def evidence_of(
    case: Case, answer: Answer, plan: Plan, done: Sequence[Done], mode: Mode, observed: float, said: tuple[str, str]
) -> list[Evidence]:
    """Rows for the answer's node: one a supernode changed, one a node of the graph changed.

    `said` is the answer before and after. No rows if what was changed is not in the graph, or only one of its features
    is (see above); nor if numbers rounded otherwise than in the graph.
    """
    assert case.graph is not None
    if not case.own_precision:
        return []
    before, after = said
    run = run_id(case.graph, plan, done, mode)
    text = canonical_json(plan.to_json())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    changed = {id(one): changed_activations(case, one.edits) for one in done}
    alone = sum(map(len, changed.values())) == 1
    rows = []
    for one in done:
        single = alone or (one.supernode is not None and len(done) == 1)
        predicted = answer.predicted(case, one.edits) if single else None
        places = [place for place, _, _ in changed[id(one)] if place in answer.nodes]
        sources = [None] if one.supernode and changed[id(one)] else [NodeId("feature", *place) for place in places]
        rows += [
            Evidence(
                run=run,
                graph=case.graph,
                action=one.change.action,
                mode=mode,
                source=source,
                supernode=one.supernode,
                target=answer.node,
                strength=one.change.value,
                predicted=predicted,
                observed=observed,
                answer_before=before,
                answer_after=after,
                flipped=before != after,
                plan=text,
                time=now,
            )
            for source in sources
        ]
    return rows if _faithful(rows, done, changed.values()) else []


def keep(home: Home, rows: Iterable[Evidence]) -> int:
    """Write evidence down and load it; how many rows were new. A run that is known is not written again, for another
    batch may round its last digits otherwise."""
    known = {_key(row) for row in read_evidence(home).values()}
    added = append_evidence(home, [row for row in rows if _key(row) not in known])
    if added:
        load(home)
    return added


def _key(row: Evidence) -> tuple[str, NodeId | None, str | None, NodeId]:
    return row.run, row.source, row.supernode, row.target


def _faithful(
    rows: Sequence[Evidence], done: Sequence[Done], changed: Iterable[Sequence[tuple[Place, float, float]]]
) -> bool:
    """Whether rows of one thing mean that one thing was changed."""
    told = {row.supernode or (row.source and (row.source.layer, row.source.index)) for row in rows}
    features = {place[:2] for places in changed for place, _, _ in places}
    features |= {place for one in done for place in _later(one.edits)}
    return len(told) > 1 or len(features) == 1 or (len(done) == 1 and done[0].supernode is not None)


def changed_activations(case: Case, edits: Edits) -> list[tuple[Place, float, float]]:
    """(place, clean activation, change of it) of every activation of the prompt that is changed from the clean run."""
    before = clean_activations(case, edits)
    change = (edits.factors - 1) * before + edits.offsets
    columns = (edits.layers, edits.indices, edits.positions, before, change)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        ((layer, index, position), was, by)
        for layer, index, position, was, by in rows
        if by != 0 and position != GENERATED
    ]


def clean_activations(case: Case, edits: Edits) -> Tensor:
    """[n] float64 activations of the clean run that edits are about; 0 where a feature does not fire."""
    found = torch.zeros(len(edits), dtype=torch.float64)
    for layer in torch.unique(edits.layers).tolist():
        own = edits.layers == layer
        device = case.model.device
        values = case.activations(layer, edits.indices[own].to(device), edits.positions[own].to(device))
        found[own] = values.double().cpu()
    return found


def _later(edits: Edits) -> set[tuple[int, int]]:
    """Features changed after the prompt."""
    own = edits.positions == GENERATED
    return set(zip(edits.layers[own].tolist(), edits.indices[own].tolist(), strict=True))


def _difference(spec: TargetSpec, case: Case) -> tuple[int, int]:
    """Ids of the two tokens whose logits a difference is of."""
    answers = spec.difference or ()
    vocabulary, weights = Vocabulary.of(case.model.tokenizer), case.model.weights()
    if all(isinstance(answer, str) for answer in answers):
        strings = TargetSpec(kind="strings", strings=tuple(map(str, answers)), position=spec.position)
        first, second = resolve_targets(strings, case.run, weights, vocabulary).ids.tolist()
        return first, second
    first, second = (vocabulary.encode(a)[0] if isinstance(a, str) else a for a in answers)
    return int(first), int(second)


def _edges(incoming: Incoming, target: int) -> dict[Place, float]:
    own = (incoming.target == target) & (incoming.kind == "feature")
    return dict(zip(_places(incoming, own), incoming.weight[own].tolist(), strict=True))


def _places(table: Nodes | Incoming, chosen: np.ndarray) -> list[Place]:
    columns = (table.layer[chosen].tolist(), table.index[chosen].tolist(), table.position[chosen].tolist())
    return list(zip(*columns, strict=True))
