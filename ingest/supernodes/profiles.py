"""What a feature reads and feeds, as vectors that compare over positions and graphs.

A feature's profile is made of signed shares of edges: how much of its input comes from what, and how much of whose
input it makes up. The other end is named without its position (a feature, a token's text, a picture, a logit), so that
the same feature on two patches counts as one, and profiles of several graphs add up. Errors and biases are left out:
all features of a layer read the same ones, and what they stand for is not known.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from atlas.domain.circuit import Edges, FeatureVectors, Nodes
from atlas.domain.influence import influence_shares
from atlas.ids import FeatureId

_UNKNOWN = ("error", "bias")
_Place = tuple[str, int, int]
"""Kind, layer and index of the other end of an edge."""


@dataclass(frozen=True)
class Traced:
    """What is read of one graph."""

    nodes: Nodes
    """Its nodes."""
    edges: Edges
    """Its edges."""
    vectors: FeatureVectors | None
    """What its features write; None for imports."""


@dataclass(frozen=True)
class Profiles:
    """Features with all that they are compared by, n of them, sorted."""

    features: list[FeatureId]
    """The features."""
    influence: np.ndarray
    """float64 [n]: share of influence, over positions and graphs added up, divided by the number of graphs."""
    reads: np.ndarray
    """float64 [n, sources]: signed shares of their input, added up."""
    feeds: np.ndarray
    """float64 [n, targets]: signed shares of others' input that they make up, added up."""
    written: np.ndarray
    """float64 [n, d]: what they write to the residual stream; zero where no graph brought it."""

    def similarity(self, decoder_weight: float) -> np.ndarray:
        """float64 [n, n] in -1..1: cosine of the profiles, with the cosine of what is written at `decoder_weight`.

        The profiles' cosine is the mean of what is read and what is fed; a side that one of two features does not have
        says nothing of the pair. Where nothing is known of a pair, it is 0.
        """
        edges = _mean([_cosine(self.reads), _cosine(self.feeds)], [1.0, 1.0])
        alike: np.ndarray = np.nan_to_num(_mean([edges, _cosine(self.written)], [1.0 - decoder_weight, decoder_weight]))
        return alike


def profiles(graphs: Sequence[Traced], top: int, leave_out: Collection[FeatureId] = ()) -> Profiles:
    """The `top` most influential features of some graphs but for some, with their profiles over these graphs."""
    strength: dict[FeatureId, float] = {}
    for graph in graphs:
        shares = np.nan_to_num(influence_shares(graph.nodes))
        for row in np.flatnonzero(graph.nodes.kind == "feature").tolist():
            feature = FeatureId(int(graph.nodes.layer[row]), int(graph.nodes.index[row]))
            if feature not in leave_out:
                strength[feature] = strength.get(feature, 0.0) + float(shares[row]) / len(graphs)
    features = sorted(sorted(strength, key=lambda feature: (-strength[feature], feature))[:top])
    number = {feature: at for at, feature in enumerate(features)}
    reads = _Table(len(features))
    feeds = _Table(len(features))
    for graph in graphs:
        _add_edges(graph, number, reads, feeds)
    return Profiles(
        features,
        np.array([strength[feature] for feature in features]),
        reads.array(),
        feeds.array(),
        _written(graphs, features),
    )


class _Table:
    """Cells [n, places] that are added to; places get columns in the order of their names."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._cells: dict[_Place, list[tuple[int, float]]] = {}

    def add(self, row: int, place: _Place, value: float) -> None:
        self._cells.setdefault(place, []).append((row, value))

    def array(self) -> np.ndarray:
        """float64 [n, places]."""
        found = np.zeros((self._rows, len(self._cells)))
        for column, place in enumerate(sorted(self._cells)):
            rows, values = zip(*self._cells[place], strict=True)
            np.add.at(found[:, column], list(rows), list(values))
        return found


def _add_edges(graph: Traced, number: dict[FeatureId, int], reads: _Table, feeds: _Table) -> None:
    nodes, edges = graph.nodes, graph.edges
    places: list[_Place] = [
        (str(kind), int(layer), int(index))
        for kind, layer, index in zip(nodes.kind, nodes.layer, nodes.index, strict=True)
    ]
    owner = [number.get(FeatureId(layer, index), -1) if kind == "feature" else -1 for kind, layer, index in places]
    signed = np.nan_to_num(edges.share).astype(np.float64) * np.sign(edges.weight)
    for source, target, value in zip(edges.source.tolist(), edges.target.tolist(), signed.tolist(), strict=True):
        if owner[target] >= 0 and places[source][0] not in _UNKNOWN:
            reads.add(owner[target], places[source], value)
        if owner[source] >= 0:
            feeds.add(owner[source], places[target], value)


def _written(graphs: Sequence[Traced], features: Sequence[FeatureId]) -> np.ndarray:
    """Rows from the first graph that has them; features are the same in all."""
    rows: dict[FeatureId, np.ndarray] = {}
    for graph in graphs:
        if graph.vectors is not None:
            names = zip(graph.vectors.layer.tolist(), graph.vectors.index.tolist(), strict=True)
            for name, row in zip(names, graph.vectors.written(), strict=True):
                rows.setdefault(FeatureId(*name), row)
    found = np.zeros((len(features), len(next(iter(rows.values()))) if rows else 0))
    for at, feature in enumerate(features):
        if feature in rows:
            found[at] = rows[feature]
    return found


def _cosine(rows: np.ndarray) -> np.ndarray:
    """[n, n]; NaN where one of two rows is zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / np.where(lengths > 0, lengths, 1.0)
    known = lengths[:, 0] > 0
    cosine: np.ndarray = np.where(known[:, None] & known, unit @ unit.T, np.nan)
    return cosine


def _mean(parts: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Weighted mean of what is known in each cell; NaN where nothing is."""
    total, weight = np.zeros_like(parts[0]), np.zeros_like(parts[0])
    for part, factor in zip(parts, weights, strict=True):
        known = np.isfinite(part)
        total += np.where(known, part, 0.0) * factor
        weight += known * factor
    mean: np.ndarray = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return mean
