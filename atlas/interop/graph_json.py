"""Read a foreign attribution graph (graph JSON) as a Circuit.

    file -> recognised dialect -> nodes -> links and their shares -> positions -> Circuit

What the file says and the atlas has no column for is kept: unknown node keys in nodes.extra, metadata and qParams
verbatim in Circuit.foreign. What the file cannot say stays unknown: its `influence` is a cumulative share, so raw
influence is missing; its edges are those that survived pruning, so shares are partial.
"""

from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from atlas.domain.circuit import (
    Activations,
    Circuit,
    Description,
    Edges,
    HeatMaps,
    Images,
    Incoming,
    Nodes,
    Positions,
    Thumbnails,
)
from atlas.ids import content_hash
from atlas.interop.dialects import Dialect, is_image_token, recognise
from atlas.interop.foreign_links import read_links
from atlas.interop.foreign_nodes import read_nodes
from atlas.interop.graph_file import MAX_BYTES, GraphFile, find_graph_files, read_graph_file

__all__ = ["find_graph_files", "read_graph_json"]


def read_graph_json(path: Path | str, max_bytes: int = MAX_BYTES) -> Circuit:
    """Read a graph file of any dialect that can be read. Raises GraphFormatError, naming the file and the place."""
    file = read_graph_file(Path(path), max_bytes)
    dialect = recognise(file.metadata, file.nodes)
    if dialect.refused is not None:
        found = f"a graph of {dialect.sentence} ({dialect.name}): {dialect.refused}"
        raise file.error("", found, "transcoder features")
    _check_version(file)
    tokens = _tokens(file)
    node_table = read_nodes(file, dialect, tokens)
    nodes = node_table.nodes
    links = read_links(file, nodes)
    identity = {"import": file.content}
    foreign: dict[str, Any] = {"metadata": file.metadata, **file.rest}
    if links.kept:
        foreign["circuit_atlas"] = {"links": links.kept}
    answer = np.flatnonzero(nodes.is_answer)
    return Circuit(
        id=content_hash(identity),
        identity=identity,
        provenance=_provenance(file, dialect),
        description=Description(slug=_text(file, "slug", file.path.stem, dialect), prompt=_prompt(file, tokens)),
        source=dialect.name,
        model=_model(file, dialect),
        transcoders=_transcoders(file, dialect),
        n_layers=node_table.n_layers,
        answer=nodes.text[answer[0]] or "" if len(answer) else "",
        partial=True,
        scores=_scores(file),
        positions=_positions(tokens, nodes),
        nodes=nodes,
        edges=Edges(links.source, links.target, links.weight, links.share),
        incoming=Incoming.empty(),
        activations=Activations.empty(),
        images=Images.empty(),
        thumbnails=Thumbnails.empty(),
        heat_maps=HeatMaps.empty(),
        vectors=None,
        foreign=foreign,
    )


def _check_version(file: GraphFile) -> None:
    version = file.metadata.get("schema_version")
    if version is not None and (isinstance(version, bool) or version not in (0, 1)):
        advice = "Update circuit-atlas, or export the graph in version 1"
        raise file.error("metadata.schema_version", repr(version), "1, 0 or none", advice)


def _tokens(file: GraphFile) -> list[str]:
    tokens = file.metadata.get("prompt_tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens) or not tokens:
        raise file.error("metadata.prompt_tokens", repr(tokens), "a list of texts, one per position")
    return tokens


def _prompt(file: GraphFile, tokens: list[str]) -> str:
    prompt = file.metadata.get("prompt")
    if prompt is None:
        return "".join(tokens)
    if not isinstance(prompt, str):
        raise file.error("metadata.prompt", repr(prompt), "a text")
    return prompt


def _text(file: GraphFile, key: str, default: str, dialect: Dialect) -> str:
    value = file.metadata.get(key)
    if value is None and not dialect.scan_required:
        return default
    if not isinstance(value, str) or not value:
        raise file.error(f"metadata.{key}", repr(value) if key in file.metadata else "missing", "a text")
    return value


def _block(file: GraphFile, key: str) -> dict[str, Any]:
    value = file.metadata.get(key)
    if value is not None and not isinstance(value, dict):
        raise file.error(f"metadata.{key}", f"a JSON {type(value).__name__}", "an object")
    return value or {}


def _model(file: GraphFile, dialect: Dialect) -> str:
    """Neuronpedia writes the model into `scan`; circuit-tracer writes it nowhere."""
    if dialect.scan_is_model:
        return _text(file, "scan", "unknown", dialect)
    metadata = file.metadata
    for value in (_block(file, "circuit_atlas").get("model"), metadata.get("model"), metadata.get("model_name")):
        if isinstance(value, str) and value:
            return value
    return "unknown"


def _transcoders(file: GraphFile, dialect: Dialect) -> str:
    """Identity of the transcoder set; a set the file does not name is like no other."""
    unknown = f"unknown:{file.content[:16]}"
    listed = file.metadata.get("transcoder_list")
    if listed is not None and (not isinstance(listed, list) or not all(isinstance(name, str) for name in listed)):
        raise file.error("metadata.transcoder_list", repr(listed), "a list of texts")
    named = _block(file, "info").get("transcoder_set")
    if isinstance(named, str) and named:
        return named
    if listed:
        return "+".join(listed)  # scan is then made with Python's hash() and changes from run to run
    scan = _text(file, "scan", unknown, dialect)
    if not dialect.scan_is_model:
        return scan
    for block in ("feature_details", "info"):
        source_set = _block(file, block).get("neuronpedia_source_set")
        if isinstance(source_set, str) and source_set:
            return f"neuronpedia:{scan}/{source_set}"
    return unknown


def _provenance(file: GraphFile, dialect: Dialect) -> dict[str, Any]:
    kept = {"convention": "unknown", "dialect": dialect.name, "file": file.path.name}
    for key in ("generation_settings", "pruning_settings", "node_threshold", "schema_version"):
        if file.metadata.get(key) is not None:
            kept[key] = file.metadata[key]
    for key in ("generator", "create_time_ms", "creator_name", "source_urls"):
        if key in _block(file, "info"):
            kept[key] = _block(file, "info")[key]
    return kept


def _scores(file: GraphFile) -> dict[str, float]:
    found = {}
    for name in ("replacement", "completeness"):
        value = file.metadata.get(f"{name}_score")
        if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 1):
            found[name] = float(value)
    return found


def _positions(tokens: list[str], nodes: Nodes) -> Positions:
    """One row per token; a run of placeholders is a picture, a square one has a grid.

    The pictures themselves did not come along, so there is no image to point at: `image` and `crop` stay missing.
    """
    count = len(tokens)
    ids = np.full(count, -1, dtype=np.int64)
    for kind in ("token", "image"):
        rows = np.flatnonzero(nodes.kind == kind)
        ids[nodes.position[rows]] = nodes.index[rows]
    missing, grid_row, grid_col = (np.full(count, -1, dtype=np.int32) for _ in range(3))
    is_image = [is_image_token(token) for token in tokens]
    start = 0
    while start < count:
        end = start
        while end < count and is_image[end]:
            end += 1
        side = isqrt(end - start)
        if side * side == end - start:
            grid_row[start:end], grid_col[start:end] = np.divmod(np.arange(end - start), max(side, 1))
        start = max(end, start + 1)
    return Positions(
        position=np.arange(count),
        token_id=ids,
        text=np.array(tokens, dtype=object),
        modality=np.array(["image" if yes else "text" for yes in is_image], dtype=object),
        image=missing,
        crop=missing,
        row=grid_row,
        col=grid_col,
    )
