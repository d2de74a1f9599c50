"""How much of a graph's influence each node has: the number by which nodes of different graphs compare."""

import numpy as np

from atlas.domain.circuit import Nodes

_WITHOUT = ("logit", "bias")  # nothing flows into these: a logit is where influence starts, a bias has none


def influence_shares(nodes: Nodes) -> np.ndarray:
    """float64 [n]: each node's part of the influence of all nodes kept; NaN for logits, biases and where none is known.

    Raw influence where the graph has it. An import only brings the cumulative share: its step from rank to rank is the
    node's own share, at most as large as the step before, because nodes that pruning took out leave a larger one.
    """
    counted = ~np.isin(nodes.kind, _WITHOUT)
    known = counted & np.isfinite(nodes.influence)
    weights = np.where(known, nodes.influence, 0.0)
    ranked = np.flatnonzero(counted & ~known & np.isfinite(nodes.cumulative))
    ranked = ranked[np.argsort(nodes.cumulative[ranked], kind="stable")]
    weights[ranked] = np.minimum.accumulate(np.diff(nodes.cumulative[ranked], prepend=0.0))
    whole = weights.sum()
    return np.where(counted, weights / whole, np.nan) if whole > 0 else np.full(len(nodes), np.nan)
