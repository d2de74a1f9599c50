"""The index: exact cosines, filters, changes, and files that do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest

from atlas.errors import StoreError
from atlas.ids import feature_number
from atlas.stores import vectors as module
from atlas.stores.vector_files import partition_folder
from atlas.stores.vector_update import update_index
from atlas.stores.vectors import VectorIndex, factory_for, open_index, open_indexes, unit

WIDTH = 24


def features(n: int, n_layers: int = 4, sets: tuple[int, ...] = (1,)) -> np.ndarray:
    return np.sort(np.array([feature_number(sets[i % len(sets)], i % n_layers, i) for i in range(n)], dtype=np.int64))


def build(root: Path, fids: np.ndarray, seed: int = 0, zero: int | None = None) -> tuple[VectorIndex, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((len(fids), WIDTH)).astype(np.float32)
    rows[1::7] = rows[:-1:7][: len(rows[1::7])] * 3 + 0.05 * rows[1::7]  # near-duplicates
    if zero is not None:
        rows[zero] = 0
    rows = unit(rows)
    update_index(root, "model", WIDTH, fids, rows, fids[:0])
    return open_index(partition_folder(root, "model", WIDTH)), rows


def brute(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    return (rows.astype(np.float64) @ unit(query[None])[0].astype(np.float64)).astype(np.float32)


@pytest.fixture(params=["flat", "inverted"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every law holds for both forms of the index."""
    if request.param == "inverted":
        monkeypatch.setattr(module, "FLAT_BELOW", 300)
    return str(request.param)


def test_neighbours_and_their_cosines_are_exact(tmp_path: Path, form: str) -> None:
    fids = features(600)
    index, rows = build(tmp_path, fids)
    assert ("Flat" in index.manifest.factory) == (form == "flat") == index.exact
    queries = np.random.default_rng(1).standard_normal((20, WIDTH)).astype(np.float32)
    near = index.search(queries, 5)
    for row, query in enumerate(queries):
        cosine = brute(rows, query)
        best = np.argsort(-cosine)[:5]
        assert near.fids[row].tolist() == fids[best].tolist()
        assert near.cosines[row] == pytest.approx(cosine[best], abs=1e-6)


def test_a_search_keeps_to_layers_and_set(tmp_path: Path, form: str) -> None:
    fids = features(600, sets=(1, 2))
    index, rows = build(tmp_path, fids)
    for layers, number in (((1, 2), None), (None, 2), ((0, 2), 1), ((3, 3), 2)):
        near = index.search(rows[:5], 8, layers, number)
        keep = np.ones(len(fids), dtype=bool)
        if layers is not None:
            keep &= (fids >> 48 >= layers[0]) & (fids >> 48 <= layers[1])
        if number is not None:
            keep &= (fids >> 32 & 0xFFFF) == number
        for at in range(5):
            cosine = np.where(keep, brute(rows, rows[at]), -2)
            assert near.fids[at].tolist() == fids[np.lexsort((fids, -cosine))[:8]].tolist()
    assert (index.search(rows[:1], 3, (9, 9)).fids == -1).all()
    assert (index.search(rows[:1], 3, None, 7).fids == -1).all()


def test_pairs_are_all_there_and_exact(tmp_path: Path, form: str) -> None:
    fids = features(600)
    index, rows = build(tmp_path, fids)
    cosine = rows.astype(np.float64) @ rows.T.astype(np.float64)
    a, b = np.nonzero(np.triu(cosine >= 0.9, 1))
    pairs = index.all_pairs(0.9)
    assert len(pairs.a) > 50
    assert list(zip(pairs.a, pairs.b, strict=True)) == list(zip(fids[a], fids[b], strict=True))
    assert pairs.cosine == pytest.approx(cosine[a, b], abs=1e-6)
    some = fids[::5]
    touching = index.all_pairs(0.9, some)
    keep = np.isin(pairs.a, some) | np.isin(pairs.b, some)
    assert touching.a.tolist() == pairs.a[keep].tolist() and touching.b.tolist() == pairs.b[keep].tolist()
    assert touching.cosine.tolist() == pairs.cosine[keep].tolist(), "to the bit, whatever the batch"


def test_a_feature_that_writes_nothing_is_nobodys_neighbour(tmp_path: Path, form: str) -> None:
    fids = features(400)
    index, rows = build(tmp_path, fids, zero=5)
    assert not np.isin(fids[5], index.search(rows, 399).fids)
    assert (index.search(rows[5:6], 3).fids == -1).all()
    pairs = index.all_pairs(0.01)
    assert fids[5] not in pairs.a and fids[5] not in pairs.b


def test_changes_are_what_a_fresh_build_would_be(tmp_path: Path, form: str) -> None:
    fids = features(900)
    _, rows = build(tmp_path / "whole", fids)
    root = tmp_path / "steps"
    nothing = fids[:0], rows[:0]
    update_index(root, "model", WIDTH, fids[:500], rows[:500], fids[:0])
    update_index(root, "model", WIDTH, fids[400:], rows[400:], fids[:0])  # overlaps: what is there stays
    update_index(root, "model", WIDTH, *nothing, fids[100:700])
    update_index(root, "model", WIDTH, fids[100:650], rows[100:650], fids[:0])
    index = open_index(partition_folder(root, "model", WIDTH))
    kept = np.concatenate([fids[:650], fids[700:]])
    assert np.sort(index.fids).tolist() == kept.tolist()
    assert np.array_equal(index.rows(kept), np.concatenate([rows[:650], rows[700:]]))
    assert index.computed_fingerprint() == index.manifest.fingerprint
    near = index.search(rows[:30], 3)
    assert near.fids[:, 0].tolist() == fids[:30].tolist()
    before = index.manifest
    update_index(root, "model", WIDTH, *nothing, fids[:0])
    assert open_index(index.folder).manifest == before, "nothing to do writes nothing"
    update_index(root, "model", WIDTH, *nothing, kept)
    assert open_indexes(root) == []


def test_an_inverted_index_is_trained_again_when_it_has_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLAT_BELOW", 300)
    fids = features(1000)
    rows = unit(np.random.default_rng(0).standard_normal((1000, WIDTH)))
    trained = []
    for start, end in ((0, 200), (200, 400), (400, 700), (700, 1000)):
        update_index(tmp_path, "model", WIDTH, fids[start:end], rows[start:end], fids[:0])
        trained.append(open_indexes(tmp_path)[0].manifest.trained_on)
    assert trained == [200, 400, 400, 1000]


def test_the_form_is_chosen_by_size() -> None:
    assert factory_for(19_999) == "IDMap2,Flat" and factory_for(20_000) == "IVF256,SQ8"
    assert factory_for(200_000) == "IVF1024,SQ8"


def test_models_and_widths_are_kept_apart(tmp_path: Path) -> None:
    fids = features(10)
    for model, width in (("a", 8), ("a", 16), ("b", 8), ("org/a", 8)):
        update_index(tmp_path, model, width, fids, np.eye(10, width, dtype=np.float32), fids[:0])
    assert {(i.manifest.model, i.manifest.width) for i in open_indexes(tmp_path)} == {
        ("a", 8),
        ("a", 16),
        ("b", 8),
        ("org/a", 8),
    }


@pytest.mark.parametrize(
    "damage", ["no ids", "ids cut", "no index", "index cut", "other index", "rows cut", "manifest", "version", "count"]
)
def test_files_that_do_not_fit_are_refused_with_what_to_do(tmp_path: Path, damage: str) -> None:
    fids = features(50)
    index, rows = build(tmp_path, fids)
    folder, manifest = index.folder, index.manifest
    paths = {name: folder / getattr(manifest, name) for name in ("ids", "index", "rows")}
    record = json.loads((folder / "manifest.json").read_text())
    if damage == "other index":
        update_index(tmp_path, "model", WIDTH, fids[:0], rows[:0], fids[:10])
        other = open_index(folder)
        (folder / other.manifest.index).write_bytes(paths["index"].read_bytes())
    elif damage == "manifest":
        (folder / "manifest.json").write_text("{")
    elif damage in {"version", "count"}:
        (folder / "manifest.json").write_text(json.dumps(record | {damage: 99}))
    elif damage.startswith("no"):
        paths[damage[3:]].unlink()
    else:
        path = paths[damage.split(maxsplit=1)[0]]
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(StoreError, match="does not fit its manifest") as caught:
        open_index(folder).search(rows[:1], 3)
    assert "atlas rebuild" in caught.value.do


def test_a_reader_of_the_state_before_goes_on_reading(tmp_path: Path) -> None:
    fids = features(300)
    rows = unit(np.random.default_rng(0).standard_normal((300, WIDTH)))
    update_index(tmp_path, "model", WIDTH, fids[:200], rows[:200], fids[:0])
    before = open_indexes(tmp_path)[0]
    update_index(tmp_path, "model", WIDTH, fids[200:], rows[200:], fids[:50])
    assert len(before) == 200 and before.search(rows[:3], 1).fids[:, 0].tolist() == fids[:3].tolist()
    assert np.array_equal(before.rows(fids[:200]), rows[:200])


def test_what_a_killed_writer_appended_does_not_count(tmp_path: Path) -> None:
    fids = features(300)
    index, rows = build(tmp_path, fids[:200])
    with (index.folder / index.manifest.rows).open("ab") as file:
        file.write(b"half a row")
    (index.folder / "index-99.faiss").write_bytes(b"half an index")
    more = unit(np.random.default_rng(3).standard_normal((100, WIDTH)))
    update_index(tmp_path, "model", WIDTH, fids[200:], more, fids[:0])
    after = open_index(index.folder)
    assert np.array_equal(after.rows(fids), np.concatenate([rows, more]))
    assert after.computed_fingerprint() == after.manifest.fingerprint
    assert not (index.folder / "index-99.faiss").exists()
