"""Answers over what recurs, disagrees or was added to an atlas, computed once more in plain Python."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from atlas.domain.circuit import Circuit
from atlas.ids import feature_number, split_feature_number
from tests.query.additions import Rows, set_numbers
from tests.query.plain import Plain, Row, mean, named
from tests.query.world import rows_of


class Book:
    """An atlas as lists: graphs in order of their numbers, and what was added."""

    def __init__(self, circuits: list[Circuit], rows: Rows | None = None) -> None:
        self.graphs = [Plain(circuit) for circuit in circuits]
        self.rows = rows or {}
        numbers = set_numbers(circuits)
        self.number = {graph: numbers[graph.circuit.transcoders] for graph in self.graphs}
        self.fired: dict[Plain, set[tuple[int, int]]] = {}
        for graph in self.graphs:
            for at, node in enumerate(graph.nodes):
                node["graph"], node["at"] = graph, at
                node["fid"] = self.fid(graph, node) if node["kind"] == "feature" else None
            fires = rows_of(graph.circuit.activations)
            self.fired[graph] = {(self.fid(graph, row), row["position"]) for row in fires}
        # a label given here, else that of the first graph that brought one
        brought = [(n["fid"], n["label"]) for n in self.nodes() if n["kind"] == "feature" and n["label"] is not None]
        self.labels = dict(reversed(brought)) | {r["fid"]: r["label"] for r in self.rows.get("feature_label", [])}

    def fid(self, graph: Plain, row: Row) -> int:
        return feature_number(self.number[graph], row["layer"], row["index"])

    def nodes(self) -> Iterator[Row]:
        for graph in self.graphs:
            yield from graph.nodes

    def kept(self) -> dict[int, list[Row]]:
        """Occurrences per feature key."""
        return grouped((node for node in self.nodes() if node["kind"] == "feature"), lambda node: node["fid"])

    def node(self, nid: int) -> Row:
        return self.graphs[(nid >> 24) - 1].nodes[nid & 0xFFFFFF]


def grouped(things: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    found = defaultdict(list)
    for thing in things:
        found[key(thing)].append(thing)
    return found


def sign(value: float) -> int:
    return (value > 0) - (value < 0)


def name_of(fid: int) -> str:
    _, layer, index = split_feature_number(fid)
    return f"{layer}/{index}"


def on_image(nodes: list[Row]) -> float:
    return mean([node["place"]["modality"] == "image" for node in nodes])


def recurring_motifs(book: Book, shape: str, task: Any, min_graphs: int, min_share: float) -> list[Row]:
    found = defaultdict(list)
    for graph in book.graphs:
        if not graph.in_group(task, None):
            continue
        strong = [e for e in graph.edges if e["share"] >= min_share and e["weight"] != 0]
        between = {(e["source"], e["target"]): e for e in strong}
        for x in strong:
            for y in strong:
                a, b, c = _three(graph, shape, x, y)
                if a is None:
                    continue
                z = between.get((a["at"], c["at"])) if shape == "loop" else None
                if shape == "loop" and z is None:
                    continue
                third = c["text"] if c["kind"] == "logit" else c["name"]
                signs = (sign(x["weight"]), sign(y["weight"]), None if z is None else sign(z["weight"]))
                number = book.number[graph]
                found[number, a["name"], b["name"], third, signs].append(
                    (graph, x["share"] * y["share"], None if z is None else z["share"])
                )
    rows = []
    for (number, a_name, b_name, third, signs), motifs in found.items():
        per_graph = grouped(motifs, lambda motif: motif[0])
        if len(per_graph) >= min_graphs:
            rows.append(
                {
                    "set": number,
                    "first": a_name,
                    "second": b_name,
                    "third": third,
                    "sign_1": signs[0],
                    "sign_2": signs[1],
                    "sign_direct": signs[2],
                    "coherent": {"loop": signs[0] * signs[1] == signs[2], "meet": signs[0] == signs[1]}.get(shape),
                    "graphs": len(per_graph),
                    "occurrences": len(motifs),
                    "through": mean([mean([m[1] for m in ms]) for ms in per_graph.values()]),
                    "direct": mean([mean([m[2] for m in ms]) for ms in per_graph.values()])
                    if shape == "loop"
                    else None,
                }
            )
    return rows


def _three(graph: Plain, shape: str, x: Row, y: Row) -> tuple[Any, Any, Any]:
    """First, second and third node if the two edges are part of such a motif."""
    a, b, c = graph.nodes[x["source"]], graph.nodes[y["source"]], graph.nodes[y["target"]]
    joined = x["target"] == (y["target"] if shape == "meet" else y["source"])
    ends = c["kind"] == "logit" and c["is_answer"] if shape == "chain" else c["kind"] == "feature"
    modes = (a["place"]["modality"], b["place"]["modality"]) == ("image", "text") or shape == "loop"
    fits = joined and ends and modes and a["kind"] == b["kind"] == "feature"
    return (a, b, c) if fits else (None, None, None)


def _pairs(book: Book, cosine: float) -> list[Row]:
    """Near-duplicates at a cosine of which graphs keep both."""
    kept = book.kept()
    rows = book.rows["near_duplicate"]
    return [r for r in rows if r["cosine"] >= cosine and r["fid_a"] in kept and r["fid_b"] in kept]


def split_concepts(book: Book, cosine: float) -> list[Row]:
    kept = book.kept()
    fires = defaultdict(set)
    for graph in book.graphs:
        for fid in {fid for fid, _ in book.fired[graph]}:
            fires[fid].add(graph)
    for fid, nodes in kept.items():
        fires[fid] |= {node["graph"] for node in nodes}
    rows = []
    for pair in _pairs(book, cosine):
        if fires[pair["fid_a"]] & fires[pair["fid_b"]]:
            continue
        row: Row = {"cosine": pair["cosine"], "untold": 0}
        for side in ("a", "b"):
            fid = pair[f"fid_{side}"]
            graphs = {node["graph"] for node in kept[fid]}
            row["untold"] += sum(not book.fired[graph] for graph in graphs)
            row |= {
                f"feature_{side}": name_of(fid),
                f"set_{side}": split_feature_number(fid)[0],
                f"fired_{side}": len(fires[fid]),
                f"kept_{side}": len(graphs),
                f"image_share_{side}": on_image(kept[fid]),
                f"slug_{side}": min(graphs, key=book.graphs.index).circuit.description.slug,
                f"label_{side}": book.labels.get(fid),
            }
        rows.append(row)
    return rows


def opposed_duplicates(book: Book, cosine: float, onto: str, same_graph: bool) -> list[Row]:
    fed: dict[int, dict[str, dict[Plain, float]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(float)))
    for graph in book.graphs:
        for edge in graph.edges:
            source, target = graph.nodes[edge["source"]], graph.nodes[edge["target"]]
            if source["kind"] == "feature" and target["kind"] == "logit" and (onto == "any" or target["is_answer"]):
                fed[source["fid"]][target["text"]][graph] += edge["share"] * sign(edge["weight"])
    rows = []
    for pair in _pairs(book, cosine):
        ours, theirs = fed[pair["fid_a"]], fed[pair["fid_b"]]
        for token in set(ours) & set(theirs):
            a, b = ours[token], theirs[token]
            both = [sign(a[graph]) * sign(b[graph]) for graph in a if graph in b]
            net_a, net_b = mean(list(a.values())), mean(list(b.values()))
            if -1 in both or (not same_graph and net_a * net_b < 0):
                rows.append(
                    {
                        "feature_a": name_of(pair["fid_a"]),
                        "feature_b": name_of(pair["fid_b"]),
                        "set_a": split_feature_number(pair["fid_a"])[0],
                        "set_b": split_feature_number(pair["fid_b"])[0],
                        "token": token,
                        "opposed": both.count(-1),
                        "agreed": both.count(1),
                        "net_a": net_a,
                        "net_b": net_b,
                        "graphs_a": len(a),
                        "graphs_b": len(b),
                    }
                )
    return rows


def duplicate_families(book: Book, cosine: float, min_size: int) -> list[Row]:
    pairs, kept = _pairs(book, cosine), book.kept()
    families: list[set[int]] = []
    for pair in pairs:
        own = {pair["fid_a"], pair["fid_b"]}
        own = own.union(*(family for family in families if family & own))
        families = [family for family in families if not family & own] + [own]
    rows = []
    for family in families:
        nodes = [node for fid in family for node in kept[fid]]
        held = [{n["fid"] for n in nodes if n["graph"] is graph} for graph in book.graphs]
        cosines = [pair["cosine"] for pair in pairs if pair["fid_a"] in family]
        visual = sum(on_image(kept[fid]) > 0.5 for fid in family)
        if len(family) >= min_size:
            rows.append(
                {
                    "family": name_of(min(family)),
                    "set": split_feature_number(min(family))[0],
                    "label": book.labels.get(min(family)),
                    "size": len(family),
                    "visual": visual,
                    "other": len(family) - visual,
                    "layers": len({split_feature_number(fid)[1] for fid in family}),
                    "graphs": sum(bool(features) for features in held),
                    "together": max(len(features) for features in held),
                    "pairs": len(cosines),
                    "least": min(cosines),
                    "most": max(cosines),
                    "features": [name_of(fid) for fid in sorted(family)],
                }
            )
    return rows


def _members(book: Book) -> dict[int, set[int]]:
    """Features per supernode."""
    found = grouped(book.rows["supernode_feature"], lambda row: row["sid"])
    return {sid: {row["fid"] for row in rows} for sid, rows in found.items()}


def supernode_occurrences(book: Book, sids: set[int], task: Any, min_members: int) -> list[Row]:
    kept, members = book.kept(), _members(book)
    rows = []
    for supernode in book.rows["supernode"]:
        own = members.get(supernode["sid"], set())
        for graph in book.graphs:
            nodes = [node for node in graph.nodes if node["fid"] in own]
            held = sorted({node["fid"] for node in nodes})
            if supernode["sid"] not in sids or len(held) < max(min_members, 1) or not graph.in_group(task, None):
                continue
            spots = [graph.positions[at] for at in sorted({node["position"] for node in nodes})]
            cells = [spot for spot in spots if spot["modality"] == "image"]
            maps = {m["position"]: m["thumbnail"] for m in rows_of(graph.circuit.heat_maps) if m["name"] == "rollout"}
            rows.append(
                {
                    "supernode": supernode["name"],
                    "set": supernode["set_number"],
                    "graph": graph.circuit.id,
                    "members": len(held),
                    "size": sum(fid in kept for fid in own),
                    "share": sum(node["part"] for node in nodes),
                    "features": [name_of(fid) for fid in held],
                    "positions": [spot["position"] for spot in spots],
                    "cells": [f"{cell['image']}:{cell['row']},{cell['col']}" for cell in cells],
                    "image_shas": [graph.circuit.images.sha[cell["image"]] for cell in cells],
                    "thumbnails": [maps.get(cell["position"], "") for cell in cells],
                }
            )
    return rows


def supernode_circuit(book: Book, task: Any, min_graphs: int, min_share: float) -> list[Row]:
    members = _members(book)
    names = {row["sid"]: row["name"] for row in book.rows["supernode"]}
    ends = {"image": "image patches", "token": "tokens", "logit": "the answer"}

    def groups(node: Row) -> list[Any]:
        if node["kind"] in ends:
            return [] if node["kind"] == "logit" and not node["is_answer"] else [node["kind"]]
        return [sid for sid, own in members.items() if node["fid"] in own]

    found: dict[Any, dict[Plain, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for graph in book.graphs:
        if not graph.in_group(task, None):
            continue
        for edge in graph.edges:
            for s in groups(graph.nodes[edge["source"]]):
                for t in groups(graph.nodes[edge["target"]]):
                    if edge["share"] >= min_share and s != t and (isinstance(s, int) or isinstance(t, int)):
                        found[book.number[graph], s, t][graph].append(edge)
    return [
        {
            "set": number,
            "source": names.get(s, ends.get(s)),
            "target": names.get(t, ends.get(t)),
            "graphs": len(per_graph),
            "positive": sum(sum(e["weight"] for e in edges) > 0 for edges in per_graph.values()),
            "share": mean([sum(e["share"] for e in edges) for edges in per_graph.values()]),
            "net": mean([sum(e["share"] * sign(e["weight"]) for e in edges) for edges in per_graph.values()]),
            "weight": mean([sum(e["weight"] for e in edges) for edges in per_graph.values()]),
            "edges": sum(map(len, per_graph.values())),
        }
        for (number, s, t), per_graph in found.items()
        if len(per_graph) >= min_graphs
    ]


def contradicted_edges(book: Book, tolerance: float, mode: Any, action: Any) -> list[Row]:
    names = {row["sid"]: row["name"] for row in book.rows["supernode"]}
    rows = []
    for line in book.rows["evidence"]:
        predicted, observed = line["predicted"], line["observed"]
        if predicted is None or mode not in {None, line["mode"]} or action not in {None, line["action"]}:
            continue
        opposite = predicted * observed < 0
        if not opposite and abs(observed - predicted) <= tolerance * abs(predicted):
            continue
        target = book.node(line["target"])
        row = {
            "evidence": line["eid"],
            "source": names.get(line["sid"]),
            "target": target["text"] if target["kind"] == "logit" else target["name"],
            "predicted": predicted,
            "observed": observed,
            "opposite": opposite,
            "gap": abs(observed - predicted) / abs(predicted) if predicted else None,
            "weight": None,
            "position": None,
            "row": None,
            "target_node": named(target),
        }
        if line["source"] is not None:
            source = book.node(line["source"])
            joined = [e for e in source["graph"].edges if (e["source"], e["target"]) == (source["at"], target["at"])]
            row |= {
                "source": source["name"] if source["kind"] == "feature" else named(source),
                "weight": joined[0]["weight"] if joined else None,
                "position": source["position"],
                "row": source["place"]["row"],
            }
        rows.append(row)
    return rows


def _changed(book: Book, line: Row) -> tuple[str, Any]:
    """The thing that a row of evidence says was changed: a feature wherever it stands, another node, a supernode."""
    if line["source"] is None:
        return "supernode", line["sid"]
    node = book.node(line["source"])
    return ("feature", node["fid"]) if node["kind"] == "feature" else ("node", line["source"])


def flipping_features(book: Book, action: Any, task: Any, min_graphs: int) -> list[Row]:
    changed = grouped(book.rows["evidence"], lambda line: line["run"])
    alone = {run for run, lines in changed.items() if len({_changed(book, line) for line in lines}) == 1}
    tried = defaultdict(list)
    for line in book.rows["evidence"]:
        graph = book.graphs[line["gid"] - 1]
        if line["source"] is None or action not in {None, line["action"]} or not graph.in_group(task, None):
            continue
        if book.node(line["source"])["kind"] == "feature":
            tried[book.node(line["source"])["fid"]].append(line)
    rows = []
    for fid, lines in tried.items():
        flips = [line for line in lines if line["flipped"]]
        graphs = [book.graphs[gid - 1] for gid in {line["gid"] for line in flips}]
        if len(graphs) < max(min_graphs, 1):
            continue
        first = min(flips, key=lambda line: line["eid"])
        runs, flipped = {line["run"] for line in lines}, {line["run"] for line in flips}
        rows.append(
            {
                "feature": name_of(fid),
                "set": split_feature_number(fid)[0],
                "label": book.labels.get(fid),
                "graphs": len(graphs),
                "tasks": len({graph.circuit.description.task for graph in graphs} - {None}),
                "flips": len(flipped),
                "alone": len(flipped & alone),
                "runs": len(runs),
                "tried": len({line["gid"] for line in lines}),
                "rate": len(flipped) / len(runs),
                "example": book.graphs[first["gid"] - 1].circuit.description.slug,
                "answer_after": first["answer_after"],
            }
        )
    return rows


def unlabeled_hubs(book: Book, task: Any, modality: Any, min_graphs: int) -> list[Row]:
    rows = []
    for fid, every in book.kept().items():
        nodes = [
            node
            for node in every
            if modality in {None, node["place"]["modality"]} and node["graph"].in_group(task, None)
        ]
        graphs = {node["graph"] for node in nodes}
        if fid in book.labels or len(graphs) < min_graphs or not nodes:
            continue
        incoming = sum(e["target"] == node["at"] for node in nodes for e in node["graph"].edges)
        outgoing = sum(e["source"] == node["at"] for node in nodes for e in node["graph"].edges)
        best = max(nodes, key=lambda node: (node["part"], -book.graphs.index(node["graph"]), -node["at"]))
        rows.append(
            {
                "feature": name_of(fid),
                "set": split_feature_number(fid)[0],
                "edges": incoming + outgoing,
                "incoming": incoming,
                "outgoing": outgoing,
                "occurrences": len(nodes),
                "graphs": len(graphs),
                "mean_share": sum(node["part"] for node in nodes) / len(graphs),
                "image_share": on_image(nodes),
                "example": best["graph"].circuit.description.slug,
                "position": best["position"],
                "row": best["place"]["row"],
                "col": best["place"]["col"],
            }
        )
    return rows


def input_of(circuit: Circuit) -> Any:
    return (circuit.model, tuple(circuit.positions.token_id), tuple(circuit.images.sha))


def rerun_drift(book: Book, wanted: Plain | None = None) -> list[Row]:
    return [
        {"a": a.circuit.id, "b": b.circuit.id} | _drift(book, a, b)
        for a, b in itertools.combinations(book.graphs, 2)
        if input_of(a.circuit) == input_of(b.circuit) and wanted in {None, a, b}
    ]


def _drift(book: Book, a: Plain, b: Plain) -> Row:
    scores = {s: b.circuit.scores[s] - a.circuit.scores[s] for s in ("replacement", "completeness")}
    names = (
        "jaccard",
        "shared",
        "only_a",
        "only_b",
        "still_a",
        "still_b",
        "share_a",
        "edges",
        "edges_only_a",
        "turned",
    )
    if book.number[a] != book.number[b]:
        return scores | dict.fromkeys(names)
    held = [{(n["fid"], n["position"]): n["part"] for n in g.nodes if n["kind"] == "feature"} for g in (a, b)]
    both = set(held[0]) & set(held[1])
    edges = [
        {(named(g.nodes[e["source"]]), named(g.nodes[e["target"]])): sign(e["weight"]) for e in g.edges} for g in (a, b)
    ]
    joined = set(edges[0]) & set(edges[1])
    return scores | {
        "jaccard": len(both) / len(set(held[0]) | set(held[1])) if held[0] or held[1] else None,
        "shared": len(both),
        "only_a": len(held[0]) - len(both),
        "only_b": len(held[1]) - len(both),
        "still_a": len((set(held[0]) - both) & book.fired[b]) if book.fired[b] else None,
        "still_b": len((set(held[1]) - both) & book.fired[a]) if book.fired[a] else None,
        "share_a": sum(held[0][key] for key in both) / sum(held[0].values()) if held[0] else None,
        "edges": len(joined),
        "edges_only_a": len(edges[0]) - len(joined),
        "turned": sum(edges[0][key] != edges[1][key] for key in joined),
    }


def _settings(book: Book, graph: Plain) -> Any:
    """What a graph was made with, as far as these atlases vary it."""
    identity = graph.circuit.identity
    inner = identity.get("attribution", {})
    return (
        book.number[graph],
        identity.get("precision"),
        inner.get("convention", identity.get("convention")),
        inner.get("node_threshold", identity.get("node_threshold")),
        inner.get("edge_threshold"),
    )


def scores_by_set(book: Book, task: Any, repeated: bool) -> list[Row]:
    asked = [graph for graph in book.graphs if graph.in_group(task, None)]
    made = grouped(asked, lambda graph: (input_of(graph.circuit), _settings(book, graph)))
    own = {key: mean([g.circuit.scores["replacement"] for g in graphs]) for key, graphs in made.items()}
    gain = {}
    for (given, settings), score in own.items():
        others = [other for (i, s), other in own.items() if i == given and s != settings]
        if others:
            gain[given, settings] = score - mean(others)
    rows = []
    for (settings, own_task), graphs in grouped(
        asked, lambda graph: (_settings(book, graph), graph.circuit.description.task)
    ).items():
        keys = {(input_of(graph.circuit), settings) for graph in graphs}
        counted = [g for g in graphs if not repeated or (input_of(g.circuit), settings) in gain]
        if counted:
            gains = [gain[key] for key in keys if key in gain]
            known = [g.circuit.correct for g in counted if g.circuit.correct is not None]
            active = [len(g.circuit.activations) for g in counted if len(g.circuit.activations)]
            rows.append(
                {
                    "set": settings[0],
                    "precision": settings[1],
                    "convention": settings[2],
                    "node_threshold": settings[3],
                    "edge_threshold": settings[4],
                    "task": own_task,
                    "graphs": len(counted),
                    "inputs": len({input_of(g.circuit) for g in counted}),
                    "repeated": len(gains),
                    "replacement": mean([g.circuit.scores["replacement"] for g in counted]),
                    "replacement_gain": mean(gains) if gains else None,
                    "nodes": mean([len(g.nodes) for g in counted]),
                    "active": mean(active) if active else None,
                    "correct": mean(known) if known else None,
                }
            )
    return rows


def answer_drivers(book: Book, answer: Any, per: str, min_graphs: int) -> list[Row]:
    said: dict[Any, list[Plain]] = defaultdict(list)
    for graph in book.graphs:
        about = graph.circuit.description
        text = graph.nodes[graph.answer]["text"].strip()
        if answer in {None, text}:
            said[text, {"task": about.task, "concept": about.concept}.get(per), book.number[graph]].append(graph)
    rows = []
    for (text, part, number), graphs in said.items():
        fed: dict[str, dict[Plain, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for graph in graphs:
            for edge in graph.edges:
                if edge["target"] == graph.answer and graph.nodes[edge["source"]]["kind"] == "feature":
                    fed[graph.nodes[edge["source"]]["name"]][graph].append(edge)
        for feature, per_graph in fed.items():
            nets = [sum(e["share"] * sign(e["weight"]) for e in edges) for edges in per_graph.values()]
            if len(per_graph) >= min_graphs:
                sources = [graph.nodes[e["source"]] for graph, edges in per_graph.items() for e in edges]
                rows.append(
                    {
                        "answer": text,
                        "part": part,
                        "feature": feature,
                        "set": number,
                        "graphs": len(per_graph),
                        "said": len(graphs),
                        "positive": sum(net > 0 for net in nets),
                        "net": mean(nets),
                        "share": mean([sum(e["share"] for e in edges) for edges in per_graph.values()]),
                        "overall": sum(nets) / len(graphs),
                        "image_share": on_image(sources),
                    }
                )
    return rows


def pinned_nodes(book: Book, kind: Any, targets: int) -> list[Row]:
    def key(node: Row) -> Any:
        return book.number[node["graph"]], node["kind"], node["layer"], node["index"]

    pinned = grouped((book.node(row["nid"]) for row in book.rows["pin"]), key)
    rows = []
    for (number, own_kind, layer, index), nodes in pinned.items():
        if kind not in {None, own_kind}:
            continue
        fed: dict[Any, dict[Plain, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for node in nodes:
            for edge in node["graph"].edges:
                if edge["source"] == node["at"]:
                    fed[key(node["graph"].nodes[edge["target"]])][node["graph"]].append(edge)
        about = {
            "set": number,
            "kind": own_kind,
            "layer": layer,
            "index": index,
            "pins": len(nodes),
            "graphs": len({node["graph"] for node in nodes}),
            "image_share": on_image(nodes),
        }
        found = [
            {
                "target_kind": to[1],
                "to": to[1:],
                "target_graphs": len(per_graph),
                "share": mean([sum(e["share"] for e in edges) for edges in per_graph.values()]),
                "net": mean([sum(e["share"] * sign(e["weight"]) for e in edges) for edges in per_graph.values()]),
                "edges": sum(map(len, per_graph.values())),
            }
            for to, per_graph in fed.items()
        ]
        found.sort(key=lambda row: (-row["target_graphs"], -round(row["share"], 9), row["to"]))
        for row in found[:targets]:
            to = row.pop("to")
            rows.append(about | row | {"target": f"{to[1]}/{to[2]}" if to[0] == "feature" else str(to[2] - 100)})
        if not found:
            rows.append(about | {"target": None, "target_kind": None, "share": None})
    return rows


def is_sorted(rows: list[Row], *columns: str) -> bool:
    """Whether rows fall by these columns, the first first; missing values come last."""
    keys = [tuple(-math.inf if row[c] is None else round(row[c], 9) for c in columns) for row in rows]
    return all(a >= b for a, b in itertools.pairwise(keys))
