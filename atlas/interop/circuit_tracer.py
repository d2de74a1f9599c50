"""Write a circuit as the graph JSON that circuit-tracer's and Neuronpedia's viewers read.

Every node and every edge is written. Source is upstream, target downstream, weight the raw signed effect, `influence`
the cumulative share. A bias is `layer_-2_position` with feature_type "bias": no feature and no error has that number.
A graph that was imported comes out as it came in: metadata, view state, ids, labels and unknown keys.
"""

import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from atlas.domain.circuit import Circuit
from atlas.errors import InputError
from atlas.interop.aside import write_aside
from atlas.interop.viewer_node import new_id, old_error_id, render, restore

VIRTUAL_TARGETS = 1 << 24
"""First vocabulary id given to targets that are no single token (differences, vectors) and would share an id."""
_VIEW = {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""}
_OWN_KEY = "circuit_atlas"
_REQUIRED = ("slug", "scan", "prompt_tokens", "prompt")


def write_graph_json(circuit: Circuit, path: Path, error_ids: Literal["new", "old"] | None = None) -> Path:
    """Write the graph file; `error_ids` chooses the form of error ids (None: as imported, else new)."""
    document = graph_json(circuit, error_ids)
    parts = [f'"{key}": {_dump(value)}' for key, value in document.items() if key not in {"nodes", "links"}]
    # a line per node and per link: files can be compared with a text tool
    parts += [f'"{key}": [\n' + ",\n".join(map(_dump, document[key])) + "\n]" for key in ("nodes", "links")]
    return write_aside(path, ("{" + ",\n".join(parts) + "}\n").encode())


def graph_json(circuit: Circuit, error_ids: Literal["new", "old"] | None = None) -> dict[str, Any]:
    """The content of the graph file as plain values."""
    ids, vocabulary = _ids(circuit, error_ids)
    foreign = dict(circuit.foreign or {})
    own = foreign.pop(_OWN_KEY, {})
    rendered = [
        render(circuit.nodes, row, circuit.n_layers, ids[row], vocabulary.get(row)) for row in range(len(circuit.nodes))
    ]
    nodes = [restore(node, extra) | {"node_id": node["node_id"]} for node, extra in zip(rendered, circuit.nodes.extra)]
    edges = circuit.edges
    links: list[dict[str, Any]] = [
        {"source": ids[source], "target": ids[target], "weight": weight}
        for source, target, weight in zip(edges.source.tolist(), edges.target.tolist(), edges.weight.tolist())
    ]
    for row, extra in own.get("links", []):
        links[row] |= extra
    metadata, view = foreign.pop("metadata", None), foreign.pop("qParams", _VIEW)
    ours = _metadata(circuit)
    if metadata is not None:
        ours = {key: ours[key] for key in _REQUIRED if key not in metadata} | metadata
    return {"metadata": ours, "qParams": view, **foreign, "nodes": nodes, "links": links}


def _metadata(circuit: Circuit) -> dict[str, Any]:
    kept: dict[str, Any] = {
        "slug": re.sub(r"[^A-Za-z0-9_.-]+", "-", circuit.description.slug).strip("-") or circuit.id[:12],
        "scan": circuit.transcoders,
        "transcoder_list": [],
        "prompt_tokens": circuit.positions.text.tolist(),
        "prompt": circuit.description.prompt,
        "node_threshold": _setting(circuit.identity, "node_threshold"),
        "schema_version": 1,
        "feature_examples_path": None,
    }
    kept[_OWN_KEY] = {
        "id": circuit.id,
        "model": circuit.model,
        "answer": circuit.answer,
        "identity": circuit.identity,
        "provenance": circuit.provenance,
        "scores": circuit.scores,
    }
    return kept


def _setting(values: dict[str, Any], name: str) -> float | None:
    """A number of this name, wherever it stands in the identity."""
    for key, value in values.items():
        if key == name and isinstance(value, int | float):
            return float(value)
        if isinstance(value, dict) and (inner := _setting(value, name)) is not None:
            return inner
    return None


def _ids(circuit: Circuit, error_ids: Literal["new", "old"] | None) -> tuple[list[str], dict[int, int]]:
    """Unlike ids for all nodes, and the vocabulary ids given to logits that would share one."""
    nodes = circuit.nodes
    if error_ids not in {None, "new", "old"}:
        raise InputError(f"error_ids is {error_ids!r}", "new or old")
    ids: list[str] = []
    vocabulary: dict[int, int] = {}
    taken: set[str] = set()
    for row in range(len(nodes)):
        chosen = error_ids if nodes.kind[row] == "error" else None
        node_id = nodes.original_id[row] if chosen is None else None
        if node_id is None:
            node_id = old_error_id(nodes, row) if chosen == "old" else new_id(nodes, row, circuit.n_layers)
        if nodes.kind[row] == "logit" and (node_id in taken or nodes.index[row] < 0):
            vocabulary[row] = VIRTUAL_TARGETS + len(vocabulary)
            node_id = f"{circuit.n_layers + 1}_{vocabulary[row]}_{int(nodes.position[row])}"
        taken.add(node_id)
        ids.append(node_id)
    if len(taken) < len(ids):
        twice = next(name for row, name in enumerate(ids) if name in ids[:row])
        raise InputError(f"two nodes would be called {twice}", "an id per node", "Use error_ids='new'")
    return ids, vocabulary


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON value")
