"""A damaged, foreign or impossible artefact is one ArtefactError that names the file, on the way in and out."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load, save

from atlas.artefact.format import TABLES, description_file, graph_folder
from atlas.artefact.read import graph_ids, read_circuit, read_manifest
from atlas.artefact.write import write_circuit
from atlas.config import Home, open_home
from atlas.domain.circuit import Circuit
from atlas.errors import ArtefactError
from atlas.ids import bytes_hash, content_hash
from tests.factory import make_circuit


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Circuit]:
    home = open_home(tmp_path_factory.mktemp("home") / "h", create=True)
    circuit = make_circuit(n_features=12)
    write_circuit(home, circuit)
    return home, circuit


@pytest.fixture
def folder(written: tuple[Home, Circuit], tmp_path: Path) -> Path:
    """A copy that may be damaged: the home is at the folder's fourth parent."""
    import shutil

    shutil.copytree(written[0].root, tmp_path / "h")
    return graph_folder(Home(tmp_path / "h"), written[1].id)


def damaged(folder: Path) -> ArtefactError:
    with pytest.raises(ArtefactError) as caught:
        read_circuit(Home(folder.parents[3]), folder.name)
    assert caught.value.expected and caught.value.do, "says what was expected and what to do"
    return caught.value


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object], seal: bool = True) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    if seal:
        del manifest["checksum"]
        manifest["checksum"] = content_hash(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and have the manifest agree, so that only the content is wrong."""
    (folder / name).write_bytes(data)
    edit_manifest(folder, lambda m: m["files"][name].update(sha256=bytes_hash(data), bytes=len(data)))


FILES = [f"{name}.parquet" for name in TABLES] + ["vectors.safetensors"]


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert str(folder / name) in str(damaged(folder))


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    error = damaged(folder)
    assert name in error.found and f"{len(data) // 2} bytes" in error.found


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_named(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    error = damaged(folder)
    assert name in error.found and "sha256" in error.found


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"not what it says it is, by far", b"\0" * 4096], ids=["empty", "short", "text", "zeros"]
)
def test_a_file_of_another_kind_is_named(folder: Path, name: str, content: bytes) -> None:
    replace_file(folder, name, content)
    assert name in damaged(folder).found


def test_a_truncated_parquet_that_the_manifest_agrees_with_is_named(folder: Path) -> None:
    data = (folder / "edges.parquet").read_bytes()
    replace_file(folder, "edges.parquet", data[:-20])
    assert "edges.parquet cannot be read" in damaged(folder).found


@pytest.mark.parametrize("name", list(TABLES))
def test_a_column_too_many_or_too_few_is_named(folder: Path, name: str, tmp_path: Path) -> None:
    table = pq.read_table(folder / f"{name}.parquet")
    for changed in (table.drop_columns([table.column_names[0]]), table.append_column("more", [[None] * len(table)])):
        pq.write_table(changed, tmp_path / "changed")
        replace_file(folder, f"{name}.parquet", (tmp_path / "changed").read_bytes())
        error = damaged(folder)
        assert f"{name}.parquet" in error.found and "columns" in error.found


def test_a_null_where_none_may_be_is_named(folder: Path, tmp_path: Path) -> None:
    table = pq.read_table(folder / "edges.parquet")
    weights = [None, *table["weight"].to_pylist()[1:]]
    import pyarrow as pa

    at = table.column_names.index("weight")
    pq.write_table(table.set_column(at, "weight", pa.array(weights, pa.float32())), tmp_path / "changed")
    replace_file(folder, "edges.parquet", (tmp_path / "changed").read_bytes())
    assert "column weight has 1 missing values" in damaged(folder).found


def test_a_row_less_than_the_manifest_says_is_named(folder: Path, tmp_path: Path) -> None:
    pq.write_table(pq.read_table(folder / "edges.parquet").slice(1), tmp_path / "changed")
    replace_file(folder, "edges.parquet", (tmp_path / "changed").read_bytes())
    assert "edges.parquet has" in damaged(folder).found


def test_vectors_of_other_names_or_shapes_are_named(folder: Path) -> None:
    tensors = load((folder / "vectors.safetensors").read_bytes())
    replace_file(folder, "vectors.safetensors", save({"decoder": tensors["decoder"]}))
    assert "vectors.safetensors holds decoder" in damaged(folder).found
    replace_file(folder, "vectors.safetensors", save(tensors | {"encoder": tensors["encoder"][:, :3].copy()}))
    assert "vectors.encoder is float32" in damaged(folder).found
    replace_file(folder, "vectors.safetensors", save(tensors | {"layer": tensors["layer"][::-1].copy()}))
    assert "vectors" in damaged(folder).found


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_an_unknown_version_is_named(folder: Path, version: object) -> None:
    edit_manifest(folder, lambda m: m.update(version=version))
    error = damaged(folder)
    assert f"version {version!r}" in error.found and "version 1" in error.expected


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"format": "circuit-atlas", "kind": "graph", "version": 1}']
)
def test_a_manifest_that_is_none_is_one_error(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    assert "manifest.json" in damaged(folder).found


@pytest.mark.parametrize("key", ["id", "model", "n_layers", "partial", "scores", "identity", "files", "rows"])
def test_a_manifest_without_a_key_is_one_error(folder: Path, key: str) -> None:
    edit_manifest(folder, lambda m: m.pop(key))
    assert "manifest.json" in damaged(folder).found


def test_a_manifest_with_a_number_json_does_not_know_is_one_error(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"bias_share": 0.1', '"bias_share": NaN'))
    assert "manifest.json" in damaged(folder).found


def test_a_manifest_changed_by_hand_is_one_error(folder: Path) -> None:
    edit_manifest(folder, lambda m: m.update(answer="another"), seal=False)
    assert "its checksum differs" in damaged(folder).found


def test_a_name_that_is_not_the_hash_of_the_identity_is_one_error(folder: Path) -> None:
    edit_manifest(folder, lambda m: m["identity"].update(seed=999))
    assert "not the hash of the identity" in damaged(folder).found
    wrong = folder.parent / ("f" * 64)
    folder.rename(wrong)
    with pytest.raises(ArtefactError, match="not the hash of the identity"):
        read_manifest(Home(folder.parents[3]), folder.name) if folder.exists() else _moved(wrong)


def _moved(folder: Path) -> None:
    target = folder.parents[1] / "ff" / folder.name
    target.parent.mkdir(exist_ok=True)
    folder.rename(target)
    read_manifest(Home(folder.parents[3]), folder.name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "3",
        '{"version": 1}',
        '{"version": 2, "slug": "a", "prompt": "b"}',
        '{"version": 1, "slug": "a", "prompt": "b", "task": 3}',
    ],
)
def test_a_damaged_description_is_one_error(folder: Path, text: str) -> None:
    path = description_file(Home(folder.parents[3]), folder.name)
    path.write_text(text)
    assert str(path) in damaged(folder).found


def test_a_missing_description_is_one_error(folder: Path) -> None:
    path = description_file(Home(folder.parents[3]), folder.name)
    path.unlink()
    assert str(path) in damaged(folder).found


def test_without_check_sizes_are_looked_at_and_content_is_not(folder: Path) -> None:
    data = bytearray((folder / "thumbnails.parquet").read_bytes())
    (folder / "thumbnails.parquet").write_bytes(data)
    read_circuit(Home(folder.parents[3]), folder.name, check=False)
    (folder / "thumbnails.parquet").write_bytes(data[:-1])
    with pytest.raises(ArtefactError):
        read_circuit(Home(folder.parents[3]), folder.name, check=False)


def changed(circuit: Circuit, table: str, column: str, row: int, value: object) -> Circuit:
    record = getattr(circuit, table)
    values = getattr(record, column).copy()
    values[row] = value
    return dataclasses.replace(circuit, **{table: dataclasses.replace(record, **{column: values})})


IMPOSSIBLE = [
    ("edges", "target", 0, 10_000, "edges.target"),
    ("edges", "source", 3, -1, "edges.source"),
    ("edges", "share", 0, 1.5, "edges.share"),
    ("edges", "share", 0, -0.1, "edges.share"),
    ("incoming", "target", 0, 10_000, "incoming.target"),
    ("incoming", "kind", 0, "neuron?", "incoming.kind"),
    ("incoming", "position", 0, 99, "incoming.position"),
    ("nodes", "kind", 1, "thing", "nodes.kind"),
    ("nodes", "position", 1, 99, "nodes.position"),
    ("nodes", "layer", 0, 3, "nodes.layer"),
    ("nodes", "layer", -1, 3, "nodes.layer"),
    ("nodes", "is_answer", 0, True, "nodes.is_answer"),
    ("nodes", "probability", -1, 1.2, "nodes.probability"),
    ("positions", "position", 2, 7, "positions.position"),
    ("positions", "modality", 2, "sound", "positions.modality"),
    ("positions", "image", 2, 4, "positions.image"),
    ("activations", "layer", 0, 77, "activations.layer"),
    ("activations", "position", 0, -2, "activations.position"),
    ("images", "image", 0, 3, "images.image"),
    ("images", "thumbnail", 0, "0" * 64, "images.thumbnail"),
    ("thumbnails", "data", 0, b"other", "thumbnail"),
    ("heat_maps", "thumbnail", 0, "0" * 64, "heat_maps.thumbnail"),
    ("heat_maps", "position", 0, 99, "heat_maps.position"),
    ("heat_maps", "name", 1, "rollout", "heat_maps"),
    ("heat_maps", "values", 0, np.zeros(3, np.float32), "heat map 0"),
    ("heat_maps", "values", 0, np.full(64, np.inf, np.float32), "heat map 0"),
]


@pytest.mark.parametrize(
    ("table", "column", "row", "value", "named"), IMPOSSIBLE, ids=[f"{i[0]}.{i[1]}={str(i[3])[:8]}" for i in IMPOSSIBLE]
)
def test_an_impossible_circuit_is_not_written(
    tmp_path: Path, table: str, column: str, row: int, value: object, named: str
) -> None:
    home = open_home(tmp_path / "h", create=True)
    with pytest.raises(ArtefactError) as caught:
        write_circuit(home, changed(make_circuit(), table, column, row, value))
    assert named in caught.value.found and caught.value.expected
    assert graph_ids(home) == [] and not list(home.artefacts.rglob("*.json"))


def test_an_edge_that_points_nowhere_is_found_on_reading_too(folder: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    table = pq.read_table(folder / "edges.parquet")
    target = table["target"].to_pylist()
    target[0] = 10_000
    pq.write_table(table.set_column(1, "target", pa.array(target, pa.int32())), tmp_path / "changed")
    replace_file(folder, "edges.parquet", (tmp_path / "changed").read_bytes())
    error = damaged(folder)
    assert "edges.target is 10000 in row 0" in error.found and str(folder) in error.found


def test_an_id_that_is_not_the_hash_of_the_identity_is_refused(tmp_path: Path) -> None:
    circuit = make_circuit()
    home = open_home(tmp_path / "h", create=True)
    for wrong in (dataclasses.replace(circuit, id="0" * 64), dataclasses.replace(circuit, identity={"a": 1})):
        with pytest.raises(ArtefactError, match="is not the hash of its identity"):
            write_circuit(home, wrong)


def test_vectors_must_cover_the_features_kept(tmp_path: Path) -> None:
    circuit = make_circuit()
    assert circuit.vectors is not None
    short = dataclasses.replace(
        circuit.vectors,
        **{name: getattr(circuit.vectors, name)[1:] for name in ("layer", "index", "decoder", "encoder")},
    )
    with pytest.raises(ArtefactError, match="without a row in vectors"):
        write_circuit(open_home(tmp_path / "h", create=True), dataclasses.replace(circuit, vectors=short))


@pytest.mark.parametrize(
    "broken",
    [
        {"scores": {"replacement": float("nan")}},
        {"provenance": {"when": object()}},
        {"provenance": {"seconds": float("inf")}},
        {"foreign": {"x": float("nan")}},
    ],
)
def test_what_json_cannot_say_is_refused(tmp_path: Path, broken: dict[str, Any]) -> None:
    home = open_home(tmp_path / "h", create=True)
    with pytest.raises(ArtefactError):
        write_circuit(home, dataclasses.replace(make_circuit(), **broken))
    assert graph_ids(home) == [] and list(home.tmp.iterdir()) == []
