"""Where features fire: how many graphs keep them, and how much of it lies on image positions.

A visual feature is one whose occurrences lie mostly on image positions. The unpruned activations decide, since a pruned
graph says nothing about what it left out; an imported graph has none, so there the nodes do.
"""

from typing import Any, NamedTuple

from query.names import Store

VISUAL = 0.5
"""A feature is visual above this share of occurrences on image positions."""

# graphs without unpruned activations count by their nodes
_FIRING = """
WITH wanted AS (SELECT DISTINCT unnest(CAST($fids AS BIGINT[])) AS fid),
firing AS (
    SELECT fid, count(*) AS seen, count(*) FILTER (unpruned) AS fired, count(*) FILTER (on_image) AS on_image FROM (
        SELECT a.fid, p.modality = 'image' AS on_image, true AS unpruned
        FROM activation AS a SEMI JOIN wanted USING (fid)
        JOIN position AS p ON p.gid = a.gid AND p.position = a.position
        UNION ALL
        SELECT n.fid, p.modality = 'image', false
        FROM node AS n SEMI JOIN wanted USING (fid)
        JOIN position AS p ON p.gid = n.gid AND p.position = n.position
        WHERE n.kind = 'feature' AND n.gid NOT IN (SELECT DISTINCT gid FROM activation)
    ) GROUP BY fid
),
kept AS (
    SELECT n.fid, count(DISTINCT n.gid) AS graphs, count(*) AS kept
    FROM node AS n SEMI JOIN wanted USING (fid) GROUP BY n.fid
)
SELECT w.fid, coalesce(k.graphs, 0) AS n_graphs, nullif(f.fired, 0) AS fired, coalesce(k.kept, 0) AS kept,
       coalesce(f.seen, 0) AS seen, f.on_image / f.seen AS image_share
FROM wanted AS w LEFT JOIN firing AS f USING (fid) LEFT JOIN kept AS k USING (fid)
"""


class Firing(NamedTuple):
    """Where one feature fires."""

    n_graphs: int
    """Graphs that keep it."""
    fired: int | None
    """Occurrences before pruning; None if no graph tells (imported ones do not)."""
    kept: int
    """Occurrences that pruning kept."""
    seen: int
    """Occurrences that image_share is of: before pruning where a graph tells, else kept."""
    image_share: float | None
    """Share of the occurrences on image positions; None if there are none."""

    def is_of(self, modality: str | None) -> bool:
        """Whether it is visual (image), not visual (text), or anything is wanted (None)."""
        if modality is None:
            return True
        return self.image_share is not None and (self.image_share > VISUAL) == (modality == "image")


def firing(store: Store, fids: list[int]) -> dict[int, Firing]:
    """Where the features fire, by key."""
    rows: list[dict[str, Any]] = store.arrow(_FIRING, {"fids": fids}).to_pylist()
    return {row.pop("fid"): Firing(**row) for row in rows}
