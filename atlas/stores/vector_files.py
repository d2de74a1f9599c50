"""The files of an index: where they lie, what its manifest says, and when they do not belong together."""

import json
import re
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from atlas.errors import StoreError
from atlas.ids import content_hash

_VERSION = 1
_METRIC = "inner product of unit vectors"


@dataclass(frozen=True)
class Manifest:
    """What an index was built from."""

    model: str
    """Model whose residual stream the features write to."""
    width: int
    """Its width."""
    count: int
    """Rows that count."""
    factory: str
    """FAISS factory string."""
    trained_on: int
    """Rows there when the index was last made from scratch."""
    fingerprint: str
    """Sum of the rows' hashes (16 hex digits), whatever their order."""
    rows: str
    """File of unit vectors."""
    ids: str
    """File of feature numbers."""
    index: str
    """File of the index."""
    metric: str = _METRIC
    """What the index compares by."""
    version: int = _VERSION
    """Version of this layout."""


def partition_folder(root: Path, model: str, width: int) -> Path:
    """Folder of one index."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", model).strip("-")[-40:] or "model"
    return root / f"{stem}-{width}-{content_hash({'model': model, 'width': width})[:8]}"


def read_manifest(folder: Path) -> Manifest:
    """What the index in a folder was built from. Raises StoreError."""
    path = folder / "manifest.json"
    try:
        record = json.loads(path.read_text())
        manifest = Manifest(**record)
    except (OSError, ValueError, TypeError) as error:
        raise mismatch(folder, f"manifest.json cannot be read ({error})") from error
    if manifest.version != _VERSION or manifest.metric != _METRIC:
        raise mismatch(folder, f"version {manifest.version}, metric {manifest.metric}")
    return manifest


def fingerprint(fids: np.ndarray, rows: np.ndarray, start: int = 0, sign: int = 1) -> int:
    """Sum of hashes of (id, row), so that rows can be added and taken away; `start` is the sum so far."""
    for fid, row in zip(np.asarray(fids, dtype="<i8"), rows, strict=True):
        digest = blake2b(fid.tobytes() + np.asarray(row, dtype="<f4").tobytes(), digest_size=8).digest()
        start += sign * int.from_bytes(digest, "little")
    return start % (1 << 64)


def index_ids(index: Any) -> np.ndarray:
    """All ids an index holds, in its own order."""
    if hasattr(index, "id_map"):
        return np.asarray(faiss.vector_to_array(index.id_map), dtype=np.int64)
    lists = index.invlists
    parts = [
        faiss.rev_swig_ptr(lists.get_ids(cell), lists.list_size(cell)).copy()
        for cell in range(index.nlist)
        if lists.list_size(cell)
    ]
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)


def read_index(path: Path) -> Any:
    """Read an index file. Raises StoreError."""
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise mismatch(path.parent, f"{path.name} cannot be read ({str(error).splitlines()[0][:120]})") from error


def mismatch(folder: Path, what: str) -> StoreError:
    """The one error for an index that is not what its manifest says."""
    return StoreError(
        f"the index {folder} does not fit its manifest: {what}",
        "files written together",
        "Run `atlas rebuild`: it makes the index again from the artefacts",
    )
