"""The supernode graph of one graph: groups as nodes, and between them the attribution of all edges, added up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atlas.artefact.notes import read_notes
from atlas.artefact.read import read_circuit
from atlas.config import Home
from atlas.domain.circuit import Circuit
from atlas.domain.influence import influence_shares
from atlas.domain.note import Supernode
from atlas.errors import InputError
from ingest.supernodes.membership import Group, membership


@dataclass(frozen=True)
class Link:
    """All edges from one group to another, or inside one."""

    source: int
    """Number of the upstream group."""
    target: int
    """Number of the downstream group; equal to `source` for the edges inside a group."""
    weight: float
    """Their weights, added up: in units of the targets' pre-activations."""
    share: float
    """Part of the target group's input: |weight| over all |incoming|, pruned ones included, averaged over the group's
    nodes by their influence (logits: by their probability)."""
    net: float
    """The same with the signs of the edges."""
    carried: float
    """Influence on the targets that runs through it, over their weights: each edge's share times its target's."""


@dataclass(frozen=True)
class SupernodeGraph:
    """A graph with its nodes in groups."""

    circuit: Circuit
    """The graph."""
    groups: tuple[Group, ...]
    """Supernodes by name, pools of what is in none, logits; a link's ends are numbers in this order."""
    influence: np.ndarray
    """float64 [groups]: share of the influence of all nodes kept; 0 for biases and logits, which have none."""
    links: tuple[Link, ...]
    """By source, then target."""


def supernode_graph(home: Home, graph_id: str) -> SupernodeGraph:
    """The graph with the supernodes of its transcoder set. Raises InputError if none of them has a node in it."""
    circuit, supernodes = with_supernodes(home, graph_id)
    return pooled(circuit, supernodes)


def with_supernodes(home: Home, graph_id: str) -> tuple[Circuit, list[Supernode]]:
    """A graph, and the supernodes that have a feature in it. Raises InputError if there is none."""
    circuit = read_circuit(home, graph_id, check=False)
    known = [node for node in read_notes(home).supernodes() if node.transcoders == circuit.transcoders]
    nodes = circuit.nodes
    kept = set(zip(nodes.kind.tolist(), nodes.layer.tolist(), nodes.index.tolist(), strict=True))
    found = [node for node in known if any(("feature", f.layer, f.index) in kept for f in node.features)]
    if not found:
        raise InputError(
            f"graph {circuit.description.slug} keeps no feature of the {len(known)} supernodes of its transcoder set",
            "a supernode with a feature in the graph",
            f"Make some: `atlas supernode suggest {circuit.id[:12]} --add`",
        )
    return circuit, found


def pooled(circuit: Circuit, supernodes: Sequence[Supernode]) -> SupernodeGraph:
    """The graph with these supernodes; without any, all features are pooled by modality."""
    nodes, edges = circuit.nodes, circuit.edges
    members = membership(nodes, circuit.positions, supernodes)
    influence = np.nan_to_num(influence_shares(nodes))
    weights = target_weights(circuit)
    importance = _raw(circuit) + weights
    flow = np.nan_to_num(edges.share).astype(np.float64) * importance[edges.target]
    into = members.add_nodes(importance)
    each = np.where(into > 0, into, 1.0)
    weight = members.add_edges(edges, edges.weight.astype(np.float64))
    carried = members.add_edges(edges, flow)
    share = carried / each
    net = members.add_edges(edges, flow * np.sign(edges.weight)) / each
    joined = np.argwhere(members.add_edges(edges, np.ones(len(edges))) > 0).tolist()
    tables = (weight, share, net, carried / weights.sum())
    links = (Link(a, b, *(float(table[a, b]) for table in tables)) for a, b in joined)
    return SupernodeGraph(circuit, members.groups, members.add_nodes(influence), tuple(links))


def _raw(circuit: Circuit) -> np.ndarray:
    """float64 [n_nodes]: influence as the logits' weights have it; of imports, which bring none, the shares of it."""
    raw: np.ndarray = np.nan_to_num(circuit.nodes.influence)
    return raw if raw.any() else np.nan_to_num(influence_shares(circuit.nodes))


def target_weights(circuit: Circuit) -> np.ndarray:
    """float64 [n_nodes]: what influence starts with: a logit's probability, 1 for a difference or a vector; else 0."""
    nodes = circuit.nodes
    known = np.where(np.isfinite(nodes.probability), nodes.probability, np.where(nodes.is_answer, 1.0, 0.0))
    return np.where(nodes.kind == "logit", known, 0.0)


def group_rows(made: SupernodeGraph) -> list[dict[str, Any]]:
    """The groups, in order; `inside` is the share of their input that comes from the group itself."""
    inside = {link.source: link.share for link in made.links if link.source == link.target}
    return [
        {
            "name": group.name,
            "kind": group.kind,
            "layers": layer_text(group),
            "nodes": group.nodes,
            "influence": float(made.influence[number]),
            "inside": inside.get(number, 0.0),
        }
        for number, group in enumerate(made.groups)
    ]


def link_rows(made: SupernodeGraph) -> list[dict[str, Any]]:
    """The links between groups, those that carry most first."""
    between = [link for link in made.links if link.source != link.target]
    return [
        {
            "source": made.groups[link.source].name,
            "target": made.groups[link.target].name,
            "weight": link.weight,
            "share": link.share,
            "net": link.net,
            "carried": link.carried,
            "source_kind": made.groups[link.source].kind,
            "target_kind": made.groups[link.target].kind,
        }
        for link in sorted(between, key=lambda link: (-round(link.carried, 9), link.source, link.target))
    ]


def layer_text(group: Group) -> str:
    """`3`, `3-5`, `in` for what enters below layer 0, `out` for logits."""
    if group.kind in {"image", "tokens"}:
        return "in"
    if group.kind == "logit":
        return "out"
    first, last = group.first_layer, group.last_layer
    return str(first) if first == last else f"{first}-{last}"
