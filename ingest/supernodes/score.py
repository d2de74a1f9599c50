"""How much of a graph the features of a circuit explain: the house's two scores, with all else counted as an error.

The scores of a whole graph (ingest/attribution/prune.py) ask how much enters by tokens and pictures rather than by
errors. Of a circuit they ask the same with every feature outside it counted as an error too: influence that reaches
such a feature ends there. Weights are the unpruned ones (`incoming` holds 0.999 of each row; the rest is left out of
the sums), biases have no influence, and a circuit of all features of an unpruned graph has the scores of the graph.
An imported graph has only its edges: its scores are over those.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from atlas.config import Home
from atlas.domain.circuit import Circuit
from atlas.domain.note import Supernode
from atlas.ids import FeatureId
from ingest.supernodes.graph import target_weights, with_supernodes


@dataclass(frozen=True)
class CircuitScores:
    """Scores of the circuit that some features of a graph form."""

    replacement: float
    """Influence of tokens and pictures over that of all that has no input here: tokens, pictures, errors, features
    outside."""
    completeness: float
    """Share of incoming weight that comes from inside, averaged over nodes by influence (tokens are complete)."""
    features: int
    """Features of the circuit that the graph keeps."""
    occurrences: int
    """Their nodes."""


def score(circuit: Circuit, features: Collection[FeatureId]) -> CircuitScores:
    """The scores of a circuit made of these features, at every position where the graph keeps them."""
    nodes = circuit.nodes
    names = [FeatureId(*pair) for pair in zip(nodes.layer.tolist(), nodes.index.tolist(), strict=True)]
    kept = nodes.kind == "feature"
    inside = kept & np.array([name in features for name in names], dtype=bool)
    rows = _rows(circuit, inside)
    importance = target_weights(circuit)
    importance /= importance.sum()
    on_tokens = on_rest = 0.0
    for layer in np.unique(nodes.layer[rows.target])[::-1]:  # from the logits down: a row is complete before it is used
        at = np.flatnonzero(nodes.layer[rows.target] == layer)
        flow = rows.share[at] * importance[rows.target[at]]
        live = rows.source[at] >= 0
        np.add.at(importance, rows.source[at][live], flow[live])
        on_tokens += float(flow[rows.is_token[at]].sum())
        rest = ~live & ~rows.is_token[at]
        on_rest += float(flow[rest].sum())
    entered = on_tokens + on_rest
    return CircuitScores(
        replacement=on_tokens / entered if entered > 0 else 0.0,
        completeness=1 - on_rest / (float(importance.sum()) + entered),
        features=len({name for name, member in zip(names, inside.tolist(), strict=True) if member}),
        occurrences=int(inside.sum()),
    )


def score_rows(home: Home, graph_id: str) -> list[dict[str, Any]]:
    """Scores of the circuit that the supernodes of a graph form, of it without each of them, and to compare with.

    Raises InputError if no supernode has a feature in the graph.
    """
    circuit, supernodes = with_supernodes(home, graph_id)
    whole = score(circuit, _features(supernodes))
    rows = [_row(circuit, "all supernodes", whole)]
    for left_out in supernodes:
        others = [node for node in supernodes if node is not left_out]
        rows.append(_row(circuit, f"without {left_out.name}", score(circuit, _features(others))))
    rows.append(_row(circuit, "all features kept", score(circuit, _kept(circuit))))
    named = {name: circuit.scores.get(name) for name in ("replacement", "completeness")}
    count = circuit.scores.get("attributed")
    unpruned = {"features": None, "occurrences": None if count is None else int(count)}
    return [*rows, {"graph": circuit.description.slug, "circuit": "graph before pruning"} | named | unpruned]


def _row(circuit: Circuit, name: str, scores: CircuitScores) -> dict[str, Any]:
    return {"graph": circuit.description.slug, "circuit": name} | asdict(scores)


def _kept(circuit: Circuit) -> set[FeatureId]:
    """Every feature that a graph keeps."""
    kept = circuit.nodes.take(circuit.nodes.kind == "feature")
    return {FeatureId(*pair) for pair in zip(kept.layer.tolist(), kept.index.tolist(), strict=True)}


def _features(supernodes: Sequence[Supernode]) -> set[FeatureId]:
    return {feature for node in supernodes for feature in node.features}


@dataclass(frozen=True)
class _Rows:
    """What the nodes of the circuit and the logits read."""

    target: np.ndarray
    """int64: ordinal of the reader."""
    source: np.ndarray
    """int64: ordinal of the source if it is a feature of the circuit, else -1."""
    is_token: np.ndarray
    """bool: whether the source is a token or an image position."""
    share: np.ndarray
    """float64: |weight| over the reader's sum, biases left out."""


def _rows(circuit: Circuit, inside: np.ndarray) -> _Rows:
    nodes = circuit.nodes
    ordinal = {key: row for row, key in enumerate(_keys(nodes)) if inside[row]}
    if circuit.partial:
        edges = circuit.edges
        target, weight = edges.target.astype(np.int64), np.abs(edges.weight.astype(np.float64))
        kind = nodes.kind[edges.source]
        source = np.where(inside[edges.source], edges.source, -1).astype(np.int64)
    else:
        incoming = circuit.incoming
        target, weight = incoming.target.astype(np.int64), np.abs(incoming.weight.astype(np.float64))
        kind = incoming.kind
        source = np.array([ordinal.get(key, -1) for key in _keys(incoming)], dtype=np.int64)
    reader = inside | (nodes.kind == "logit")
    used = reader[target] & (kind != "bias")
    target, weight, kind, source = target[used], weight[used], kind[used], source[used]
    sums = np.bincount(target, weight, len(nodes))
    share = weight / np.where(sums > 0, sums, 1.0)[target]
    return _Rows(target, source, np.isin(kind, ["token", "image"]), share)


def _keys(table: object) -> list[tuple[str, int, int, int]]:
    """(kind, layer, index, position) of each row of nodes or of incoming edges."""
    columns = (getattr(table, name).tolist() for name in ("kind", "layer", "index", "position"))
    return list(zip(*columns, strict=True))
