"""One node as the graph viewers write it: the seam that reading and writing share.

The reader renders each node it has read and keeps, in `extra`, only the keys that come out otherwise; the writer
renders and lays `extra` over it. So a file that is read and written again says the same, whatever its dialect.
"""

import json
import math
from typing import Any

from atlas.domain.circuit import Nodes
from atlas.ids import canonical_json
from atlas.interop.dialects import cantor

REQUIRED = ("node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp")
"""Keys that Neuronpedia's schema asks of every node."""
BIAS_NUMBER = -2
"""Stands where a feature's index does in the id of a bias; features have 0 and more, errors -1."""
_ABSENT = "circuit_atlas:absent"
_TYPES = {
    "feature": "cross layer transcoder", "error": "mlp reconstruction error", "bias": "bias",
    "token": "embedding", "image": "embedding", "logit": "logit",
}  # fmt: skip


def new_id(nodes: Nodes, row: int, n_layers: int) -> str:
    """The node's id as circuit-tracer writes it since 2026 (errors `layer_-1_position`)."""
    kind, layer, position = nodes.kind[row], int(nodes.layer[row]), int(nodes.position[row])
    index = int(nodes.index[row])
    if kind in {"token", "image"}:
        return f"E_{index}_{position}"
    if kind == "logit":
        return f"{n_layers + 1}_{index}_{position}"
    number = {"error": -1, "bias": BIAS_NUMBER}.get(kind, index)
    return f"{layer}_{number}_{position}"


def old_error_id(nodes: Nodes, row: int) -> str:
    """An error's id as circuit-tracer wrote it before: its layer stands where a feature's index does."""
    return f"0_{int(nodes.layer[row])}_{int(nodes.position[row])}"


def render(nodes: Nodes, row: int, n_layers: int, node_id: str, vocabulary: int | None = None) -> dict[str, Any]:
    """A node with all the fields of the viewers; `vocabulary` replaces a logit's index (virtual targets)."""
    kind, layer, position = nodes.kind[row], int(nodes.layer[row]), int(nodes.position[row])
    index = int(nodes.index[row]) if vocabulary is None else vocabulary
    probability = _number(nodes.probability[row])
    record: dict[str, Any] = {
        "node_id": node_id,
        "feature": {
            "feature": cantor(max(layer, 0), max(index, 0)),
            "error": -1,
            "bias": BIAS_NUMBER,
            "logit": index,
        }.get(kind, position),
        "layer": {"token": "E", "image": "E", "logit": str(n_layers + 1)}.get(kind, str(layer)),
        "ctx_idx": position,
        "feature_type": _TYPES[kind],
        "token_prob": 0.0 if probability is None else probability,
        "is_target_logit": bool(nodes.is_answer[row]),
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": _js_id(kind, layer, index, position, node_id),
        "clerp": nodes.label[row] or "",
        "influence": _number(nodes.cumulative[row]),
        "activation": _number(nodes.activation[row]),
    }
    if kind == "logit" and nodes.label[row] is None:
        # viewers read token and probability back out of this text
        record["clerp"] = f'Output "{nodes.text[row] or ""}" (p={record["token_prob"]:.3f})'
    return record


def difference(original: dict[str, Any], rendered: dict[str, Any]) -> str | None:
    """The keys of a foreign node that `render` does not give back, as JSON; None if there are none."""
    extra = {key: value for key, value in original.items() if key not in rendered or not _same(value, rendered[key])}
    absent = sorted(key for key in rendered if key not in original and key not in REQUIRED)
    if absent:
        extra[_ABSENT] = absent
    return canonical_json(extra) if extra else None


def restore(rendered: dict[str, Any], extra: str | None) -> dict[str, Any]:
    """Undo `difference`: the foreign node as it was read."""
    if extra is None:
        return rendered
    kept = json.loads(extra)
    absent = kept.pop(_ABSENT, [])
    return {key: value for key, value in (rendered | kept).items() if key not in absent}


def _js_id(kind: str, layer: int, index: int, position: int, node_id: str) -> str:
    if kind == "feature":
        return f"{layer}_{index}-0"
    if kind == "logit":
        return f"L_{index}-{position}"
    if kind in {"token", "image"}:
        return f"E_{index}-{position}"
    if kind == "bias":
        return f"{layer}_{BIAS_NUMBER}-{position}"
    return f"{layer}_-1-{position}" if node_id == f"{layer}_-1_{position}" else f"{layer}_{position}-0"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: 1 is 1.0, but neither is true."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
