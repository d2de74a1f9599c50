"""The answers of the library, computed once more in plain Python, from the circuits themselves."""

import math
from collections import defaultdict
from typing import Any

from atlas.domain.circuit import Circuit
from atlas.ids import NodeId
from tests.query.world import rows_of

Row = dict[str, Any]


class Plain:
    """A circuit as lists of dicts."""

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.positions = rows_of(circuit.positions)
        self.nodes = rows_of(circuit.nodes)
        self.edges = rows_of(circuit.edges)
        for node in self.nodes:
            node["place"] = self.positions[node["position"]]
            node["name"] = f"{node['layer']}/{node['index']}"
        for node, share in zip(self.nodes, self._shares(), strict=True):
            node["part"] = share

    def _shares(self) -> list[float]:
        """Each node's part of the influence kept: raw if known, else by the steps of the cumulative share."""
        raw: dict[int, float] = {}
        counted = [i for i, n in enumerate(self.nodes) if n["kind"] not in {"logit", "bias"}]
        by_rank = sorted(
            (i for i in counted if self.nodes[i]["influence"] is None and self.nodes[i]["cumulative"] is not None),
            key=lambda i: (self.nodes[i]["cumulative"], i),
        )
        before, least = 0.0, math.inf
        for i in by_rank:
            least = min(least, self.nodes[i]["cumulative"] - before)
            before = self.nodes[i]["cumulative"]
            raw[i] = least
        for i in counted:
            if self.nodes[i]["influence"] is not None:
                raw[i] = self.nodes[i]["influence"]
        whole = sum(raw.values())
        return [raw.get(i, 0.0) / whole for i in range(len(self.nodes))]

    @property
    def answer(self) -> int:
        return next(i for i, node in enumerate(self.nodes) if node["is_answer"])

    def features(self, modality: str | None = None) -> dict[str, list[Row]]:
        """Occurrences per feature."""
        found = defaultdict(list)
        for node in self.nodes:
            if node["kind"] == "feature" and modality in {None, node["place"]["modality"]}:
                found[node["name"]].append(node)
        return found

    def in_group(self, task: str | None, concept: str | None) -> bool:
        about = self.circuit.description
        return task in {None, about.task} and concept in {None, about.concept}


def feature_occurrences(graphs: list[Plain], feature: str, set_name: str, task: Any, modality: Any) -> list[Row]:
    return [
        {
            "graph": graph.circuit.id,
            "position": node["position"],
            "token": node["place"]["text"],
            "modality": node["place"]["modality"],
            "row": node["place"]["row"],
            "col": node["place"]["col"],
            "activation": node["activation"],
            "influence": node["influence"],
            "cumulative": node["cumulative"],
        }
        for graph in graphs
        if graph.circuit.transcoders == set_name and graph.in_group(task, None)
        for node in graph.features(modality).get(feature, [])
    ]


def recurring_features(graphs: list[Plain], task: Any, concept: Any, modality: Any, min_graphs: int) -> list[Row]:
    rows = []
    for set_name in {graph.circuit.transcoders for graph in graphs}:
        of_set = [graph for graph in graphs if graph.circuit.transcoders == set_name]
        asked = [graph for graph in of_set if graph.in_group(task, concept)]
        held = [graph.features(modality) for graph in asked]
        for feature in {name for features in held for name in features}:
            kept = [features[feature] for features in held if feature in features]
            if len(kept) < min_graphs:
                continue
            everywhere = sum(feature in graph.features() for graph in of_set)
            rarity = math.log(len(of_set) / everywhere)
            known = [sum(n["influence"] for n in nodes) for nodes in kept if nodes[0]["influence"] is not None]
            every = [node for nodes in kept for node in nodes]
            rows.append(
                {
                    "set_name": set_name,
                    "feature": feature,
                    "graphs": len(kept),
                    "asked": len(asked),
                    "everywhere": everywhere,
                    "score": len(kept) / len(asked) * rarity,
                    "mean_share": mean([sum(n["part"] for n in nodes) for nodes in kept]),
                    "mean_influence": mean(known) if known else None,
                    "mean_activation": mean([max(n["activation"] for n in nodes) for nodes in kept]),
                    "image_share": mean([n["place"]["modality"] == "image" for n in every]),
                }
            )
    return rows


def recurring_edges(graphs: list[Plain], task: Any, min_graphs: int, min_share: float) -> list[Row]:
    seen: dict[tuple[str, str, str], list[tuple[int, list[Row]]]] = defaultdict(list)
    for graph in graphs:
        if not graph.in_group(task, None):
            continue
        pairs = defaultdict(list)
        for edge in graph.edges:
            source, target = graph.nodes[edge["source"]], graph.nodes[edge["target"]]
            if source["kind"] == target["kind"] == "feature" and edge["share"] >= min_share:
                pairs[source["name"], target["name"]].append(edge)
        for (source_name, target_name), edges in pairs.items():
            weight = sum(edge["weight"] for edge in edges)
            seen[graph.circuit.transcoders, source_name, target_name].append(((weight > 0) - (weight < 0), edges))
    rows = []
    for (set_name, source_name, target_name), found in seen.items():
        for sign in (1, -1):
            same = [edges for own, edges in found if own == sign]
            if len(same) >= min_graphs:
                rows.append(
                    {
                        "set_name": set_name,
                        "source": source_name,
                        "target": target_name,
                        "sign": sign,
                        "graphs": len(same),
                        "opposed": sum(own == -sign for own, _ in found),
                        "mean_share": mean([mean([e["share"] for e in edges]) for edges in same]),
                        "max_share": max(e["share"] for edges in same for e in edges),
                        "mean_weight": mean([sum(e["weight"] for e in edges) for edges in same]),
                        "edges": sum(len(edges) for edges in same),
                    }
                )
    return rows


def shared_features(a: Plain, b: Plain) -> list[Row]:
    rows = []
    ours, theirs = a.features(), b.features()
    for feature in set(ours) & set(theirs):
        row: Row = {"feature": feature}
        for side, nodes in (("a", ours[feature]), ("b", theirs[feature])):
            known = [n["influence"] for n in nodes if n["influence"] is not None]
            row |= {
                f"share_{side}": sum(n["part"] for n in nodes),
                f"influence_{side}": sum(known) if known else None,
                f"activation_{side}": max(n["activation"] for n in nodes),
                f"positions_{side}": sorted(n["position"] for n in nodes),
            }
        rows.append(row)
    return rows


def image_to_logit(graph: Plain, at: str | None) -> list[Row]:
    rows = []
    for out in graph.edges:
        carrier = graph.nodes[out["source"]]
        if out["target"] != graph.answer or carrier["kind"] != "feature":
            continue
        if at not in {None, carrier["place"]["modality"]}:
            continue
        cells: dict[int, float] = defaultdict(float)
        net = share = 0.0
        for into in graph.edges:
            source = graph.nodes[into["source"]]
            if into["target"] != out["source"] or source["place"]["modality"] != "image":
                continue
            if source["kind"] in {"image", "feature", "error"}:
                cells[source["position"]] += into["share"] * out["share"]
                net += into["share"] * out["share"] * math.copysign(1, into["weight"] * out["weight"])
                share += into["share"]
        if cells:
            best = min(cells, key=lambda position: (-cells[position], position))
            rows.append(
                {
                    "node": named(carrier),
                    "carried": sum(cells.values()),
                    "net": net,
                    "to_logit": out["share"],
                    "from_image": share,
                    "cells": len(cells),
                    "strongest": cells[best],
                    "row": graph.positions[best]["row"],
                    "col": graph.positions[best]["col"],
                }
            )
    return rows


def modality_by_layer(graphs: list[Plain], set_name: str) -> list[Row]:
    asked = [graph for graph in graphs if graph.circuit.transcoders == set_name]
    rows = []
    for layer in range(-1, 3):
        nodes = [n for g in asked for n in g.nodes if n["layer"] == layer and n["kind"] not in {"logit", "bias"}]
        if not nodes:
            continue
        part = {m: sum(n["part"] for n in nodes if n["place"]["modality"] == m) / len(asked) for m in ("image", "text")}
        features = [n["place"]["modality"] for n in nodes if n["kind"] == "feature"]
        rows.append(
            {
                "layer": layer,
                **part,
                "errors": sum(n["part"] for n in nodes if n["kind"] == "error") / len(asked),
                "image_features": features.count("image") / len(asked),
                "text_features": features.count("text") / len(asked),
                "graphs": len(asked),
            }
        )
    return rows


def strongest_paths(graph: Plain, depth: int, floor: float, start: str = "input", **where: Any) -> list[Row]:
    """Every path there is, then the floor."""
    kinds = {"image", "token"} | ({"feature", "error"} if start == "any" else set())
    incoming = defaultdict(list)
    for edge in graph.edges:
        if edge["share"] > 0:
            incoming[edge["target"]].append(edge)
    found: list[Row] = []

    def walk(at: int, nodes: list[int], strength: float, sign: int) -> None:
        node = graph.nodes[at]
        fits = all(node["place"][key] == value for key, value in where.items() if value is not None)
        if len(nodes) > 1 and node["kind"] in kinds and fits:
            names = [named(graph.nodes[n]) for n in nodes]
            found.append({"strength": strength, "sign": sign, "edges": len(nodes) - 1, "nodes": names})
        if len(nodes) <= depth:
            for edge in incoming[at]:
                turn = 1 if edge["weight"] > 0 else -1
                walk(edge["source"], [edge["source"], *nodes], strength * edge["share"], sign * turn)

    walk(graph.answer, [graph.answer], 1.0, 1)
    best = max((row["strength"] for row in found), default=0.0)
    return [row for row in found if row["strength"] >= floor * best * (1 - 1e-9)]


def graph_similarity(a: Plain, b: Plain) -> Row:
    ours, theirs = a.features(), b.features()
    both = set(ours) & set(theirs)
    weights = []
    for features in (ours, theirs):
        raw = {name: sum(n["part"] for n in nodes) for name, nodes in features.items()}
        whole = sum(raw.values())
        weights.append({name: weight / whole for name, weight in raw.items()})
    least = sum(min(weights[0][name], weights[1][name]) for name in both)
    return {
        "jaccard": len(both) / len(set(ours) | set(theirs)),
        "weighted": least / (2 - least),
        "shared": len(both),
        "only_a": len(ours) - len(both),
        "only_b": len(theirs) - len(both),
    }


def named(node: Row) -> str:
    return str(NodeId(node["kind"], node["layer"], node["index"], node["position"]))


def mean(values: list[Any]) -> float:
    return sum(values) / len(values)
