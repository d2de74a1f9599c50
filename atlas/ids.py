"""Identities: made and parsed here, and nowhere else.

A graph is named by the sha256 of the canonical JSON of all that can change it; a node by its kind, layer, index and
position; a feature by its layer and index within a transcoder set. Databases use 64-bit integers:

    node number    = graph number << 24 | ordinal           (graph numbers come from the ledger)
    feature number = layer << 48 | set number << 32 | index  (a layer filter is then a range)
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from atlas.errors import InputError

Kind = Literal["feature", "error", "bias", "token", "image", "logit"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EMBEDDING_LAYER = -1  # tokens and image patches enter below layer 0

_ORDINAL_BITS = 24
_INDEX_BITS = 32
_SET_BITS = 16
_LAYER_BITS = 15
_NUMBER = "(0|[1-9][0-9]*)"  # no leading zeros: a node has one text
_NODE = re.compile(rf"(feature|error|bias|token|image|logit):(-1|0|[1-9][0-9]*)/{_NUMBER}@{_NUMBER}")
_FEATURE = re.compile(r"([0-9]+)/([0-9]+)")


@dataclass(frozen=True, order=True)
class NodeId:
    """One occurrence in a graph. Its text form is `kind:layer/index@position`."""

    kind: Kind
    """What the node is; part of the identity, so that an error never collides with a feature."""
    layer: int
    """Layer read from; -1 for tokens and image patches, the number of layers for logits."""
    index: int
    """Feature index, or vocabulary id (token, image, logit); 0 for errors and biases."""
    position: int
    """Position in the prompt, from 0."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.layer}/{self.index}@{self.position}"

    @classmethod
    def parse(cls, text: str) -> "NodeId":
        """Read the text form back. Raises InputError."""
        match = _NODE.fullmatch(text)
        if match is None:
            raise InputError(f"{text!r} is no node id", "kind:layer/index@position, as in feature:3/1042@17")
        kind, layer, index, position = match.groups()
        return cls(kind, int(layer), int(index), int(position))  # type: ignore[arg-type]  # the pattern allows kinds only


@dataclass(frozen=True, order=True)
class FeatureId:
    """A feature within one transcoder set. Its text form is `layer/index`."""

    layer: int
    """Layer whose MLP input the feature reads."""
    index: int
    """Row in that layer's encoder."""

    def __str__(self) -> str:
        return f"{self.layer}/{self.index}"

    @classmethod
    def parse(cls, text: str) -> "FeatureId":
        """Read the text form back. Raises InputError."""
        match = _FEATURE.fullmatch(text.strip())
        if match is None:
            raise InputError(f"{text!r} is no feature", "layer/index, as in 3/1042")
        return cls(int(match[1]), int(match[2]))


def node_number(graph: int, ordinal: int) -> int:
    """64-bit key of a node: its graph's ledger number and its ordinal in the artefact."""
    _fits(ordinal, _ORDINAL_BITS, "node ordinal")
    _fits(graph, 63 - _ORDINAL_BITS, "graph number")
    return graph << _ORDINAL_BITS | ordinal


def feature_number(set_number: int, layer: int, index: int) -> int:
    """64-bit key of a feature; all features of a layer form one range."""
    _fits(index, _INDEX_BITS, "feature index")
    _fits(set_number, _SET_BITS, "set number")
    _fits(layer, _LAYER_BITS, "layer")
    return layer << (_SET_BITS + _INDEX_BITS) | set_number << _INDEX_BITS | index


def split_feature_number(number: int) -> tuple[int, int, int]:
    """(set number, layer, index) of a feature key."""
    index = number & (1 << _INDEX_BITS) - 1
    set_number = number >> _INDEX_BITS & (1 << _SET_BITS) - 1
    return set_number, number >> (_SET_BITS + _INDEX_BITS), index


def layer_range(first: int, last: int) -> tuple[int, int]:
    """Half-open range of feature keys that covers layers first..last."""
    shift = _SET_BITS + _INDEX_BITS
    return first << shift, (last + 1) << shift


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no blanks, no NaN. Raises InputError for what JSON cannot say."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"a value without a canonical form: {error}", "strings, finite numbers, lists, objects"
        ) from error


def content_hash(value: Any) -> str:
    """sha256 (64 hex digits) of a value's canonical JSON."""
    return bytes_hash(canonical_json(value).encode())


def bytes_hash(data: bytes) -> str:
    """sha256 (64 hex digits) of bytes."""
    return hashlib.sha256(data).hexdigest()


def default_slug(prompt: str, graph_id: str) -> str:
    """A readable name: the prompt's words and the first digits of the id."""
    words = re.findall(r"[A-Za-z0-9]+", prompt)
    stem = "-".join(words)[:40].strip("-").lower() or "graph"
    return f"{stem}-{graph_id[:6]}"


def _fits(value: int, bits: int, what: str) -> None:
    if not 0 <= value < 1 << bits:
        raise InputError(f"{what} {value}", f"a number from 0 to {(1 << bits) - 1}")
