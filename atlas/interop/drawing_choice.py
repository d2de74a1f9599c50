"""What a drawing shows of a graph: the strongest nodes, and the edges that matter most between them."""

from dataclasses import dataclass

import numpy as np

from atlas.domain.circuit import Circuit
from atlas.domain.influence import influence_shares

MAX_LOGITS = 6
EDGES_PER_NODE = 2
"""Edges drawn per node drawn, on average; more make a figure nobody can follow."""
EDGES_PER_TARGET = 20
"""Edges drawn into one node at most, but for the best of each source: a logit has edges from everywhere."""


@dataclass(frozen=True)
class Choice:
    """The part of a graph that is drawn."""

    strength: np.ndarray
    """float64 [n_nodes]: share of all influence, as far as known; probability for logits."""
    nodes: np.ndarray
    """int64: ordinals of the features and errors drawn, strongest first."""
    logits: np.ndarray
    """int64: ordinals of the logits drawn, most probable first."""
    inputs: np.ndarray
    """int64: ordinals of all token and image nodes."""
    edges: np.ndarray
    """int64: rows of the edges drawn, the weakest first."""


def choose(circuit: Circuit, top: int) -> Choice:
    """The `top` strongest features and errors, and the edges among them, their inputs and the logits."""
    kind = circuit.nodes.kind
    strength = strengths(circuit)
    middle = np.flatnonzero((kind == "feature") | (kind == "error"))
    middle = middle[np.argsort(-strength[middle], kind="stable")][:top]
    logits = np.flatnonzero(kind == "logit")
    logits = logits[np.argsort(-strength[logits], kind="stable")][:MAX_LOGITS]
    inputs = np.flatnonzero((kind == "token") | (kind == "image"))
    drawn = np.concatenate([middle, logits, inputs])
    edges = _edges(circuit, drawn, EDGES_PER_NODE * (len(middle) + len(logits)))
    return Choice(strength, middle, logits, inputs, edges)


def strengths(circuit: Circuit) -> np.ndarray:
    """Share of all influence per node; for logits their probability."""
    nodes = circuit.nodes
    logit = nodes.kind == "logit"
    strength: np.ndarray = np.maximum(np.nan_to_num(influence_shares(nodes)), 0.0)
    probability = np.nan_to_num(nodes.probability)
    # a target without a probability (a difference, a vector) is still what the graph explains
    strength[logit] = np.where(nodes.is_answer[logit], np.maximum(probability[logit], 1e-6), probability[logit])
    return strength


def flows(circuit: Circuit) -> np.ndarray:
    """float64 [n_edges]: how much of the logits' probability each edge carries, over the edges of this graph.

    A node hands what reaches it from the logits on to its sources by their shares, from the top layer down.
    """
    edges, nodes = circuit.edges, circuit.nodes
    share = np.nan_to_num(edges.share).astype(np.float64)
    layer = nodes.layer[edges.target]
    carried = np.where(nodes.kind == "logit", np.nan_to_num(nodes.probability), 0.0)
    carried[nodes.is_answer & (carried == 0.0)] = 1.0
    flow = np.zeros(len(edges))
    for at in np.unique(layer)[::-1]:
        rows = np.flatnonzero(layer == at)
        flow[rows] = share[rows] * carried[edges.target[rows]]
        np.add.at(carried, edges.source[rows], flow[rows])
    return flow


def _rank_within(group: np.ndarray) -> np.ndarray:
    """How many earlier rows have the same value."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.searchsorted(ordered, ordered, side="left")
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - starts
    return rank


def _edges(circuit: Circuit, shown: np.ndarray, limit: int) -> np.ndarray:
    """The edges between nodes shown that carry most, and each node's best edge in and out."""
    edges = circuit.edges
    visible = np.zeros(len(circuit.nodes), dtype=bool)
    visible[shown] = True
    among = np.flatnonzero(visible[edges.source] & visible[edges.target])
    flow = flows(circuit)[among]
    order = among[np.argsort(-flow, kind="stable")]
    kept = set(order[_rank_within(edges.target[order]) < EDGES_PER_TARGET][:limit].tolist())
    middle = (circuit.nodes.kind == "feature") | (circuit.nodes.kind == "error")
    for ends in (edges.source, edges.target):
        # the first row of each end, in order of flow, is that node's best
        ends_in_order, first = np.unique(ends[order], return_index=True)
        kept.update(order[first[middle[ends_in_order]]].tolist())
    rows = np.array(sorted(kept), dtype=np.int64)
    return rows[np.argsort(np.nan_to_num(edges.share[rows]), kind="stable")]
