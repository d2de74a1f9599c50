"""Which graph a person means: an id, a unique prefix of one, or a slug; read from the artefacts, needing no store."""

import re

from atlas.artefact.read import graph_ids, read_description
from atlas.config import Home
from atlas.errors import ArtefactError, NotFoundError

PREFIX = 4
"""Fewest digits of an id that name a graph."""
_LISTED = 8


def find_graph(home: Home, text: str) -> str:
    """The id meant. Raises NotFoundError if no graph, or more than one, fits."""
    ids = graph_ids(home)
    prefix = text.lower() if re.fullmatch(rf"[0-9A-Fa-f]{{{PREFIX},64}}", text) else None
    found = [
        graph_id
        for graph_id in ids
        if (prefix is not None and graph_id.startswith(prefix)) or _slug(home, graph_id) == text
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFoundError(
            f"no graph {text!r} among {len(ids)}",
            f"an id, {PREFIX} or more of its first digits, or a slug",
            "`atlas list` names them",
        )
    shown = ", ".join(graph_id[:12] for graph_id in found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
    raise NotFoundError(f"{len(found)} graphs fit {text!r}: {shown}", "one", "Name it by more digits of its id")


def _slug(home: Home, graph_id: str) -> str | None:
    try:
        return read_description(home, graph_id).slug
    except ArtefactError:
        return None  # a damaged description must not keep other graphs from being found
