"""Which features write alike: neighbours of one feature, and near-duplicate pairs.

Cosines compare what features write to the residual stream, so layers and sets of one model compare; models do not.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from atlas.config import Home
from atlas.errors import NotFoundError, QuestionError
from atlas.ids import FeatureId, split_feature_number
from atlas.stores.vectors import VectorIndex, open_indexes
from query.names import Store, feature_in, set_in
from query.reading import reading
from query.visual import firing

MODALITIES = ("image", "text")

_SIMILAR = pa.schema(
    [
        ("feature", pa.string()),
        ("cosine", pa.float64()),
        ("n_graphs", pa.int64()),
        ("image_share", pa.float64()),
        ("label", pa.string()),
        ("layer", pa.int64()),
        ("index", pa.int64()),
        ("set", pa.int64()),
    ]
)
_DUPLICATES = pa.schema(
    [
        ("feature_a", pa.string()),
        ("feature_b", pa.string()),
        ("cosine", pa.float64()),
        ("graphs_a", pa.int64()),
        ("graphs_b", pa.int64()),
        ("together", pa.int64()),
        ("image_share_a", pa.float64()),
        ("image_share_b", pa.float64()),
        ("label_a", pa.string()),
        ("label_b", pa.string()),
        ("set_a", pa.int64()),
        ("set_b", pa.int64()),
    ]
)
_STORED = """
SELECT fid_a, fid_b, cosine FROM near_duplicate WHERE cosine >= CAST($cosine AS REAL) ORDER BY cosine DESC, fid_a, fid_b
"""
_TOGETHER = """
WITH pair AS (SELECT unnest(CAST($a AS BIGINT[])) AS a, unnest(CAST($b AS BIGINT[])) AS b),
held AS (SELECT DISTINCT gid, fid FROM node WHERE fid IN (SELECT a FROM pair UNION SELECT b FROM pair))
SELECT p.a, p.b, count(*) AS together FROM pair AS p JOIN held AS x ON x.fid = p.a JOIN held AS y ON y.fid = p.b
    AND y.gid = x.gid GROUP BY p.a, p.b
"""


class _Pair(NamedTuple):
    a: int
    """The smaller feature number."""
    b: int
    """The larger one."""
    cosine: float
    """Their cosine."""


def similar(
    home: Home,
    feature: str,
    k: int = 10,
    layers: str | int | tuple[int, int] | None = None,
    same_layer: bool = False,
    set: str | int | None = None,
    modality: str | None = None,
) -> pa.Table:
    """The k features that write most like this one, best first.

    layers: one layer, "3..5", or (3, 5); same_layer: only the feature's own. set: the set of the feature, and of its
    neighbours. modality: image for visual features (most occurrences on image positions), text for the others.
    Columns: feature, cosine, n_graphs, image_share (of its occurrences), label, layer, index, set.
    """
    if k < 1:
        raise QuestionError(f"k is {k}", "a number from 1")
    _check_modality(modality)
    between = _layers(layers)
    with reading(home) as store:
        number = None if set is None else set_in(store, set)
        found = feature_in(store, feature, number)
        if same_layer:
            between = (found.layer, found.layer)
        index = _index_of(home, found.fid, found.name)
        near = _neighbours(store, index, found.fid, k, between, number, modality)
        return _neighbour_table(store, near)


def duplicates(
    home: Home,
    cosine: float = 0.9,
    modality: str | None = None,
    layer: int | None = None,
    set: str | int | None = None,
    limit: int = 100,
) -> pa.Table:
    """Pairs of features at or above this cosine, the closest first; filters hold for both features of a pair.

    Pairs are stored from a threshold on; below it they are computed now from the vectors. `together` counts the graphs
    that keep both: 0 may be one concept split in two.
    """
    _check_modality(modality)
    if not 0 < cosine <= 1:
        raise QuestionError(f"cosine is {cosine}", "a number above 0, up to 1")
    with reading(home) as store:
        number = None if set is None else set_in(store, set)
        pairs = [pair for pair in _pairs(home, store, cosine) if _fits(pair, layer, number)]
        if modality is not None:
            seen = firing(store, _fids(pairs))
            pairs = [pair for pair in pairs if seen[pair.a].is_of(modality) and seen[pair.b].is_of(modality)]
        return _pair_table(store, pairs[:limit])


def _neighbours(
    store: Store,
    index: VectorIndex,
    fid: int,
    k: int,
    layers: tuple[int, int] | None,
    number: int | None,
    modality: str | None,
) -> list[tuple[int, float]]:
    """The k nearest of that modality: more are taken until enough are left, or there are no more."""
    query = index.rows(np.array([fid]))
    count = k + 1 if modality is None else 4 * k + 1
    while True:
        near = index.search(query, count, layers, number)
        found = [
            (int(other), float(value))
            for other, value in zip(near.fids[0], near.cosines[0], strict=True)
            if other not in {fid, -1}
        ]
        if modality is not None and found:
            seen = firing(store, [other for other, _ in found])
            wanted = [(other, value) for other, value in found if seen[other].is_of(modality)]
        else:
            wanted = found
        if len(wanted) >= k or count >= len(index):
            return wanted[:k]
        count = min(4 * count, len(index))


def _index_of(home: Home, fid: int, name: str) -> VectorIndex:
    for index in open_indexes(home.vectors):
        if (index.fids == fid).any():
            return index
    raise NotFoundError(
        f"no vector is stored for feature {name}",
        "a feature of a traced graph (an imported one brings no vectors)",
        "Run `atlas load` if its graph is not loaded yet",
    )


def _pairs(home: Home, store: Store, cosine: float) -> list[_Pair]:
    """All pairs at the cosine, the closest first: stored ones, or computed where fewer were stored."""
    threshold = store.arrow("SELECT max(threshold) AS threshold FROM near_duplicate").to_pylist()[0]["threshold"]
    if threshold is not None and np.float32(cosine) >= np.float32(threshold):
        rows = store.arrow(_STORED, {"cosine": cosine}).to_pylist()
        return [_Pair(row["fid_a"], row["fid_b"], row["cosine"]) for row in rows]
    found: list[_Pair] = []
    for index in open_indexes(home.vectors):
        pairs = index.all_pairs(cosine)
        found += [_Pair(int(a), int(b), float(c)) for a, b, c in zip(pairs.a, pairs.b, pairs.cosine, strict=True)]
    return sorted(found, key=lambda pair: (-pair.cosine, pair.a, pair.b))


def _fits(pair: _Pair, layer: int | None, number: int | None) -> bool:
    for fid in (pair.a, pair.b):
        own_set, own_layer, _ = split_feature_number(fid)
        if layer not in {None, own_layer} or number not in {None, own_set}:
            return False
    return True


def _neighbour_table(store: Store, near: list[tuple[int, float]]) -> pa.Table:
    fids = [fid for fid, _ in near]
    seen, labels = firing(store, fids), _labels(store, fids)
    rows: list[dict[str, Any]] = []
    for fid, cosine in near:
        number, layer, index = split_feature_number(fid)
        rows.append(
            {
                "feature": str(FeatureId(layer, index)),
                "cosine": cosine,
                "n_graphs": seen[fid].n_graphs,
                "image_share": seen[fid].image_share,
                "label": labels.get(fid),
                "layer": layer,
                "index": index,
                "set": number,
            }
        )
    return pa.Table.from_pylist(rows, schema=_SIMILAR)


def _pair_table(store: Store, pairs: list[_Pair]) -> pa.Table:
    fids = _fids(pairs)
    seen, labels = firing(store, fids), _labels(store, fids)
    both = store.arrow(_TOGETHER, {"a": [pair.a for pair in pairs], "b": [pair.b for pair in pairs]}).to_pylist()
    together = {(row["a"], row["b"]): row["together"] for row in both}
    rows: list[dict[str, Any]] = []
    for pair in pairs:
        row: dict[str, Any] = {"cosine": pair.cosine, "together": together.get((pair.a, pair.b), 0)}
        for side, fid in (("a", pair.a), ("b", pair.b)):
            number, layer, index = split_feature_number(fid)
            row |= {
                f"feature_{side}": str(FeatureId(layer, index)),
                f"graphs_{side}": seen[fid].n_graphs,
                f"image_share_{side}": seen[fid].image_share,
                f"label_{side}": labels.get(fid),
                f"set_{side}": number,
            }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=_DUPLICATES)


def _labels(store: Store, fids: list[int]) -> dict[int, str | None]:
    rows = store.arrow("SELECT fid, label FROM feature WHERE list_contains($fids, fid)", {"fids": fids}).to_pylist()
    return {row["fid"]: row["label"] for row in rows}


def _fids(pairs: Iterable[_Pair]) -> list[int]:
    return sorted({fid for pair in pairs for fid in (pair.a, pair.b)})


def _layers(layers: str | int | tuple[int, int] | None) -> tuple[int, int] | None:
    """First and last layer. Raises QuestionError."""
    if layers is None or isinstance(layers, tuple):
        return layers
    first, _, last = str(layers).partition("..")
    if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
        raise QuestionError(f"layers is {layers!r}", "one layer, or first..last as in 3..5")
    return int(first), int(last or first)


def _check_modality(modality: str | None) -> None:
    if modality not in {None, *MODALITIES}:
        raise QuestionError(f"modality is {modality!r}", " or ".join(MODALITIES))
