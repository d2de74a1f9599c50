"""Graphs in other tools' formats: the JSON of the graph viewers both ways, and drawings out.

    read_graph_json(path)
    export_graph(circuit, "circuit-tracer" | "png" | "svg", path)

Dialects and rules are in docs/interop.md.
"""

from pathlib import Path
from typing import Literal

from atlas.domain.circuit import Circuit
from atlas.errors import InputError
from atlas.interop.circuit_tracer import write_graph_json
from atlas.interop.graph_file import find_graph_files
from atlas.interop.graph_json import read_graph_json

__all__ = ["FORMATS", "export_graph", "find_graph_files", "read_graph_json"]

FORMATS = {
    "circuit-tracer": "graph JSON of circuit-tracer and Neuronpedia",
    "png": "a drawing, 1600 x 1000 pixels",
    "svg": "the same drawing as vectors",
}


def export_graph(
    circuit: Circuit,
    fmt: str,
    path: Path | str,
    *,
    error_ids: Literal["new", "old"] | None = None,
    top: int | None = None,
) -> Path:
    """Write a graph as one of FORMATS and give its path; half a file is never seen. Raises InputError.

    `error_ids` is for circuit-tracer: the form of error ids (None: as imported, else new). `top` is for png and svg:
    how many features and errors are drawn.
    """
    if fmt not in FORMATS:
        raise InputError(f"no export format {fmt!r}", " or ".join(FORMATS))
    if fmt == "circuit-tracer":
        if top is not None:
            raise InputError("`top` for circuit-tracer, which writes every node", "no `top`")
        return write_graph_json(circuit, Path(path), error_ids)
    if error_ids is not None:
        raise InputError(f"`error_ids` for {fmt}, which shows no ids", "no `error_ids`")
    from atlas.interop.drawing import DEFAULT_TOP, draw  # brings matplotlib, which takes its time

    return draw(circuit, Path(path), DEFAULT_TOP if top is None else top, fmt)
