"""What is watched while features are taken away, and the rows of evidence that it gives.

For each feature the answer's logit, if the graph explains one, and the features that its strongest edges lead to, by
share of what those read: shares compare where weights do not. The change that an edge predicts is minus its weight.
Letters used in shapes: n features taken away, m edges watched, B runs of which the first changes nothing.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor

from atlas.artefact.read import read_table
from atlas.config import Home
from atlas.domain.circuit import Edges, Nodes
from atlas.domain.evidence import Evidence, Mode
from atlas.domain.plan import Change, Plan
from atlas.ids import FeatureId, NodeId, canonical_json
from ingest.interventions.case import Case
from ingest.interventions.edits import Edits
from ingest.interventions.predict import Lead
from ingest.interventions.record import Answer, Done, run_id

_WATCHED = 5  # edges of a feature


@dataclass(frozen=True, eq=False)
class Targets:
    """Features watched, one for every edge."""

    rows: Tensor
    """[m] int64 which of the features taken away the edge comes from."""
    layers: Tensor
    """[m] int64"""
    indices: Tensor
    """[m] int64"""
    positions: Tensor
    """[m] int64"""


@dataclass(frozen=True, eq=False)
class Seen:
    """What became of things in one mode."""

    lead: Tensor
    """[n] float64 change of the answer's lead."""
    answer: Tensor | None
    """[n] float64 change of the answer's value, as the graph explains it; None if it explains none that can be read."""
    said_before: int
    """The most probable token without a change."""
    said: Tensor
    """[n] int64 the most probable token."""
    watched: Tensor
    """[m] float64 change of the pre-activations watched."""

    @classmethod
    def of(cls, lead: Lead, answer: Answer | None, logits: Tensor, pre: Tensor, rows: Tensor) -> "Seen":
        """From logits [B, V] and pre-activations [B, m] of runs; edge j is watched in run rows[j] + 1."""
        leads, said = lead.value(logits), logits.argmax(dim=-1)
        values = None if answer is None else answer.value(logits)
        return cls(
            lead=leads[1:] - leads[0],
            answer=None if values is None else values[1:] - values[0],
            said_before=int(said[0]),
            said=said[1:],
            watched=pre[rows + 1, torch.arange(len(rows))] - pre[0],
        )

    @classmethod
    def joined(cls, parts: list["Seen"]) -> "Seen":
        """Of all features."""
        answers = [part.answer for part in parts if part.answer is not None]
        return cls(
            lead=torch.cat([part.lead for part in parts]),
            answer=torch.cat(answers) if answers else None,
            said_before=parts[0].said_before,
            said=torch.cat([part.said for part in parts]),
            watched=torch.cat([part.watched for part in parts]),
        )


@dataclass(frozen=True, eq=False)
class Watch:
    """The features taken away, and what is watched of each."""

    nodes: tuple[NodeId, ...]
    """The n features."""
    answer: Answer | None
    """The answer's node; None for a target that logits do not give."""
    answer_abs: float
    """Sum of |incoming| of it."""
    rows: np.ndarray
    """int64 [m] which of the n an edge comes from, ascending."""
    ends: tuple[NodeId, ...]
    """m nodes that edges lead to."""
    weights: np.ndarray
    """float64 [m] weights of the edges."""
    incoming_abs: np.ndarray
    """float64 [m] sum of |incoming| of what each leads to."""

    @classmethod
    def of(cls, home: Home, case: Case, nodes: Nodes, ordinals: list[int]) -> "Watch":
        """For feature nodes of the case's graph, by ordinal."""
        assert case.graph is not None, "what is checked is a graph"
        edges = read_table(home, case.graph, Edges)
        inside = nodes.kind[edges.target] == "feature"
        found = []
        for row, ordinal in enumerate(ordinals):
            own = np.flatnonzero(inside & (edges.source == ordinal))
            best = own[np.argsort(-edges.share[own], kind="stable")[:_WATCHED]]
            found += [(row, edge) for edge in best.tolist()]
        chosen = np.array([edge for _, edge in found], dtype=np.int64)
        ends = edges.target[chosen]
        answer = Answer.of(home, case)
        return cls(
            nodes=tuple(_node(nodes, ordinal) for ordinal in ordinals),
            answer=answer,
            answer_abs=float(nodes.incoming_abs[np.flatnonzero(nodes.is_answer)[0]]),
            rows=np.array([row for row, _ in found], dtype=np.int64),
            ends=tuple(_node(nodes, ordinal) for ordinal in ends.tolist()),
            weights=edges.weight[chosen].astype(np.float64),
            incoming_abs=nodes.incoming_abs[ends],
        )

    def targets(self, start: int, stop: int) -> Targets:
        """What is watched of the features from `start` up to `stop`, whose rows then count from 0."""
        first, last = np.searchsorted(self.rows, [start, stop]).tolist()
        ends = self.ends[first:last]
        return Targets(
            torch.from_numpy(self.rows[first:last] - start),
            *(
                torch.tensor([getattr(e, name) for e in ends], dtype=torch.int64)
                for name in ("layer", "index", "position")
            ),
        )

    def answer_edge(self, node: NodeId) -> float | None:
        """Change of the answer's value that the graph's edge predicts; None where it lists none, for then it is one of
        the many that the tail sums up."""
        weight = None if self.answer is None else self.answer.edges.get((node.layer, node.index, node.position))
        return None if weight is None else -weight

    def gap(self, seen: Seen, predicted: Tensor, lead_abs: float) -> float:
        """Largest difference of predicted and seen, each over the sum of |incoming| of its target."""
        gaps = [float((seen.lead - predicted.double().cpu()).abs().max()) / lead_abs]
        if len(self.weights):
            gaps.append(float(np.abs((seen.watched.numpy() + self.weights) / self.incoming_abs).max()))
        if seen.answer is not None:
            edges = [self.answer_edge(node) for node in self.nodes]
            pairs = [(edge, value) for edge, value in zip(edges, seen.answer.tolist(), strict=True) if edge is not None]
            gaps += [abs(value - edge) / self.answer_abs for edge, value in pairs]
        return max(gaps)


def evidence_rows(case: Case, watch: Watch, mode: Mode, seen: Seen) -> list[Evidence]:
    """A row for each feature's answer and each edge watched. What the model says is its most probable next token."""
    assert case.graph is not None, "what is checked is a graph"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = _text(case, seen.said_before)
    rows = []
    watched: list[list[tuple[NodeId, float | None, float]]] = [[] for _ in watch.nodes]
    if watch.answer is not None and seen.answer is not None:
        for row, node in enumerate(watch.nodes):
            watched[row].append((watch.answer.node, watch.answer_edge(node), float(seen.answer[row])))
    for row, end, weight, change in zip(watch.rows, watch.ends, watch.weights, seen.watched.tolist(), strict=True):
        watched[row].append((end, -float(weight), change))
    for node, said, ends in zip(watch.nodes, seen.said.tolist(), watched, strict=True):
        change = Change((FeatureId(node.layer, node.index),), (node.position,), "ablate")
        plan, done = Plan((change,)), Done(change, Edits.of([node.layer], [node.index], [node.position]))
        run, text = run_id(case.graph, plan, [done], mode), canonical_json(plan.to_json())
        rows += [
            Evidence(
                run=run,
                graph=case.graph,
                action="ablate",
                mode=mode,
                source=node,
                target=end,
                predicted=predicted,
                observed=observed,
                answer_before=before,
                answer_after=_text(case, said),
                flipped=said != seen.said_before,
                plan=text,
                time=now,
            )
            for end, predicted, observed in ends
        ]
    return rows


def _text(case: Case, token: int) -> str:
    return str(case.model.tokenizer.decode([token])).strip()


def _node(nodes: Nodes, ordinal: int) -> NodeId:
    columns = (nodes.layer, nodes.index, nodes.position)
    return NodeId(nodes.kind[ordinal], *(int(column[ordinal]) for column in columns))
