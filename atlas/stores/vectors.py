"""FAISS: which features write alike. One index per (model, width), with the exact unit vectors beside it.

    stores/vectors/<model>-<width>-<hash>/
      manifest.json     what the others are; replaced last, so it is the moment of commit
      rows-N.f32        unit vectors, appended; the manifest says how many count
      ids-N.npy         the feature number of each row
      index-N.faiss     the index over them

A vector is what the feature writes to the residual stream (FeatureVectors.written), made one long; across layers
nothing else is comparable, across models nothing is. Every cosine handed out is computed from the exact rows, whatever
the index. A feature that writes nothing has a zero row and is nobody's neighbour.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from atlas.errors import StoreError
from atlas.ids import layer_range, split_feature_number
from atlas.stores.vector_files import fingerprint, index_ids, mismatch, read_index, read_manifest

FLAT_BELOW = 20_000
"""Below this many vectors the index is exact; from here on an inverted file with 8-bit rows (measured: docs)."""
CANDIDATES = 50
"""At least so many candidates are ranked again exactly."""
RANGE_MARGIN = 0.02
"""How much lower than the cosine asked for candidates are taken, because 8-bit rows are not exact."""
_FAISS: Any = faiss  # its type stubs lack what SWIG makes at run time
_BLOCK = 1024
_PROBES = 128


@dataclass(frozen=True)
class Neighbours:
    """The features nearest to some queries, best first."""

    fids: np.ndarray
    """int64 [queries, count]: feature numbers; -1 where there are fewer."""
    cosines: np.ndarray
    """float32 [queries, count]: exact cosines; NaN where there are fewer."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of features, each once."""

    a: np.ndarray
    """int64: the smaller feature number; sorted by (a, b)."""
    b: np.ndarray
    """int64: the larger one."""
    cosine: np.ndarray
    """float32: exact cosine."""


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one, as float32; zero rows stay zero."""
    wide = np.ascontiguousarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(norms > 0, norms, 1.0)).astype(np.float32)


def factory_for(count: int) -> str:
    """The form of an index of this size: the one place where it is chosen."""
    if count < FLAT_BELOW:
        return "IDMap2,Flat"
    cells = 1 << int(np.log2(2.3 * np.sqrt(count)))
    return f"IVF{cells},SQ8"


class VectorIndex:
    """The index of one model, as its manifest was when it was opened. Raises StoreError for files that do not fit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.fids: np.ndarray = self._load_ids()
        self._rows = self._map_rows()
        self._order = np.argsort(self.fids, kind="stable")
        self._faiss: Any = None

    @property
    def exact(self) -> bool:
        """Whether the index finds every neighbour for certain."""
        return "Flat" in self.manifest.factory

    def __len__(self) -> int:
        return self.manifest.count

    def rows(self, fids: np.ndarray) -> np.ndarray:
        """float32 [n, width]: exact unit vectors of these features. Raises StoreError if one is not there."""
        wanted = np.asarray(fids, dtype=np.int64)
        at = np.searchsorted(self.fids, wanted, sorter=self._order)
        found = self._order[np.minimum(at, len(self._order) - 1)] if len(self._order) else at
        if len(wanted) and (not len(self._order) or (self.fids[found] != wanted).any()):
            raise StoreError(
                f"the index of {self.manifest.model} lacks a feature asked for",
                "features of loaded graphs",
                "Run `atlas load`",
            )
        return np.asarray(self._rows[found], dtype=np.float32).reshape(len(wanted), self.manifest.width)

    def search(
        self, queries: np.ndarray, count: int, layers: tuple[int, int] | None = None, set_number: int | None = None
    ) -> Neighbours:
        """The `count` features nearest to each query, of layers first..last and of one set if given."""
        queries = unit(np.atleast_2d(queries))
        fids = np.full((len(queries), count), -1, dtype=np.int64)
        cosines = np.full((len(queries), count), np.nan, dtype=np.float32)
        selector = self._selector(layers, set_number)
        if selector is not False and len(self) and count:
            for row, candidates in enumerate(self._candidates(queries, count, selector)):
                near, cosine = self._rank(queries[row], candidates, count)
                fids[row, : len(near)], cosines[row, : len(near)] = near, cosine
        return Neighbours(fids, cosines)

    def all_pairs(self, cosine: float, touching: np.ndarray | None = None) -> Pairs:
        """Pairs at or above this cosine (greater than 0); with `touching`, those with one of these features in them."""
        fids = np.sort(self.fids) if touching is None else np.intersect1d(touching, self.fids)
        found: list[np.ndarray] = []
        for start in range(0, len(fids), _BLOCK):
            block = fids[start : start + _BLOCK]
            left, right = self._near(self.rows(block), cosine)
            pair = np.stack([block[left], self.fids[right]], axis=1)
            found.append(pair[pair[:, 0] != pair[:, 1]])
        pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0) if found else np.zeros((0, 2), dtype=np.int64)
        values = self._cosines(pairs[:, 0], pairs[:, 1])
        keep = values >= np.float32(cosine)
        return Pairs(pairs[keep, 0], pairs[keep, 1], values[keep])

    def computed_fingerprint(self) -> str:
        """The fingerprint of the rows as they are now; the manifest's if nothing was changed."""
        return f"{fingerprint(self.fids, self._rows):016x}"

    def index_rows(self, fids: np.ndarray) -> np.ndarray:
        """float32 [n, width]: what the index itself holds for these features (8-bit beyond Flat), for verification."""
        index = self._index()
        if not self.exact:
            index.set_direct_map_type(_FAISS.DirectMap.Hashtable)
        return (
            np.stack([index.reconstruct(int(fid)) for fid in fids])
            if len(fids)
            else np.zeros((0, self.manifest.width), np.float32)
        )

    def _near(self, queries: np.ndarray, cosine: float) -> tuple[np.ndarray, np.ndarray]:
        """(query, row) of candidates at the cosine; a superset, but for what an inexact index misses."""
        if self.exact:
            left, right = np.nonzero(queries @ np.asarray(self._rows).T >= cosine - 1e-4)
            return left, right
        limits, _, fids = self._index().range_search(queries, cosine - RANGE_MARGIN)
        left = np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64)))
        return left, self._order[np.searchsorted(self.fids, fids, sorter=self._order)]

    def _candidates(self, queries: np.ndarray, count: int, selector: Any) -> np.ndarray:
        wanted = min(max(CANDIDATES, 4 * count), len(self))
        if self.exact:
            parameters = _FAISS.SearchParameters(sel=selector) if selector is not None else None
        else:
            parameters = _FAISS.SearchParametersIVF(sel=selector, nprobe=_PROBES) if selector is not None else None
        return np.asarray(self._index().search(queries, wanted, params=parameters)[1])

    def _rank(self, query: np.ndarray, candidates: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        fids = np.unique(candidates[candidates >= 0])
        rows = self.rows(fids)
        cosine = np.einsum("nd,d->n", rows.astype(np.float64), query.astype(np.float64)).astype(np.float32)
        keep = rows.any(axis=1) if query.any() else np.zeros(len(rows), dtype=bool)
        fids, cosine = fids[keep], cosine[keep]
        best = np.lexsort((fids, -cosine))[:count]
        return fids[best], cosine[best]

    def _cosines(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Exact cosines of pairs; each depends on its two rows only, so runs of unlike batches agree to the bit."""
        values = np.zeros(len(a), dtype=np.float32)
        for start in range(0, len(a), _BLOCK):
            part = slice(start, start + _BLOCK)
            left, right = self.rows(a[part]).astype(np.float64), self.rows(b[part]).astype(np.float64)
            values[part] = np.einsum("nd,nd->n", left, right)
        return values

    def _selector(self, layers: tuple[int, int] | None, set_number: int | None) -> Any:
        """None for all, False for nothing, else what restricts the search."""
        if layers is None and set_number is None:
            return None
        first, end = layer_range(*layers) if layers is not None else (0, 1 << 62)
        keep = (self.fids >= first) & (self.fids < end)
        if set_number is not None:
            keep &= self._sets() == set_number
        if not keep.any():
            return False
        if set_number is None:
            return faiss.IDSelectorRange(first, end)
        return faiss.IDSelectorBatch(self.fids[keep])

    def _sets(self) -> np.ndarray:
        fids: Any = self.fids  # shifts and masks work on arrays alike
        return np.asarray(split_feature_number(fids)[0])

    def _index(self) -> Any:
        if self._faiss is None:
            index = read_index(self.folder / self.manifest.index)
            if (
                index.ntotal != len(self)
                or index.d != self.manifest.width
                or not np.array_equal(np.sort(index_ids(index)), np.sort(self.fids))
            ):
                raise mismatch(self.folder, f"{self.manifest.index} holds other features than ids say")
            if not self.exact:
                index.nprobe = min(_PROBES, index.nlist)
            self._faiss = index
        return self._faiss

    def _load_ids(self) -> np.ndarray:
        path = self.folder / self.manifest.ids
        try:
            fids = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise mismatch(self.folder, f"{path.name} cannot be read ({error})") from error
        if fids.shape != (self.manifest.count,) or fids.dtype != np.int64:
            raise mismatch(self.folder, f"{path.name} has {fids.shape} ids, the manifest says {self.manifest.count}")
        return np.asarray(fids)

    def _map_rows(self) -> np.ndarray:
        shape = (self.manifest.count, self.manifest.width)
        if not self.manifest.count:
            return np.zeros(shape, dtype=np.float32)
        try:
            return np.memmap(self.folder / self.manifest.rows, dtype="<f4", mode="r", shape=shape)
        except (OSError, ValueError) as error:
            raise mismatch(self.folder, f"{self.manifest.rows} cannot be read ({error})") from error


def open_indexes(root: Path) -> list[VectorIndex]:
    """All indexes there. Raises StoreError for one that does not fit its manifest."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.exists() else []
    return [open_index(folder) for folder in folders if (folder / "manifest.json").exists()]


def open_index(folder: Path) -> VectorIndex:
    """Open an index; once more if a writer replaced it in the same moment."""
    before = read_manifest(folder)
    try:
        return VectorIndex(folder)
    except StoreError:
        if read_manifest(folder) == before:
            raise
    return VectorIndex(folder)
