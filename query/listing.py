"""What is there: the graphs in a row, one graph by itself, one feature over all graphs."""

import json
from typing import Any

import pyarrow as pa

from atlas.config import Home
from query.names import FeatureName, GraphName, Store, feature_in, graph_in, set_in
from query.reading import reading
from query.visual import firing

TOP = 10
"""Rows per section of a page."""

_GRAPHS = """
SELECT id, slug, model, prompt, answer, expected, correct, task, concept, n_nodes AS nodes, n_edges AS edges,
       replacement, completeness, gid
FROM graph
WHERE ($task IS NULL OR task = $task) AND ($concept IS NULL OR concept = $concept)
  AND ($model IS NULL OR model = $model)
ORDER BY gid
LIMIT $limit
"""
# what was asked to be explained, and where; imports do not say
_ASKED = """
SELECT g.gid, json_extract_string(g.identity, '$.targets') AS targets, g.n_positions,
       coalesce(CAST(json_extract_string(g.identity, '$.prompt_length') AS INTEGER), g.n_positions) AS prompt_length,
       (SELECT list(n.text ORDER BY n.probability DESC NULLS LAST, n.nid) FROM node AS n
        WHERE n.gid = g.gid AND n.kind = 'logit') AS texts
FROM graph AS g
WHERE list_contains($gids, g.gid) AND json_extract_string(g.identity, '$.targets.kind') IS NOT NULL
"""
_TARGETS = """
SELECT text, "index" AS token_id, position, probability, is_answer FROM node
WHERE gid = $gid AND kind = 'logit' ORDER BY probability DESC NULLS LAST, nid
"""
_TOP_FEATURES = """
SELECT f.name AS feature, coalesce(f.label, n.label) AS label, n.position, p.text AS token, p.modality, p."row", p.col,
       n.activation, n.influence, n.cumulative,
       (SELECT count(DISTINCT o.gid) FROM node AS o WHERE o.fid = n.fid) AS graphs
FROM node AS n JOIN feature AS f USING (fid)
JOIN position AS p ON p.gid = n.gid AND p.position = n.position
WHERE n.gid = $gid AND n.kind = 'feature'
ORDER BY n.cumulative NULLS LAST, n.influence DESC NULLS LAST, n.nid LIMIT $limit
"""
_KINDS = "SELECT kind, count(*) AS nodes FROM node WHERE gid = $gid GROUP BY kind ORDER BY kind"
_IMAGES = """
SELECT g.image, g.name, g.sha, i.width, i.height FROM graph_image AS g LEFT JOIN image AS i ON i.sha = g.sha
WHERE g.gid = $gid ORDER BY g.image
"""
_OCCURRENCES = """
SELECT g.slug, g.answer, n.position, p.text AS token, p.modality, p."row", p.col, n.activation, n.influence,
       n.cumulative, g.id AS graph
FROM node AS n JOIN graph AS g USING (gid)
JOIN position AS p ON p.gid = n.gid AND p.position = n.position
WHERE n.fid = $fid AND n.kind = 'feature'
ORDER BY n.cumulative NULLS LAST, n.influence DESC NULLS LAST, g.id, n.position LIMIT $limit
"""
_TOKENS = """
SELECT p.text AS token, p.modality, count(*) AS occurrences, count(DISTINCT n.gid) AS graphs,
       CAST(max(n.activation) AS DOUBLE) AS max_activation
FROM node AS n JOIN position AS p ON p.gid = n.gid AND p.position = n.position
WHERE n.fid = $fid AND n.kind = 'feature'
GROUP BY ALL ORDER BY occurrences DESC, token, modality LIMIT $limit
"""
_DUPLICATES = """
SELECT f.name AS feature, f.label, CAST(d.cosine AS DOUBLE) AS cosine,
       (SELECT count(DISTINCT n.gid) FROM node AS n WHERE n.fid = f.fid) AS graphs
FROM (SELECT fid_b AS fid, cosine FROM near_duplicate WHERE fid_a = $fid
      UNION ALL SELECT fid_a, cosine FROM near_duplicate WHERE fid_b = $fid) AS d
JOIN feature AS f USING (fid)
ORDER BY d.cosine DESC, f.fid LIMIT $limit
"""
# the other end of an edge, by what it is: features by name, tokens and logits by text, patches and errors by kind
_NEIGHBOURS = """
WITH own AS (SELECT gid, nid FROM node WHERE fid = $fid AND kind = 'feature'),
met AS (
    SELECT e.gid, e.share, e.weight,
           CASE n.kind WHEN 'feature' THEN n.layer || '/' || n."index" WHEN 'image' THEN 'image patches'
                WHEN 'error' THEN 'errors of layer ' || n.layer WHEN 'bias' THEN 'bias of layer ' || n.layer
                ELSE coalesce(n.text, '') END AS name,
           n.kind, coalesce(f.label, n.label) AS label
    FROM edge AS e JOIN own AS o ON o.gid = e.gid AND o.nid = e.{near}
    JOIN node AS n ON n.gid = e.gid AND n.nid = e.{far} LEFT JOIN feature AS f USING (fid)
)
SELECT name, kind, any_value(label) AS label, count(DISTINCT gid) AS graphs, count(*) AS edges,
       avg(share) AS mean_share, count(*) FILTER (weight > 0) / count(*) AS positive
FROM met GROUP BY name, kind ORDER BY graphs DESC, round(mean_share, 9) DESC, kind, name LIMIT $limit
"""


def list_graphs(
    home: Home, task: str | None = None, concept: str | None = None, model: str | None = None, limit: int = 1_000_000
) -> pa.Table:
    """All graphs, oldest first: names, prompt, answer, expected, correct, task, concept, sizes, scores and target.

    The target is what a graph explains if that is not the top logits at the last position, as in "7 - 8", "five @12".
    """
    with reading(home) as store:
        found = store.arrow(_GRAPHS, {"task": task, "concept": concept, "model": model, "limit": limit})
        gids = found["gid"].to_pylist()
        named = _targets(store, gids)
    return found.drop_columns(["gid"]).append_column("target", pa.array([named.get(gid) for gid in gids], pa.string()))


def show_graph(home: Home, text: str, limit: int = TOP) -> dict[str, Any]:
    """One graph: what it is, its scores, targets, strongest features and where they fire, and how it was made."""
    with reading(home) as store:
        return graph_page(store, graph_in(store, text), limit)


def show_feature(home: Home, text: str, set: str | int | None = None, limit: int = TOP) -> dict[str, Any]:
    """One feature over all graphs: occurrences, tokens, near-duplicates, strongest inputs and outputs."""
    with reading(home) as store:
        return feature_page(store, feature_in(store, text, None if set is None else set_in(store, set)), limit)


def graph_page(store: Store, graph: GraphName, limit: int) -> dict[str, Any]:
    """As show_graph, in a store at hand."""
    key = {"gid": graph.gid}
    page: dict[str, Any] = store.arrow("SELECT * EXCLUDE (gid) FROM graph WHERE gid = $gid", key).to_pylist()[0]
    for name in ("identity", "provenance", "extra"):
        page[name] = None if page[name] is None else json.loads(page[name])
    page["kinds"] = {row["kind"]: row["nodes"] for row in store.arrow(_KINDS, key).to_pylist()}
    page["target"] = _targets(store, [graph.gid]).get(graph.gid)
    page["targets"] = store.arrow(_TARGETS, key).to_pylist()
    page["images"] = store.arrow(_IMAGES, key).to_pylist()
    page["top_features"] = store.arrow(_TOP_FEATURES, key | {"limit": limit}).to_pylist()
    return page


def feature_page(store: Store, feature: FeatureName, limit: int) -> dict[str, Any]:
    """As show_feature, in a store at hand."""
    key = {"fid": feature.fid}
    page: dict[str, Any] = store.arrow(
        'SELECT f.name AS feature, f.label, f.layer, f."index", f.set_number AS "set", s.transcoders, s.model '
        "FROM feature AS f LEFT JOIN feature_set AS s USING (set_number) WHERE f.fid = $fid",
        key,
    ).to_pylist()[0]
    seen = firing(store, [feature.fid])[feature.fid]
    page |= {"graphs": seen.n_graphs, "kept": seen.kept, "fired": seen.fired, "image_share": seen.image_share}
    page["image_share_of"] = seen.seen
    key |= {"limit": limit}
    for name, sql in (("occurrences", _OCCURRENCES), ("tokens", _TOKENS), ("near_duplicates", _DUPLICATES)):
        page[name] = store.arrow(sql, key).to_pylist()
    page["inputs"] = store.arrow(_NEIGHBOURS.format(near="target", far="source"), key).to_pylist()
    page["outputs"] = store.arrow(_NEIGHBOURS.format(near="source", far="target"), key).to_pylist()
    return page


def _targets(store: Store, gids: list[int]) -> dict[int, str]:
    """What graphs explain, by number; without those that explain the top logits at the last position."""
    named = {row["gid"]: _target(row) for row in store.arrow(_ASKED, {"gids": gids}).to_pylist()}
    return {gid: name for gid, name in named.items() if name is not None}


def _target(row: dict[str, Any]) -> str | None:
    asked = json.loads(row["targets"])
    kind, position = asked.get("kind"), asked.get("position", -1)
    if kind == "difference":
        name = " - ".join(str(answer).strip() for answer in asked["difference"])
    elif kind == "strings":
        name = ", ".join(text.strip() for text in asked["strings"])
    elif kind == "tokens":
        name = ", ".join((text or "").strip() for text in row["texts"] or [])
    else:
        name = str(kind)
    if position not in (-1, row["n_positions"] - 1) or row["prompt_length"] != row["n_positions"]:
        return f"{name} @{position}"
    return None if kind == "top" else name
