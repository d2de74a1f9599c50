"""The dialects of graph JSON: who writes which node ids, and what their numbers mean.

One table row per producer. A file's dialect is the first row one of whose marks is found in it; the last row has no
mark and takes the rest. The node's kind comes from its `feature_type`, never from its id, because old circuit-tracer
error ids look like features (decoderesearch/circuit-tracer issue 78).
"""

import re
from dataclasses import dataclass
from math import isqrt
from typing import Any, Literal

from atlas.ids import Kind

FEATURE_TYPES: dict[str, Kind] = {
    "cross layer transcoder": "feature",  # written for per-layer transcoders too
    "per layer transcoder": "feature",
    "transcoder": "feature",
    "mlp reconstruction error": "error",
    "embedding": "token",
    "logit": "logit",
    "bias": "bias",
}
ATTENTION_TYPES = frozenset({"lorsa", "lorsa error"})
IMAGE_PLACEHOLDERS = ("image_soft_token", "<image>", "<|image_pad|>", "<IMG_CONTEXT>", "<image_token>", "<|image|>")


@dataclass(frozen=True)
class Dialect:
    """How one producer writes its graphs."""

    name: str
    """Its name; an imported circuit carries it as `source`."""
    sentence: str
    """Who writes it."""
    ids: dict[Kind, tuple[str, ...]]
    """Per kind the patterns of its node ids; named groups layer, index and position."""
    feature_number: Literal["cantor", "index", "opaque"] = "opaque"
    """What `feature` says of a feature: a Cantor code (schema_version 1), its index, or nothing beyond the id."""
    layer_step: int = 1
    """Layers as written per layer of the model: 2 where attention and MLP rows are interleaved."""
    layer_offset: int = 0
    """Row of the MLP among the layers written for one layer of the model."""
    logit_offset: int = 1
    """The logits' layer as written, less the number of layers as written."""
    metadata_marks: tuple[str, ...] = ()
    """Keys of metadata, any of which marks a file as this dialect."""
    node_marks: tuple[str, ...] = ()
    """Keys of nodes, any of which does."""
    id_mark: str | None = None
    """Pattern of a node id that does."""
    only_without_version: bool = False
    """Whether files with a schema_version are never of this dialect."""
    scan_is_model: bool = False
    """Whether metadata.scan is the model's name instead of the transcoder set."""
    scan_required: bool = True
    """Whether metadata.slug and metadata.scan must be there."""
    refused: str | None = None
    """Why the dialect cannot be read, if it cannot."""


_INTEGERS: dict[Kind, tuple[str, ...]] = {
    "feature": (r"(?P<layer>\d{1,18})_(?P<index>\d{1,18})_(?P<position>\d{1,18})",),
    "error": (r"(?P<layer>\d{1,18})_-1_(?P<position>\d{1,18})", r"0_(?P<layer>\d{1,18})_(?P<position>\d{1,18})"),
    "bias": (r"(?P<layer>\d{1,18})_-2_(?P<position>\d{1,18})",),
    "token": (r"E_(?P<index>-?\d{1,18})_(?P<position>\d{1,18})",),
    "logit": (r"(?P<layer>\d{1,18})_(?P<index>\d{1,18})_(?P<position>\d{1,18})",),
}

DIALECTS: tuple[Dialect, ...] = (
    Dialect(
        "spd",
        "goodfire-ai/spd",
        {},
        id_mark=r"(?:wte|output|\w+):\d+:\d+",
        refused="its nodes are parameter components, not transcoder features",
    ),
    Dialect(
        "eai",
        "EleutherAI/attribute",
        {
            "feature": (r"intermediate_(?P<position>\d{1,18})_(?P<layer>\d{1,18})_(?P<index>\d{1,18})",),
            "error": (r"error_(?P<position>\d{1,18})_(?P<layer>\d{1,18})",),
            "token": (r"input_(?P<position>\d{1,18})",),
            "logit": (r"output_(?P<position>-?\d{1,18})_(?P<index>\d{1,18})",),
        },
        id_mark=r"(?:intermediate|input|output|error)_-?\d+(?:_\d+)*",
    ),
    Dialect(
        "crm",
        "Neuronpedia's converter of OpenMOSS replacement models",
        {
            **_INTEGERS,
            "feature": (r"(?P<layer>\d{1,18})_cro_(?P<index>\d{1,18})_(?P<position>\d{1,18})",),
            "error": (r"(?P<layer>\d{1,18})_error_mlp_(?P<position>\d{1,18})",),
        },
        logit_offset=0,
        id_mark=r"\d+_(?:cro|lor)_\d+_\d+|\d+_error_(?:mlp|attn)_\d+",
        scan_is_model=True,
    ),
    Dialect(
        "openmoss",
        "OpenMOSS Language-Model-SAEs (llamascopium)",
        {**_INTEGERS, "error": (r"(?P<layer>\d{1,18})_error_(?P<position>\d{1,18})",)},
        feature_number="index",
        layer_step=2,
        layer_offset=1,
        logit_offset=0,
        node_marks=("is_from_qk_tracing", "sae_name"),
        id_mark=r"\d+_error_\d+",
        scan_required=False,
    ),
    Dialect(
        "neuronpedia",
        "Neuronpedia's graph server, with circuit-tracer",
        _INTEGERS,
        feature_number="cantor",
        metadata_marks=("info", "generation_settings", "neuronpedia_internal_model"),
        scan_is_model=True,
    ),
    Dialect(
        "uiuc",
        "UIUC-MONET/vlm-circuit-tracing",
        _INTEGERS,
        feature_number="cantor",
        metadata_marks=("feature_examples_path",),
    ),
    Dialect(
        "anthropic",
        "Anthropic's published graphs (transformer-circuits.pub)",
        {**_INTEGERS, "error": (r"\d+_(?P<index>\d{1,18})_(?P<position>\d{1,18})",)},
        logit_offset=0,
        metadata_marks=("title_prefix",),
        node_marks=("vis_link", "isLogit"),
        only_without_version=True,
    ),
    Dialect(
        "circuit-tracer",
        "decoderesearch/circuit-tracer, before and after its change of error ids",
        _INTEGERS,
        feature_number="cantor",
    ),
)


@dataclass(frozen=True)
class WrittenId:
    """The numbers in a node id, as written; None where the id does not say."""

    layer: int | None
    """Layer as written (see Dialect.layer_step)."""
    index: int | None
    """Feature index, vocabulary id, or rank (eai logits)."""
    position: int
    """Position in the prompt."""


def recognise(metadata: dict[str, Any], nodes: list[dict[str, Any]]) -> Dialect:
    """The dialect of a file: the first whose mark it bears."""
    keys = {key for node in nodes for key in node}
    for dialect in DIALECTS[:-1]:
        if dialect.only_without_version and metadata.get("schema_version") is not None:
            continue
        if any(mark in metadata for mark in dialect.metadata_marks) or keys.intersection(dialect.node_marks):
            return dialect
        if dialect.id_mark is not None:
            pattern = re.compile(dialect.id_mark)
            if any(isinstance(node.get("node_id"), str) and pattern.fullmatch(node["node_id"]) for node in nodes):
                return dialect
    return DIALECTS[-1]


def read_id(dialect: Dialect, kind: Kind, node_id: str) -> WrittenId | None:
    """The numbers in a node id, or None if it is no id of this kind in this dialect."""
    for pattern in dialect.ids.get(kind, ()):
        match = re.fullmatch(pattern, node_id, re.ASCII)
        if match is not None:
            found = match.groupdict()
            layer, index = found.get("layer"), found.get("index")
            return WrittenId(
                None if layer is None else int(layer), None if index is None else int(index), int(found["position"])
            )
    return None


def is_image_token(text: str) -> bool:
    """Whether a token of the prompt stands for a piece of a picture."""
    return any(placeholder in text for placeholder in IMAGE_PLACEHOLDERS)


def cantor(layer: int, index: int) -> int:
    """The number of a (layer, index) pair in graph JSON of schema version 1."""
    return (layer + index) * (layer + index + 1) // 2 + index


def cantor_pair(code: int) -> tuple[int, int]:
    """(layer, index) of a number; in integers, because codes pass the precision of a float's square root."""
    diagonal = (isqrt(8 * code + 1) - 1) // 2
    index = code - diagonal * (diagonal + 1) // 2
    return diagonal - index, index
