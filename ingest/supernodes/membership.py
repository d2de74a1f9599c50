"""Which nodes of a graph are in which group: supernodes first, then what is left, pooled by kind and modality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atlas.domain.circuit import Edges, Nodes, Positions
from atlas.domain.note import Supernode
from atlas.ids import FeatureId

_POOLS = {
    ("feature", "image"): ("other features on pictures", "features"),
    ("feature", "text"): ("other features on words", "features"),
    ("error", "image"): ("errors on pictures", "errors"),
    ("error", "text"): ("errors on words", "errors"),
    ("image", "image"): ("image patches", "image"),
    ("token", "text"): ("tokens", "tokens"),
    ("bias", "image"): ("biases", "biases"),
    ("bias", "text"): ("biases", "biases"),
}
"""Name and kind of the group of what is in no supernode; a logit is a group of its own."""
_NOBODY = -1


@dataclass(frozen=True)
class Group:
    """Nodes of one graph that are seen as one."""

    name: str
    """Name of the supernode or the pool, or text of the logit."""
    kind: str
    """supernode, features, errors, image, tokens, biases or logit."""
    nodes: int
    """How many nodes it has here."""
    first_layer: int
    """Lowest layer of its nodes; -1 for what enters below layer 0."""
    last_layer: int
    """Highest layer; the number of layers for logits."""
    is_answer: bool
    """Whether it is the logit that the graph explains most of all."""


@dataclass(frozen=True)
class Membership:
    """A graph's nodes in groups. A node of several belongs to each in equal parts, so that nothing counts twice."""

    groups: tuple[Group, ...]
    """Supernodes by name, pools, logits; each has a node at least."""
    owner: np.ndarray
    """int64 [n_nodes, m]: numbers of the groups each node is in; -1 where there are fewer than m."""

    def add_nodes(self, values: np.ndarray) -> np.ndarray:
        """float64 [groups]: values [n_nodes] added up."""
        found = np.zeros(len(self.groups))
        part = values / (self.owner >= 0).sum(axis=1)
        for column in self.owner.T:
            known = column >= 0
            np.add.at(found, column[known], part[known])
        return found

    def add_edges(self, edges: Edges, values: np.ndarray) -> np.ndarray:
        """float64 [groups, groups]: values [n_edges] added up, by the group of the source and of the target."""
        found = np.zeros((len(self.groups),) * 2)
        sizes = (self.owner >= 0).sum(axis=1)
        part = values / (sizes[edges.source] * sizes[edges.target])
        for sources in self.owner[edges.source].T:
            for targets in self.owner[edges.target].T:
                known = (sources >= 0) & (targets >= 0)
                np.add.at(found, (sources[known], targets[known]), part[known])
        return found


def membership(nodes: Nodes, positions: Positions, supernodes: Sequence[Supernode]) -> Membership:
    """Put every node of a graph into groups; supernodes without a node here are left out."""
    owners: dict[FeatureId, list[str]] = {}
    for supernode in supernodes:
        for feature in supernode.features:
            owners.setdefault(feature, []).append(supernode.name)
    modality = dict(zip(positions.position.tolist(), positions.modality.tolist(), strict=True))
    members: dict[tuple[str, str], list[int]] = {(node.name, "supernode"): [] for node in supernodes}
    members |= {pool: [] for pool in _POOLS.values()}
    for row, kind in enumerate(nodes.kind.tolist()):
        names = owners.get(FeatureId(int(nodes.layer[row]), int(nodes.index[row])), []) if kind == "feature" else []
        if kind == "logit":
            members[str(row), "logit"] = [row]  # two logits may have one text
        elif not names:
            members[_POOLS[kind, modality[int(nodes.position[row])]]].append(row)
        for name in names:
            members[name, "supernode"].append(row)
    return _gather(nodes, {key: rows for key, rows in members.items() if rows})


def _gather(nodes: Nodes, members: Mapping[tuple[str, str], list[int]]) -> Membership:
    groups = []
    of_node: list[list[int]] = [[] for _ in range(len(nodes))]
    for number, ((name, kind), rows) in enumerate(members.items()):
        text = (nodes.text[rows[0]] or str(nodes.index[rows[0]])) if kind == "logit" else name
        layers, answer = nodes.layer[rows], bool(nodes.is_answer[rows].any())
        groups.append(Group(text, kind, len(rows), int(layers.min()), int(layers.max()), answer))
        for row in rows:
            of_node[row].append(number)
    owner = np.full((len(nodes), max(map(len, of_node), default=1)), _NOBODY, dtype=np.int64)
    for row, numbers in enumerate(of_node):
        owner[row, : len(numbers)] = numbers
    return Membership(tuple(groups), owner)
