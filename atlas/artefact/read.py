"""Reading an artefact: whole, or one table of it; whatever is not as the manifest says is one ArtefactError."""

import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from atlas.artefact import format as names
from atlas.artefact.arrow import from_arrow
from atlas.artefact.check import check_circuit
from atlas.config import Home
from atlas.domain.circuit import Circuit, Description, FeatureVectors
from atlas.domain.columns import Columns
from atlas.errors import ArtefactError, NotFoundError
from atlas.ids import bytes_hash, content_hash

Record = TypeVar("Record", bound=Columns)
_AGAIN = "Restore the folder from a copy, or delete it and make the graph again"
_MANIFEST_TYPES: dict[str, type] = {
    "id": str,
    "source": str,
    "model": str,
    "transcoders": str,
    "n_layers": int,
    "answer": str,
    "partial": bool,
    "scores": dict,
    "identity": dict,
    "provenance": dict,
    "rows": dict,
    "files": dict,
}


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says."""

    id: str
    """sha256 of `identity`; the folder's name."""
    source: str
    """trace, or the dialect an import was read from."""
    model: str
    """Model name."""
    transcoders: str
    """Identity of the transcoder set."""
    n_layers: int
    """Layers of the language model."""
    answer: str
    """What the model says."""
    partial: bool
    """True if only the edges present are known."""
    scores: dict[str, float]
    """replacement, completeness and the like."""
    identity: dict[str, Any]
    """All that can change the result."""
    provenance: dict[str, Any]
    """How it was made."""
    rows: dict[str, int]
    """Rows per table."""
    files: dict[str, dict[str, Any]]
    """sha256 and bytes per file."""
    checksum: str
    """sha256 of the manifest without this field."""


def graph_ids(home: Home) -> list[str]:
    """Ids of all graphs there, oldest first (by the time their folder was written)."""
    return [path.name for path in sorted(_folders(home), key=lambda p: (_written(p), p.name))]


def read_manifest(home: Home, graph_id: str) -> Manifest:
    """What the graph is, without its tables. Raises NotFoundError, ArtefactError."""
    path = names.graph_folder(home, graph_id) / names.MANIFEST
    if not path.parent.exists():
        raise NotFoundError(f"no graph {graph_id[:12]} in {home.root}", "the id of a graph there", "See `atlas list`")
    record = _read_json(path)
    if record.get("format") != names.FORMAT or record.get("kind") != names.KIND:
        raise ArtefactError(
            f"{path} is no graph of {names.FORMAT}", f'"format": "{names.FORMAT}", "kind": "{names.KIND}"', _AGAIN
        )
    _check_version(record.get("version"), path)
    checksum = record.pop("checksum", None)
    if checksum != content_hash(record):
        raise ArtefactError(f"{path} is not what was written (its checksum differs)", "the manifest as written", _AGAIN)
    for key, type in _MANIFEST_TYPES.items():
        if not isinstance(record.get(key), type):
            raise ArtefactError(f'{path}: "{key}" is {record.get(key)!r}', f"a value of type {type.__name__}", _AGAIN)
    if record["id"] != graph_id or content_hash(record["identity"]) != graph_id:
        raise ArtefactError(
            f"{path}: the folder's name is not the hash of the identity in it",
            f"a folder named {content_hash(record['identity'])[:12]}...",
            _AGAIN,
        )
    return Manifest(**{key: record[key] for key in _MANIFEST_TYPES}, checksum=checksum)


def read_description(home: Home, graph_id: str) -> Description:
    """What describes the graph. Raises ArtefactError."""
    path = names.description_file(home, graph_id)
    record = _read_json(path)
    _check_version(record.get("version"), path)
    fields = {field.name: record.get(field.name) for field in dataclasses.fields(Description)}
    for name, value in fields.items():
        wanted: tuple[type, ...] = (
            (str,) if name in {"slug", "prompt"} else (dict if name == "extra" else str, type(None))
        )
        if not isinstance(value, wanted):
            raise ArtefactError(f'{path}: "{name}" is {value!r}', "a text" if name != "extra" else "an object", _AGAIN)
    return Description(**fields)  # type: ignore[arg-type]  # types were checked one by one above


def read_circuit(home: Home, graph_id: str, check: bool = True) -> Circuit:
    """The whole circuit; with `check`, every checksum and every invariant. Raises NotFoundError, ArtefactError."""
    manifest = read_manifest(home, graph_id)
    folder = names.graph_folder(home, graph_id)
    tables: dict[str, Any] = {
        name: _read_table(folder, manifest, name, record, check) for name, record in names.TABLES.items()
    }
    foreign = _foreign(folder, manifest, check)
    circuit = Circuit(
        id=manifest.id,
        identity=manifest.identity,
        provenance=manifest.provenance,
        description=read_description(home, graph_id),
        source=manifest.source,
        model=manifest.model,
        transcoders=manifest.transcoders,
        n_layers=manifest.n_layers,
        answer=manifest.answer,
        partial=manifest.partial,
        scores=manifest.scores,
        vectors=_vectors(folder, manifest, check),
        foreign=foreign,
        **tables,
    )
    if check:
        check_circuit(circuit, str(folder))
    return circuit


def read_table(home: Home, graph_id: str, record: type[Record], check: bool = False) -> Record:
    """One table, named by its record (Nodes, Edges, ...), without reading the rest."""
    name = next(name for name, known in names.TABLES.items() if known is record)
    return _read_table(names.graph_folder(home, graph_id), read_manifest(home, graph_id), name, record, check)


def read_vectors(home: Home, graph_id: str, check: bool = False) -> FeatureVectors | None:
    """The features' vectors, without reading the rest; None if the graph brought none."""
    return _vectors(names.graph_folder(home, graph_id), read_manifest(home, graph_id), check)


def artefact_checksum(home: Home, graph_id: str) -> str:
    """sha256 of manifest and description as they lie on disk: what a projection was made of."""
    parts = (names.graph_folder(home, graph_id) / names.MANIFEST, names.description_file(home, graph_id))
    return bytes_hash(b"\n".join(_bytes(path) for path in parts))


def _read_table(folder: Path, manifest: Manifest, name: str, record: type[Record], check: bool) -> Record:
    path = folder / names.table_file(name)
    data = _file(path, manifest, check)
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ArtefactError(f"{path} cannot be read ({_first_line(error)})", "a parquet file", _AGAIN) from error
    columns = from_arrow(record, table, str(path))
    if len(columns) != manifest.rows.get(name):
        raise ArtefactError(f"{path} has {len(columns)} rows", f"{manifest.rows.get(name)} (manifest.json)", _AGAIN)
    return columns


def _vectors(folder: Path, manifest: Manifest, check: bool) -> FeatureVectors | None:
    if names.VECTORS not in manifest.files:
        return None
    path = folder / names.VECTORS
    try:
        tensors = load_tensors(_file(path, manifest, check))
    except SafetensorError as error:
        raise ArtefactError(f"{path} cannot be read ({_first_line(error)})", "a safetensors file", _AGAIN) from error
    missing = [name for name in names.VECTOR_NAMES[:4] if name not in tensors]
    if missing or set(tensors) - set(names.VECTOR_NAMES):
        raise ArtefactError(
            f"{path} holds {', '.join(sorted(tensors)) or 'nothing'}", ", ".join(names.VECTOR_NAMES), _AGAIN
        )
    return FeatureVectors(**{name: tensors.get(name) for name in names.VECTOR_NAMES})  # type: ignore[arg-type]  # checked above


def _foreign(folder: Path, manifest: Manifest, check: bool) -> dict[str, Any] | None:
    if names.FOREIGN not in manifest.files:
        return None
    path = folder / names.FOREIGN
    _file(path, manifest, check)
    return _read_json(path)


def _file(path: Path, manifest: Manifest, check: bool) -> bytes:
    stated = manifest.files.get(path.name)
    if stated is None:
        raise ArtefactError(
            f"{path.parent / names.MANIFEST} does not name {path.name}", "every file of the format", _AGAIN
        )
    data = _bytes(path)
    if len(data) != stated.get("bytes"):
        raise ArtefactError(f"{path} has {len(data)} bytes", f"{stated.get('bytes')} (manifest.json)", _AGAIN)
    if check and bytes_hash(data) != stated.get("sha256"):
        raise ArtefactError(f"{path} is not what was written (its sha256 differs)", str(stated.get("sha256")), _AGAIN)
    return data


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"{path}: {error.strerror or error}", "a file that can be read", _AGAIN) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(_bytes(path), parse_constant=_no_constant)
    except ValueError as error:
        raise ArtefactError(f"{path} is not JSON ({error})", "a JSON object", _AGAIN) from error
    if not isinstance(record, dict):
        raise ArtefactError(f"{path} holds a {type(record).__name__}", "a JSON object", _AGAIN)
    return record


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _check_version(version: Any, path: Path) -> None:
    if version == names.FORMAT_VERSION:
        return
    do = "Update circuit-atlas (pip install -U circuit-atlas)" if isinstance(version, int) else _AGAIN
    raise ArtefactError(f"{path} is of format version {version!r}", f"version {names.FORMAT_VERSION}", do)


def _folders(home: Home) -> Iterator[Path]:
    root = home.artefacts / names.KIND
    for shelf in os.scandir(root) if root.exists() else ():
        if shelf.is_dir() and len(shelf.name) == 2:
            yield from (
                Path(entry.path) for entry in os.scandir(shelf.path) if entry.is_dir() and len(entry.name) == 64
            )


def _written(folder: Path) -> int:
    try:
        return (folder / names.MANIFEST).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
