"""What must hold of a circuit, checked at the door: on the way in and on the way out."""

from typing import Any

import numpy as np

from atlas.domain.circuit import Circuit, FeatureVectors
from atlas.errors import ArtefactError
from atlas.ids import EMBEDDING_LAYER, KINDS, bytes_hash, content_hash

_SHARE_SLACK = 1e-5  # float32 rounding of a share that is 1
_MODALITIES = ("image", "text")
_DO = "Make the graph again from its input"


def check_circuit(circuit: Circuit, where: str) -> None:
    """Raise ArtefactError, naming `where`, for the first invariant that does not hold."""
    expected = content_hash(circuit.identity)
    if circuit.id != expected:
        raise ArtefactError(
            f"{where}: the id {circuit.id[:12]} is not the hash of its identity",
            f"the id {expected[:12]}",
            "Make the graph again; ids come from atlas.ids.content_hash",
        )
    _check_positions(circuit, where)
    _check_nodes(circuit, where)
    _check_edges(circuit, where)
    _check_activations(circuit, where)
    _check_pictures(circuit, where)
    if circuit.vectors is not None:
        _check_vectors(circuit, circuit.vectors, where)
    for name, value in circuit.scores.items():
        if not np.isfinite(value):
            raise ArtefactError(
                f"{where}: the score {name} is {value}", "a finite number", "Leave out a score that is not known"
            )


def _check_positions(circuit: Circuit, where: str) -> None:
    positions = circuit.positions
    _all(positions.position == np.arange(len(positions)), f"{where}: positions.position", "0, 1, 2, ... without gaps")
    _among(positions.modality, _MODALITIES, f"{where}: positions.modality")
    _range(
        positions.image, -1, len(circuit.images), f"{where}: positions.image", "the ordinal of an image of the prompt"
    )


def _check_nodes(circuit: Circuit, where: str) -> None:
    nodes = circuit.nodes
    _among(nodes.kind, KINDS, f"{where}: nodes.kind")
    _range(nodes.position, 0, len(circuit.positions), f"{where}: nodes.position", f"0 to {len(circuit.positions) - 1}")
    kind = nodes.kind.astype(str)
    embedding, logit = np.isin(kind, ("token", "image")), kind == "logit"
    low = np.where(embedding, EMBEDDING_LAYER, np.where(logit, circuit.n_layers, 0))
    high = np.where(embedding, EMBEDDING_LAYER, np.where(logit, circuit.n_layers, circuit.n_layers - 1))
    _all(
        (nodes.layer >= low) & (nodes.layer <= high),
        f"{where}: nodes.layer",
        f"-1 for token and image, {circuit.n_layers} for logits, else 0 to {circuit.n_layers - 1}",
    )
    _all(~nodes.is_answer | logit, f"{where}: nodes.is_answer", "true of logits only")
    feature = kind == "feature"
    _range(nodes.index[feature], 0, 1 << 32, f"{where}: nodes.index of features", "0 to 2^32 - 1")
    _share(nodes.probability, f"{where}: nodes.probability")


def _check_edges(circuit: Circuit, where: str) -> None:
    n, edges, incoming = len(circuit.nodes), circuit.edges, circuit.incoming
    for name in ("source", "target"):
        _range(getattr(edges, name), 0, n, f"{where}: edges.{name}", f"a row of nodes, 0 to {n - 1}")
    _all(edges.source != edges.target, f"{where}: edges", "no edge from a node to itself")
    _share(edges.share, f"{where}: edges.share")
    _range(incoming.target, 0, n, f"{where}: incoming.target", f"a row of nodes, 0 to {n - 1}")
    _among(incoming.kind, KINDS, f"{where}: incoming.kind")
    _range(incoming.position, 0, len(circuit.positions), f"{where}: incoming.position", "a position of the prompt")


def _check_activations(circuit: Circuit, where: str) -> None:
    active = circuit.activations
    _range(active.position, 0, len(circuit.positions), f"{where}: activations.position", "a position of the prompt")
    _range(active.layer, 0, circuit.n_layers, f"{where}: activations.layer", f"0 to {circuit.n_layers - 1}")
    _range(active.index, 0, 1 << 32, f"{where}: activations.index", "0 to 2^32 - 1")


def _check_pictures(circuit: Circuit, where: str) -> None:
    images, thumbnails, maps = circuit.images, circuit.thumbnails, circuit.heat_maps
    _all(images.image == np.arange(len(images)), f"{where}: images.image", "0, 1, 2, ... without gaps")
    _distinct(list(thumbnails.sha), f"{where}: thumbnails.sha")
    for sha, data in zip(thumbnails.sha, thumbnails.data, strict=True):
        if bytes_hash(data) != sha:
            raise ArtefactError(
                f"{where}: thumbnail {sha[:12]} is not the hash of its data", "sha256 of the bytes", _DO
            )
    known = {*thumbnails.sha, None}
    for name, shas in (("images", images.thumbnail), ("heat_maps", maps.thumbnail)):
        unknown = [sha for sha in shas if sha not in known]
        if unknown:
            raise ArtefactError(f"{where}: {name}.thumbnail names {unknown[0][:12]}", "a row of thumbnails", _DO)
    _range(maps.position, 0, len(circuit.positions), f"{where}: heat_maps.position", "a position of the prompt")
    _distinct(list(zip(maps.position.tolist(), maps.name, strict=True)), f"{where}: heat_maps (position, name)")
    for row, values in enumerate(maps.values):
        size = int(maps.height[row]) * int(maps.width[row])
        if len(values) != size or not np.isfinite(values).all():
            raise ArtefactError(
                f"{where}: heat map {row} has {len(values)} values", f"{size} finite values (height x width)", _DO
            )


def _check_vectors(circuit: Circuit, vectors: FeatureVectors, where: str) -> None:
    n = len(vectors.layer)
    width = vectors.decoder.shape[1] if vectors.decoder.ndim == 2 else -1
    expected: dict[str, Any] = {
        "layer": ((n,), np.int16),
        "index": ((n,), np.int64),
        "decoder": ((n, width), np.float32),
        "encoder": ((n, width), np.float32),
    }
    if vectors.write_gain is not None:
        expected["write_gain"] = ((circuit.n_layers, width), np.float32)
    for name, (shape, dtype) in expected.items():
        array = getattr(vectors, name)
        if array.shape != shape or array.dtype != dtype:
            raise ArtefactError(
                f"{where}: vectors.{name} is {array.dtype} {list(array.shape)}",
                f"{np.dtype(dtype).name} {list(shape)}",
                _DO,
            )
        if not np.isfinite(array).all():
            raise ArtefactError(f"{where}: vectors.{name} has a value that is not finite", "finite numbers", _DO)
    _range(vectors.layer, 0, circuit.n_layers, f"{where}: vectors.layer", f"0 to {circuit.n_layers - 1}")
    _range(vectors.index, 0, 1 << 32, f"{where}: vectors.index", "0 to 2^32 - 1")
    key = vectors.layer.astype(np.int64) << 32 | vectors.index
    _all(np.diff(key) > 0, f"{where}: vectors", "rows sorted by (layer, index), each feature once")
    nodes = circuit.nodes
    feature = nodes.kind == "feature"
    wanted = nodes.layer[feature].astype(np.int64) << 32 | nodes.index[feature]
    _all(np.isin(wanted, key), f"{where}: feature nodes without a row in vectors", "vectors of every feature kept")


def _all(holds: np.ndarray, what: str, expected: str) -> None:
    holds = np.asarray(holds, dtype=bool)
    if not holds.all():
        raise ArtefactError(f"{what} is wrong in row {int(np.flatnonzero(~holds)[0])}", expected, _DO)


def _range(values: np.ndarray, low: int, high: int, what: str, expected: str) -> None:
    outside = (values < low) | (values >= high)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise ArtefactError(f"{what} is {values[row]} in row {row}", expected, _DO)


def _share(values: np.ndarray, what: str) -> None:
    outside = (values < 0) | (values > 1 + _SHARE_SLACK)  # NaN means missing and passes
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise ArtefactError(f"{what} is {values[row]} in row {row}", "0 to 1", _DO)


def _among(values: np.ndarray, known: tuple[str, ...], what: str) -> None:
    strange = set(values.tolist()) - set(known)
    if strange:
        raise ArtefactError(f"{what} has {sorted(map(str, strange))[0]!r}", f"one of {', '.join(known)}", _DO)


def _distinct(values: list[Any], what: str) -> None:
    if len(set(values)) != len(values):
        raise ArtefactError(f"{what} has a value twice", "each once", _DO)
