"""What is written is what is read: to the bit, for circuits of every shape, and nothing changes the second time."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.artefact import format as names
from atlas.artefact.arrow import from_arrow, to_arrow
from atlas.artefact.aside import aside, sweep
from atlas.artefact.read import (
    artefact_checksum,
    graph_ids,
    read_circuit,
    read_description,
    read_manifest,
    read_table,
    read_vectors,
)
from atlas.artefact.write import write_circuit, write_description
from atlas.config import Home, open_home
from atlas.domain.circuit import Circuit, Description, Edges, Nodes
from atlas.domain.columns import Columns, column
from atlas.errors import ArtefactError, NotFoundError
from tests.factory import make_circuit


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home", create=True)


def assert_equal(a: Circuit, b: Circuit) -> None:
    """Every field, to the bit; NaN equals NaN."""
    for field in dataclasses.fields(Circuit):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, Columns):
            assert_columns_equal(left, right)
        elif field.name == "vectors" and left is not None:
            for part in dataclasses.fields(left):
                x, y = getattr(left, part.name), getattr(right, part.name)
                assert (x is None and y is None) or (x.dtype == y.dtype and np.array_equal(x, y))
        else:
            assert left == right, field.name


def assert_columns_equal(a: Columns, b: Columns) -> None:
    assert type(a) is type(b)
    for spec in a.columns():
        left, right = getattr(a, spec.name), getattr(b, spec.name)
        assert left.dtype == right.dtype
        if spec.type == "floats":
            assert len(left) == len(right)
            assert all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(left, right, strict=True))
        elif left.dtype == object:
            assert left.tolist() == right.tolist()
        else:
            assert np.array_equal(left, right, equal_nan=left.dtype.kind == "f"), spec.name


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    n_features=st.integers(0, 60),
    with_images=st.booleans(),
    partial=st.booleans(),
    labels=st.booleans(),
    n_layers=st.integers(1, 6),
    n_text=st.integers(1, 12),
)
def test_a_circuit_comes_back_as_it_was(tmp_path_factory, **arguments) -> None:
    home = open_home(tmp_path_factory.mktemp("home") / "h", create=True)
    circuit = make_circuit(**arguments)
    write_circuit(home, circuit)
    assert_equal(circuit, read_circuit(home, circuit.id))


@dataclasses.dataclass(frozen=True)
class Everything(Columns):
    """One column of each type."""

    small: np.ndarray = column("int16", "")
    number: np.ndarray = column("int64", "", nullable=True)
    real: np.ndarray = column("float64", "", nullable=True)
    single: np.ndarray = column("float32", "")
    flag: np.ndarray = column("bool", "")
    text: np.ndarray = column("text", "", nullable=True)
    data: np.ndarray = column("bytes", "")
    values: np.ndarray = column("floats", "")


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)  # no lone surrogates: they are not Unicode text
_ROW = st.tuples(
    st.integers(-(2**15), 2**15 - 1),
    st.integers(-1, 2**62),
    st.floats(allow_infinity=False),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none() | _TEXT,
    st.binary(max_size=8),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=4),
)


@given(st.lists(_ROW, max_size=8))
def test_columns_of_every_type_survive_arrow(rows) -> None:
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    record = Everything(**dict(zip([c.name for c in Everything.columns()], map(list, columns), strict=True)))
    assert_columns_equal(record, from_arrow(Everything, to_arrow(record), "here"))


def test_missing_values_are_nulls_on_disk() -> None:
    nodes = make_circuit().nodes
    table = to_arrow(nodes)
    assert table["activation"].null_count == int(np.isnan(nodes.activation).sum()) > 0
    assert table["label"].null_count == len(nodes)
    assert not table.schema.field("kind").nullable
    assert to_arrow(make_circuit().positions)["image"].null_count == 9


def test_text_that_is_not_unicode_is_one_error(home: Home) -> None:
    circuit = make_circuit()
    texts = circuit.positions.text.copy()
    texts[3] = "\ud800"
    broken = dataclasses.replace(circuit, positions=dataclasses.replace(circuit.positions, text=texts))
    with pytest.raises(ArtefactError, match=r"Positions\.text cannot be written"):
        write_circuit(home, broken)
    assert graph_ids(home) == [] and list(home.tmp.iterdir()) == []


def test_writing_twice_changes_nothing(home: Home) -> None:
    circuit = make_circuit()
    folder = write_circuit(home, circuit)
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in home.artefacts.rglob("*") if path.is_file()
    }
    other = dataclasses.replace(circuit, description=Description("other", "other"), provenance={"device": "other"})
    assert write_circuit(home, other) == folder
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in home.artefacts.rglob("*") if path.is_file()}
    assert before == after
    assert list(home.tmp.iterdir()) == []


def test_a_description_is_replaced_beside_the_graph(home: Home) -> None:
    circuit = make_circuit()
    folder = write_circuit(home, circuit)
    manifest, checksum = (folder / "manifest.json").read_bytes(), artefact_checksum(home, circuit.id)
    changed = Description("new", "prompt", concept="mars", extra={"ü": [1, None]})
    write_description(home, circuit.id, changed)
    assert read_description(home, circuit.id) == changed == read_circuit(home, circuit.id).description
    assert (folder / "manifest.json").read_bytes() == manifest
    assert artefact_checksum(home, circuit.id) != checksum


def test_one_table_is_read_without_the_rest(home: Home) -> None:
    circuit = make_circuit()
    folder = write_circuit(home, circuit)
    for path in folder.iterdir():
        if path.name not in {"manifest.json", "edges.parquet", "vectors.safetensors"}:
            path.unlink()
    assert_columns_equal(read_table(home, circuit.id, Edges), circuit.edges)
    vectors = read_vectors(home, circuit.id)
    assert vectors is not None and circuit.vectors is not None
    assert np.array_equal(vectors.decoder, circuit.vectors.decoder)
    assert read_manifest(home, circuit.id).rows["nodes"] == len(circuit.nodes)
    with pytest.raises(ArtefactError, match=r"nodes\.parquet"):
        read_table(home, circuit.id, Nodes)


def test_graphs_are_listed_oldest_first(home: Home) -> None:
    circuits = [make_circuit(seed) for seed in range(4)]
    for at, circuit in enumerate(circuits):
        os.utime(write_circuit(home, circuit) / "manifest.json", ns=(at, at))
    assert graph_ids(home) == [circuit.id for circuit in circuits]


def test_an_unknown_graph_is_not_found(home: Home) -> None:
    with pytest.raises(NotFoundError, match="no graph 00000000"):
        read_circuit(home, "0" * 64)


@pytest.mark.parametrize("text", ["", "abc", "../" * 22, "G" * 64, "a" * 63 + "/"])
def test_what_is_no_id_never_becomes_a_path(home: Home, text: str) -> None:
    with pytest.raises(ArtefactError, match="is no graph id"):
        read_circuit(home, text)


_WRITER = """
import sys
from atlas.config import open_home
from atlas.artefact.write import write_circuit
from tests.factory import make_circuit
home = open_home(sys.argv[1])
for seed in range(6):
    write_circuit(home, make_circuit(seed))
"""


def test_writers_of_the_same_graphs_end_with_one_of_each(home: Home) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(home.root)]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert sorted(graph_ids(home)) == sorted(make_circuit(seed).id for seed in range(6))
    for seed in range(6):
        assert_equal(make_circuit(seed), read_circuit(home, make_circuit(seed).id))
    assert list(home.tmp.iterdir()) == []


def test_the_loser_of_a_race_leaves_the_winner_alone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = make_circuit()
    folder = write_circuit(home, circuit)
    inode = folder.stat().st_ino
    real = Path.exists
    # as if the other writer had come in after the look and before the rename
    seen: list[Path] = []

    def late(self: Path) -> bool:
        if self == folder and not seen:
            seen.append(self)
            return False
        return real(self)

    monkeypatch.setattr(Path, "exists", late)
    assert write_circuit(home, circuit) == folder
    assert seen and folder.stat().st_ino == inode and list(home.tmp.iterdir()) == []


def test_only_things_of_dead_processes_are_swept(home: Home) -> None:
    mine = aside(home, "graph")
    mine.mkdir()
    dead = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from atlas.config import Home; from pathlib import Path;"
            " from atlas.artefact.aside import aside;"
            "p = aside(Home(Path(sys.argv[1])), 'graph'); p.mkdir(); (p / 'x').touch(); print(p)",
            str(home.root),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    elsewhere = home.tmp / "graph.other-host.1.abcdef01"
    elsewhere.mkdir()
    assert sweep(home) == [Path(dead)]
    assert mine.exists() and elsewhere.exists()
    os.utime(elsewhere, (0, 0))
    assert sweep(home) == [elsewhere]


def test_the_specification_shows_every_column() -> None:
    page = (Path(__file__).parents[2] / "docs" / "artefact-format.md").read_text()
    assert names.with_tables(page) == page, "run `python docs/generate.py`"
    for name, record in names.TABLES.items():
        assert f"<!-- columns of {name} -->" in page
        assert all(f"| `{spec.name}` |" in page for spec in record.columns())
