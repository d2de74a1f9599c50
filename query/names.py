"""What people call things, and what the tables call them: graphs, features and transcoder sets.

A graph is named by its id, by a prefix of it that fits one graph only (four digits at least), by its slug, or by the
beginning of its slug if that fits one graph only. A feature is `layer/index`, with its set where several have one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from atlas.config import Home
from atlas.errors import NotFoundError
from atlas.ids import FeatureId
from query.reading import reading

SHORTEST_PREFIX = 4
_HASH = "sha256:"
_LISTED = 8  # candidates named in a message


class Store(Protocol):
    """What the questions need of a database: rows for a text (query.reading.Reading is one)."""

    def arrow(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run a text and return all rows."""


class GraphName(NamedTuple):
    """A graph that was found."""

    gid: int
    """Ledger number."""
    id: str
    """sha256 that names it."""
    slug: str
    """Readable name."""


@dataclass(frozen=True)
class FeatureName:
    """A feature that was found."""

    fid: int
    """Key: layer, set number and index."""
    set_number: int
    """Ledger number of its transcoder set."""
    layer: int
    """Its layer."""
    index: int
    """Its index."""

    @property
    def name(self) -> str:
        """layer/index."""
        return str(FeatureId(self.layer, self.index))


def find_graph(home: Home, text: str) -> GraphName:
    """The graph meant by an id, a prefix of one, or a slug. Raises NotFoundError naming the candidates."""
    with reading(home) as store:
        return graph_in(store, text)


def find_feature(home: Home, text: str, set: str | int | None = None) -> FeatureName:
    """The feature meant by layer/index. Raises NotFoundError, or naming the sets if several have one."""
    with reading(home) as store:
        return feature_in(store, text, None if set is None else set_in(store, set))


def graph_in(store: Store, text: str) -> GraphName:
    """As find_graph, in a store at hand."""
    text = text.strip()
    prefix = text.lower() if re.fullmatch(rf"[0-9A-Fa-f]{{{SHORTEST_PREFIX},64}}", text) else None
    rows = store.arrow(
        "SELECT gid, id, slug FROM graph WHERE slug = $slug OR ($prefix IS NOT NULL AND starts_with(id, $prefix)) "
        "ORDER BY slug, id",
        {"slug": text, "prefix": prefix},
    ).to_pylist()
    if not rows and len(text) >= SHORTEST_PREFIX:
        rows = store.arrow(
            "SELECT gid, id, slug FROM graph WHERE starts_with(slug, $slug) ORDER BY slug, id", {"slug": text}
        ).to_pylist()
    if len(rows) == 1:
        return GraphName(**rows[0])
    if rows:
        candidates = _listed([f"{row['slug']} ({row['id'][:12]})" for row in rows])
        raise NotFoundError(
            f"{text!r} fits {len(rows)} graphs: {candidates}", "a name that fits one graph", "Give more of the id"
        )
    raise NotFoundError(f"no graph is named {text!r}{_near(store, text)}", _WANTED_GRAPH, "See `atlas list`")


_WANTED_GRAPH = f"an id, a prefix of one ({SHORTEST_PREFIX} digits or more), or a slug"


def feature_in(store: Store, text: str, set_number: int | None = None) -> FeatureName:
    """As find_feature, in a store at hand and with the set's number."""
    wanted = FeatureId.parse(text)
    rows = store.arrow(
        'SELECT f.fid, f.set_number, f.layer, f."index", s.transcoders FROM feature AS f '
        'LEFT JOIN feature_set AS s USING (set_number) WHERE f.layer = $layer AND f."index" = $index '
        "AND ($set IS NULL OR f.set_number = $set) ORDER BY f.set_number",
        {"layer": wanted.layer, "index": wanted.index, "set": set_number},
    ).to_pylist()
    if len(rows) > 1:
        sets = _listed([f"{row['set_number']} ({row['transcoders']})" for row in rows])
        raise NotFoundError(
            f"feature {wanted} exists in {len(rows)} transcoder sets: {sets}",
            "one set",
            "Say which with --set, by number or name",
        )
    if not rows:
        inside = "" if set_number is None else f" in set {set_number}"
        raise NotFoundError(
            f"no graph saw a feature {wanted}{inside}",
            "a feature of this atlas",
            "See `atlas ask recurring-features --min-graphs 1`",
        )
    row = rows[0]
    return FeatureName(row["fid"], row["set_number"], row["layer"], row["index"])


def set_in(store: Store, text: str | int) -> int:
    """The number of the transcoder set meant by its number, its name, or a part of its name that fits one set only.

    Digits alone are a number. Of a sha256 the first four digits do, or more of them; of a repository's name any part.
    """
    rows = store.arrow("SELECT set_number, transcoders FROM feature_set ORDER BY set_number").to_pylist()
    wanted = str(text).strip()
    if re.fullmatch(r"[+-]?\d+", wanted):
        fits = [row for row in rows if str(row["set_number"]) == wanted]
    else:
        fits = [row for row in rows if row["transcoders"] == wanted]
        fits = fits or [row for row in rows if _is_part(wanted.lower(), row["transcoders"].lower())]
    if len(fits) == 1:
        return int(fits[0]["set_number"])
    sets = _listed([f"{row['set_number']} ({row['transcoders']})" for row in fits or rows]) or "none"
    found = f"{wanted!r} fits {len(fits)} transcoder sets" if fits else f"no transcoder set is named {wanted!r}"
    raise NotFoundError(f"{found}; there are: {sets}", "the number or the name of one set")


def _is_part(wanted: str, name: str) -> bool:
    """Whether a part of a set's name may stand for it: the beginning of a hash, anything of another name."""
    digits = name.removeprefix(_HASH)
    if re.fullmatch("[0-9a-f]{64}", digits):
        start = wanted.removeprefix(_HASH)
        return len(start) >= SHORTEST_PREFIX and digits.startswith(start)
    return bool(wanted) and wanted in name


def _near(store: Store, text: str) -> str:
    import difflib

    rows = store.arrow("SELECT DISTINCT slug FROM graph ORDER BY slug LIMIT 10000").to_pylist()
    slugs = [row["slug"] for row in rows]
    if not slugs:
        return " (the atlas is empty)"
    near = difflib.get_close_matches(text, slugs, n=1)
    return f" (the nearest is {near[0]})" if near else ""


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
