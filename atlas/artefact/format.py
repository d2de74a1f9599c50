"""The artefact's format: file names, tables and their Arrow schemas, all derived from the records of atlas/domain.

    artefacts/graph/ab/abcd.../     named by the graph's id; never changed once it is there
      manifest.json                 what the graph is, how it was made, and sha256 and size of every other file
      nodes.parquet ... heat_maps.parquet    one table per record
      vectors.safetensors           what the features read and write (absent from imports)
      foreign.json                  metadata of an imported graph, verbatim (only then)
    artefacts/description/ab/abcd....json    what only describes the graph; may be replaced

docs/artefact-format.md is the specification; its tables are made from here (docs/generate.py).
"""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from atlas.config import Home
from atlas.domain.circuit import Activations, Edges, HeatMaps, Images, Incoming, Nodes, Positions, Thumbnails
from atlas.domain.columns import Columns
from atlas.errors import ArtefactError

FORMAT = "circuit-atlas"
FORMAT_VERSION = 1
KIND = "graph"
MANIFEST = "manifest.json"
VECTORS = "vectors.safetensors"
FOREIGN = "foreign.json"
TABLES: dict[str, type[Columns]] = {
    "nodes": Nodes,
    "edges": Edges,
    "incoming": Incoming,
    "activations": Activations,
    "positions": Positions,
    "images": Images,
    "thumbnails": Thumbnails,
    "heat_maps": HeatMaps,
}
"""Tables of a graph: attribute of Circuit and stem of the parquet file -> record."""
VECTOR_NAMES = ("layer", "index", "decoder", "encoder", "write_gain")
"""Tensors of vectors.safetensors; write_gain only where features write before a post-norm."""

_ARROW_TYPES: dict[str, Any] = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "text": pa.string(),
    "bytes": pa.binary(),
    "floats": pa.list_(pa.field("item", pa.float32(), False)),
}


def table_file(name: str) -> str:
    """File name of a table."""
    return f"{name}.parquet"


def arrow_schema(record: type[Columns]) -> pa.Schema:
    """Arrow schema of a record: its columns in order, nullable where declared so."""
    return pa.schema([pa.field(c.name, _ARROW_TYPES[c.type], c.nullable) for c in record.columns()])


def graph_folder(home: Home, graph_id: str) -> Path:
    """Where the artefact of a graph lies. Raises ArtefactError if the id is none."""
    check_id(graph_id)
    return home.artefacts / KIND / graph_id[:2] / graph_id


def description_file(home: Home, graph_id: str) -> Path:
    """Where the description of a graph lies. Raises ArtefactError if the id is none."""
    check_id(graph_id)
    return home.artefacts / "description" / graph_id[:2] / f"{graph_id}.json"


def check_id(graph_id: str) -> None:
    """Refuse what is no graph id, so that no path is ever made of it."""
    if len(graph_id) != 64 or set(graph_id) - set("0123456789abcdef"):
        raise ArtefactError(f"{graph_id!r} is no graph id", "64 hex digits (a sha256)", "See `atlas list` for the ids")


def with_tables(text: str) -> str:
    """The page docs/artefact-format.md with the tables between its markers made again from the declarations."""
    return re.sub(
        r"(<!-- columns of (\w+) -->\n).*?(<!-- end -->)",
        lambda m: m[1] + _markdown(TABLES[m[2]]) + m[3],
        text,
        flags=re.DOTALL,
    )


def _markdown(record: type[Columns]) -> str:
    lines = ["", "| column | type | may be missing | unit | meaning |", "|---|---|---|---|---|"]
    for field, spec in zip(arrow_schema(record), record.columns(), strict=True):
        kind = "list of float32" if spec.type == "floats" else str(field.type)
        meaning = spec.doc.replace("|", "\\|")  # a bar would end the cell
        lines.append(f"| `{spec.name}` | {kind} | {'yes' if spec.nullable else 'no'} | {spec.unit} | {meaning} |")
    return "\n".join([*lines, "", ""])
