"""Changing an index of FAISS: new files beside the old ones, then the manifest is replaced; that is the commit.

Only the loader changes indexes, and only one loader runs. Rows are appended to the file readers have mapped: they read
as far as their own manifest says. The files of the manifest before are left for readers who just opened them.
"""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from atlas.stores.vector_files import Manifest, fingerprint, partition_folder, read_index
from atlas.stores.vectors import VectorIndex, factory_for, open_index

_SAMPLE_PER_CELL = 64


def update_index(root: Path, model: str, width: int, fids: np.ndarray, rows: np.ndarray, remove: np.ndarray) -> None:
    """Take away the features `remove`, then add `fids` with their unit vectors; what is there already stays as it is.

    An index without features is deleted. Raises StoreError for an index that does not fit its manifest.
    """
    folder = partition_folder(root, model, width)
    old = open_index(folder) if (folder / "manifest.json").exists() else None
    if old is not None:
        fresh = ~np.isin(fids, np.setdiff1d(old.fids, remove))
        fids, rows = fids[fresh], rows[fresh]
        remove = np.intersect1d(remove, old.fids)
        if not len(fids) and not len(remove):
            return
    if (0 if old is None else len(old) - len(remove)) + len(fids) == 0:
        _drop(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    if old is None or len(remove):
        manifest, all_fids = _rewrite_rows(folder, model, width, old, fids, rows, remove)
    else:
        manifest, all_fids = _append_rows(folder, old, fids, rows)
    manifest = _write_index(folder, manifest, old, all_fids, fids, rows, remove)
    with (folder / manifest.ids).open("wb") as file:
        np.save(file, all_fids, allow_pickle=False)
        _flush(file)
    aside = folder / "manifest.json.new"
    with aside.open("w") as text:
        text.write(json.dumps(asdict(manifest), indent=1) + "\n")
        _flush(text)
    os.replace(aside, folder / "manifest.json")
    _clean(folder, manifest, None if old is None else old.manifest)


def _append_rows(folder: Path, old: VectorIndex, fids: np.ndarray, rows: np.ndarray) -> tuple[Manifest, np.ndarray]:
    manifest = old.manifest
    with (folder / manifest.rows).open("r+b") as file:
        file.truncate(manifest.count * manifest.width * 4)  # what a killed writer appended and did not commit
        file.seek(0, os.SEEK_END)
        file.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
        _flush(file)
    total = fingerprint(fids, rows, int(manifest.fingerprint, 16))
    return replace(manifest, count=manifest.count + len(fids), fingerprint=f"{total:016x}"), np.concatenate(
        [old.fids, fids]
    )


def _rewrite_rows(
    folder: Path,
    model: str,
    width: int,
    old: VectorIndex | None,
    fids: np.ndarray,
    rows: np.ndarray,
    remove: np.ndarray,
) -> tuple[Manifest, np.ndarray]:
    kept = np.zeros(0, dtype=np.int64) if old is None else old.fids[~np.isin(old.fids, remove)]
    total = fingerprint(fids, rows)
    name = f"rows-{_next(folder)}.f32"
    with (folder / name).open("wb") as file:
        for start in range(0, len(kept), 4096):
            block = kept[start : start + 4096]
            assert old is not None  # kept is empty otherwise
            part = old.rows(block)
            total = fingerprint(block, part, total)
            file.write(part.astype("<f4").tobytes())
        file.write(np.ascontiguousarray(rows, dtype="<f4").tobytes())
        _flush(file)
    manifest = Manifest(
        model=model,
        width=width,
        count=len(kept) + len(fids),
        fingerprint=f"{total:016x}",
        rows=name,
        ids="",
        index="",
        factory="" if old is None else old.manifest.factory,
        trained_on=0 if old is None else old.manifest.trained_on,
    )
    return manifest, np.concatenate([kept, fids]).astype(np.int64)


def _write_index(
    folder: Path,
    manifest: Manifest,
    old: VectorIndex | None,
    all_fids: np.ndarray,
    fids: np.ndarray,
    rows: np.ndarray,
    remove: np.ndarray,
) -> Manifest:
    factory = factory_for(manifest.count)
    flat = "Flat" in factory
    grown = manifest.count >= 2 * manifest.trained_on or 2 * manifest.count <= manifest.trained_on
    if old is not None and ("Flat" in manifest.factory) == flat and (flat or not grown):
        index = read_index(folder / old.manifest.index)
        if len(remove):
            index.remove_ids(faiss.IDSelectorBatch(remove))
        if len(fids):
            index.add_with_ids(np.ascontiguousarray(rows), fids)
    else:
        index = _make(folder, manifest, factory, all_fids)
        manifest = replace(manifest, factory=factory, trained_on=manifest.count)
    number = _next(folder)
    manifest = replace(manifest, ids=f"ids-{number}.npy", index=f"index-{number}.faiss")
    faiss.write_index(index, str(folder / manifest.index))
    with (folder / manifest.index).open("rb") as file:
        os.fsync(file.fileno())
    return manifest


def _make(folder: Path, manifest: Manifest, factory: str, all_fids: np.ndarray) -> Any:
    rows = np.memmap(folder / manifest.rows, dtype="<f4", mode="r", shape=(manifest.count, manifest.width))
    index = faiss.index_factory(manifest.width, factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        inverted = faiss.extract_index_ivf(index)
        cells = inverted.nlist
        inverted.cp.min_points_per_centroid = 1  # small ones are the tests'; FAISS would warn on stderr
        sample = np.random.default_rng(0).permutation(manifest.count)[: cells * _SAMPLE_PER_CELL]
        index.train(np.ascontiguousarray(rows[np.sort(sample)]))
    for start in range(0, manifest.count, 16_384):
        part = slice(start, start + 16_384)
        index.add_with_ids(np.ascontiguousarray(rows[part]), all_fids[part])
    return index


def _next(folder: Path) -> int:
    """A number no file there carries."""
    used = [int(part) for path in folder.iterdir() for part in path.stem.split("-")[1:] if part.isdigit()]
    return max(used, default=0) + 1


def _drop(folder: Path) -> None:
    """The manifest goes first: without it the folder is no index."""
    if folder.exists():
        (folder / "manifest.json").unlink(missing_ok=True)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _clean(folder: Path, manifest: Manifest, before: Manifest | None) -> None:
    keep = {"manifest.json"}
    for known in (manifest, before):
        keep |= set() if known is None else {known.rows, known.ids, known.index}
    for path in folder.iterdir():
        if path.name not in keep:
            path.unlink()


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
