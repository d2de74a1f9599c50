"""Vectors and near-duplicates, brought in line with the graphs that DuckDB holds; once per load run.

What the indexes should hold follows from DuckDB alone (the feature nodes of graphs that brought vectors), so a run
after a crash finds by itself what is missing. The vectors' rows come from the artefacts. Near-duplicates are computed
again for the features of every graph whose line in `projection` is not there yet; pairs and lines are one transaction.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from atlas.artefact.read import read_vectors
from atlas.config import Home
from atlas.errors import ArtefactError
from atlas.stores.duck import Duck, insert_arrow
from atlas.stores.rows import feature_numbers
from atlas.stores.vector_files import partition_folder
from atlas.stores.vector_update import update_index
from atlas.stores.vectors import Pairs, open_index, open_indexes, unit

NEAR_DUPLICATE = 0.9
"""Cosine from which two features are stored as near-duplicates."""
STORE = "vectors"
"""Name of this projection in the table `projection`."""
_BATCH_BYTES = 1 << 30
_QUESTIONS = {
    "pending": """SELECT d.gid, d.id, d.checksum FROM projection d
                  LEFT JOIN projection v ON v.gid = d.gid AND v.store = 'vectors' AND v.checksum = d.checksum
                  WHERE d.store = 'duckdb' AND v.gid IS NULL ORDER BY d.gid""",
    "graphs": "SELECT gid, id, set_number, model, width FROM graph WHERE width IS NOT NULL ORDER BY gid",
    "wanted": """SELECT g.model, g.width, n.fid, min(n.gid) AS gid FROM node n JOIN graph g USING (gid)
                 WHERE n.fid IS NOT NULL AND g.width IS NOT NULL GROUP BY ALL""",
    "stale": """WITH indexed AS (SELECT DISTINCT n.fid FROM node n JOIN graph g USING (gid)
                                 WHERE n.fid IS NOT NULL AND g.width IS NOT NULL)
                SELECT fid_a, fid_b FROM near_duplicate
                WHERE fid_a NOT IN (FROM indexed) OR fid_b NOT IN (FROM indexed)""",
    "pairs": "SELECT count(*) AS n FROM near_duplicate",
}
"""pending: graphs whose near-duplicates are not stored yet; wanted: what the indexes should hold, and the first graph
that brings it; stale: pairs of features that no graph brings any more."""


@dataclass(frozen=True)
class VectorReport:
    """What a run changed."""

    added: int = 0
    """Features added to an index."""
    removed: int = 0
    """Features taken from an index."""
    pairs: int = 0
    """Near-duplicates stored now."""


def sync_vectors(
    home: Home, duck: Duck, root: Path, progress: Callable[[int, int], None] | None = None
) -> VectorReport:
    """Bring indexes and near-duplicates in line with DuckDB. Safe to repeat. Raises StoreError, ArtefactError."""
    found = duck.arrows(_QUESTIONS)
    graphs = {int(row["gid"]): row for row in found["graphs"].to_pylist()}
    partitions = sorted({(str(row["model"]), int(row["width"])) for row in graphs.values()})
    added = removed = 0
    changed = [found["stale"]["fid_a"].to_numpy(), found["stale"]["fid_b"].to_numpy()]
    for at, (model, width) in enumerate(partitions):
        wanted = found["wanted"].filter((pc.field("model") == model) & (pc.field("width") == width))
        new, old = _sync_partition(home, root, model, width, wanted, graphs)
        changed.append(old)
        added, removed = added + new, removed + len(old)
        if progress is not None:
            progress(at + 1, len(partitions))
    for index in open_indexes(root):
        known = index.manifest
        if (known.model, known.width) not in partitions:
            changed.append(index.fids)
            removed += len(index)
            update_index(root, known.model, known.width, *_nothing(known.width), remove=index.fids)
    if not found["pending"].num_rows and not added and not removed and not found["stale"].num_rows:
        return VectorReport(pairs=int(found["pairs"]["n"][0].as_py()))
    return VectorReport(added, removed, _store_pairs(duck, root, found["pending"], changed))


def near_duplicates(root: Path, touching: np.ndarray | None = None) -> Pairs:
    """Near-duplicates over all indexes; of a pair that several models know, the largest cosine."""
    best: dict[tuple[int, int], float] = {}
    for index in open_indexes(root):
        pairs = index.all_pairs(NEAR_DUPLICATE, touching)
        for a, b, cosine in zip(pairs.a.tolist(), pairs.b.tolist(), pairs.cosine.tolist(), strict=True):
            best[a, b] = max(cosine, best.get((a, b), -1.0))
    keys = sorted(best)
    table = np.array(keys, dtype=np.int64).reshape(len(keys), 2)
    return Pairs(table[:, 0], table[:, 1], np.array([best[key] for key in keys], dtype=np.float32))


def _sync_partition(
    home: Home, root: Path, model: str, width: int, wanted: pa.Table, graphs: dict[int, dict[str, Any]]
) -> tuple[int, np.ndarray]:
    """(features added, features taken away)."""
    fids, gids = wanted["fid"].to_numpy(), wanted["gid"].to_numpy()
    folder = partition_folder(root, model, width)
    present = open_index(folder).fids if (folder / "manifest.json").exists() else np.zeros(0, dtype=np.int64)
    missing = ~np.isin(fids, present)
    remove = np.setdiff1d(present, fids)
    if len(remove):
        update_index(root, model, width, *_nothing(width), remove=remove)
    for add, rows in _batches(_rows_of(home, graphs, fids[missing], gids[missing])):
        update_index(root, model, width, add, rows, remove[:0])
    return int(missing.sum()), remove


def _rows_of(
    home: Home, graphs: dict[int, dict[str, Any]], fids: np.ndarray, gids: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Unit vectors of features, each read from the artefact of the first graph that holds it; one pair per graph."""
    for gid in np.unique(gids).tolist():
        graph = graphs[gid]
        vectors = read_vectors(home, graph["id"])
        mine = np.sort(fids[gids == gid])
        known = np.zeros(0, dtype=np.int64)
        if vectors is not None:
            known = feature_numbers(graph["set_number"], vectors.layer, vectors.index)
        if vectors is None or not np.isin(mine, known).all():
            raise ArtefactError(
                f"the vectors of graph {graph['id'][:12]} lack features that it keeps",
                "one of each",
                "Delete the graph and make it again",
            )
        yield mine, unit(vectors.written()[np.searchsorted(known, mine)])


def _batches(parts: Iterator[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Join parts up to a size that memory holds, because every change writes the index again."""
    held: list[tuple[np.ndarray, np.ndarray]] = []
    size = 0
    for part in parts:
        held.append(part)
        size += part[1].nbytes
        if size > _BATCH_BYTES:
            yield np.concatenate([f for f, _ in held]), np.concatenate([r for _, r in held])
            held, size = [], 0
    if held:
        yield np.concatenate([f for f, _ in held]), np.concatenate([r for _, r in held])


def _nothing(width: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(0, dtype=np.int64), np.zeros((0, width), dtype=np.float32)


def _store_pairs(duck: Duck, root: Path, pending: pa.Table, changed: list[np.ndarray]) -> int:
    """Compute pairs of new and changed features; write them with the lines of `projection`, in one transaction."""
    sql = "SELECT DISTINCT fid FROM node WHERE fid IS NOT NULL AND gid IN (SELECT unnest(?))"
    fids = duck.arrow(sql, [pending["gid"].to_pylist()])["fid"].to_numpy()
    touched = np.unique(np.concatenate([fids, *changed])).astype(np.int64)
    pairs = near_duplicates(root, touched)
    threshold = np.full(len(pairs.a), NEAR_DUPLICATE, dtype=np.float32)
    rows = pa.table({"fid_a": pairs.a, "fid_b": pairs.b, "cosine": pairs.cosine, "threshold": threshold})
    lines = pending.append_column("store", pa.array([STORE] * len(pending), pa.string()))
    with duck.writing() as connection:
        connection.execute(sa.text("CREATE OR REPLACE TEMP TABLE touched (fid BIGINT)"))
        insert_arrow(connection, "touched", pa.table({"fid": touched}))
        connection.execute(
            sa.text("DELETE FROM near_duplicate WHERE fid_a IN (FROM touched) OR fid_b IN (FROM touched)")
        )
        insert_arrow(connection, "near_duplicate", rows)
        insert_arrow(connection, "projection", lines)
        return int(connection.execute(sa.text("SELECT count(*) FROM near_duplicate")).scalar_one())
