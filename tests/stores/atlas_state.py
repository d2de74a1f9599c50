"""What an atlas answers, as plain values, so that two atlases can be compared."""

from typing import Any

import numpy as np

from atlas.config import Home
from atlas.stores.duck import Duck
from atlas.stores.schema import metadata
from atlas.stores.vectors import open_indexes


def state(home: Home) -> dict[str, Any]:
    """Every row of every table, and what the indexes hold and answer."""
    answers: dict[str, Any] = {}
    for table, rows in Duck(home).arrows({table: f'FROM "{table}"' for table in metadata.tables}).items():
        answers[table] = sorted(tuple(map(repr, row.values())) for row in rows.to_pylist())
    for index in open_indexes(home.vectors):
        fids = np.sort(index.fids)
        key = f"{index.manifest.model} {index.manifest.width}"
        near = index.search(index.rows(fids), 4)
        answers[key] = (fids.tolist(), index.rows(fids).tobytes(), near.fids.tolist(), near.cosines.tolist())
    return answers


def assert_whole(home: Home) -> int:
    """Every graph that a reader sees is seen whole; how many there are."""
    graphs = (
        Duck(home)
        .arrow("""
        SELECT g.gid, g.n_nodes, g.n_edges, g.n_positions, coalesce(g.n_active, 0) AS n_active,
            (SELECT count(*) FROM node n WHERE n.gid = g.gid) AS nodes,
            (SELECT count(*) FROM edge e WHERE e.gid = g.gid) AS edges,
            (SELECT count(*) FROM position p WHERE p.gid = g.gid) AS positions,
            (SELECT count(*) FROM activation a WHERE a.gid = g.gid) AS active
        FROM graph g""")
        .to_pylist()
    )
    for graph in graphs:
        assert (graph["nodes"], graph["edges"], graph["positions"], graph["active"]) == (
            graph["n_nodes"],
            graph["n_edges"],
            graph["n_positions"],
            graph["n_active"],
        )
    return len(graphs)
