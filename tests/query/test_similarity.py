"""Neighbours and near-duplicates are those of the written vectors, whatever the index says first."""

from itertools import combinations

import numpy as np
import pytest

from atlas.errors import NotFoundError, QuestionError
from query.names import find_feature
from query.similarity import duplicates, similar


@pytest.fixture(scope="module")
def unit_vectors(circuits):
    """(set, layer/index) -> unit vector of what it writes, from the circuits themselves."""
    found = {}
    for circuit in circuits:
        if circuit.vectors is not None:
            written = circuit.vectors.written().astype(np.float64)
            for layer, index, row in zip(circuit.vectors.layer, circuit.vectors.index, written, strict=True):
                found[circuit.transcoders, f"{layer}/{index}"] = row / np.linalg.norm(row)
    return found


@pytest.fixture(scope="module")
def on_image(circuits):
    """(set, layer/index) -> share of its unpruned occurrences on image positions."""
    fired = {}
    for circuit in circuits:
        active = circuit.activations
        for layer, index, position in zip(active.layer, active.index, active.position, strict=True):
            counts = fired.setdefault((circuit.transcoders, f"{layer}/{index}"), [])
            counts.append(circuit.positions.modality[position] == "image")
    return {key: sum(flags) / len(flags) for key, flags in fired.items()}


def ranked(unit_vectors, key, keep=lambda other: True):
    others = [other for other in unit_vectors if other != key and keep(other)]
    return sorted(((float(unit_vectors[key] @ unit_vectors[other]), other) for other in others), reverse=True)


def keys(table, sets=("", "set-a", "set-b")):
    return [(sets[row["set"]], row["feature"]) for row in table.to_pylist()]


def layer(key):
    return int(key[1].split("/")[0])


def test_neighbours_come_from_all_sets_of_the_model(home, unit_vectors, on_image):
    names = [name for _, name in on_image]
    key = next(key for key in sorted(unit_vectors) if names.count(key[1]) == 1)

    found = similar(home, key[1], k=30)

    assert keys(found) == [other for _, other in ranked(unit_vectors, key)[:30]]
    assert set(found["set"].to_pylist()) == {1, 2}


@pytest.mark.parametrize(
    ("given", "keep"),
    [
        ({}, lambda key: True),
        ({"layers": "0..1"}, lambda key: layer(key) <= 1),
        ({"layers": 2}, lambda key: layer(key) == 2),
        ({"layers": (1, 2)}, lambda key: layer(key) >= 1),
        ({"same_layer": True}, lambda key: layer(key) == 1),
    ],
)
def test_neighbours_keep_to_the_filters(home, unit_vectors, given, keep):
    wanted = ranked(unit_vectors, ("set-a", "1/0"), lambda key: key[0] == "set-a" and keep(key))[:5]

    found = similar(home, "1/0", k=5, set="set-a", **given)

    assert keys(found) == [other for _, other in wanted]
    assert found["cosine"].to_pylist() == pytest.approx([cosine for cosine, _ in wanted], abs=1e-5)


@pytest.mark.parametrize("k", [3, 20, 1000])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_modality_is_decided_by_unpruned_activations(home, unit_vectors, on_image, modality, k):
    def keep(key):
        return key[0] == "set-a" and (on_image[key] > 0.5) == (modality == "image")

    wanted = ranked(unit_vectors, ("set-a", "1/0"), keep)[:k]

    found = similar(home, "1/0", k=k, set="set-a", modality=modality)

    assert keys(found) == [other for _, other in wanted]
    assert found["image_share"].to_pylist() == pytest.approx([on_image[other] for _, other in wanted])


def test_a_visual_neighbour_is_found_however_far_it_is(home, unit_vectors, on_image):
    for key in [key for key in sorted(unit_vectors) if key[0] == "set-a"][::3]:
        wanted = ranked(unit_vectors, key, lambda other: other[0] == "set-a" and on_image[other] > 0.5)[0]

        assert keys(similar(home, key[1], k=1, set="set-a", modality="image")) == [wanted[1]]


def test_all_neighbours_there_are_come_when_more_are_asked_for(home, unit_vectors):
    of_set = [key for key in unit_vectors if key[0] == "set-a"]

    assert similar(home, "1/0", k=10_000, set="set-a").num_rows == len(of_set) - 1


def test_what_has_no_vector_says_so(home):
    with pytest.raises(NotFoundError, match="no vector"):
        similar(home, "0/0", set="set-c")
    with pytest.raises(NotFoundError, match="99/1"):
        similar(home, "99/1")


@pytest.mark.parametrize("wrong", [{"k": 0}, {"layers": "2..1"}, {"layers": "a"}, {"modality": "sound"}])
def test_wrong_filters_are_refused(home, wrong):
    with pytest.raises(QuestionError):
        similar(home, "1/0", **wrong)


@pytest.mark.parametrize("cosine", [0.99, 0.9, 0.4])  # 0.4 lies below what is stored
def test_duplicates_are_all_pairs_at_the_cosine(home, unit_vectors, cosine):
    wanted = {
        frozenset((a, b)): float(unit_vectors[a] @ unit_vectors[b])
        for a, b in combinations(unit_vectors, 2)
        if unit_vectors[a] @ unit_vectors[b] >= cosine
    }

    found = duplicates(home, cosine, limit=100_000).to_pylist()

    sets = ("", "set-a", "set-b")
    pairs = {frozenset(((sets[r["set_a"]], r["feature_a"]), (sets[r["set_b"]], r["feature_b"]))): r for r in found}
    assert pairs.keys() == wanted.keys()
    assert len(wanted) > 0
    assert all(pairs[pair]["cosine"] == pytest.approx(value, abs=1e-5) for pair, value in wanted.items())
    assert [r["cosine"] for r in found] == sorted((r["cosine"] for r in found), reverse=True)


def test_duplicates_keep_to_the_filters(home, on_image):
    everything = duplicates(home, 0.4, limit=100_000).to_pylist()

    visual = duplicates(home, 0.4, modality="image", limit=100_000).to_pylist()
    within = duplicates(home, 0.4, layer=1, set="set-b", limit=100_000).to_pylist()

    sets = ("", "set-a", "set-b")
    assert visual == [
        row
        for row in everything
        if all(on_image[sets[row[f"set_{side}"]], row[f"feature_{side}"]] > 0.5 for side in "ab")
    ]
    assert within == [
        row
        for row in everything
        if all(row[f"set_{side}"] == 2 and row[f"feature_{side}"].startswith("1/") for side in "ab")
    ]
    assert visual
    assert within
    assert duplicates(home, 0.4, limit=3).to_pylist() == everything[:3]


def test_duplicates_say_how_often_both_are_kept_together(home, circuits):
    sets = ("", "set-a", "set-b")

    for row in duplicates(home, 0.9).to_pylist():
        held = [
            {side for side in "ab" if kept(circuit, sets[row[f"set_{side}"]], row[f"feature_{side}"])}
            for circuit in circuits
        ]
        assert row["together"] == held.count({"a", "b"})
        assert row["graphs_a"] == sum("a" in sides for sides in held)


@pytest.mark.parametrize("cosine", [0, -0.1, 1.1])
def test_a_cosine_out_of_bounds_is_refused(home, cosine):
    with pytest.raises(QuestionError, match="cosine"):
        duplicates(home, cosine)


def kept(circuit, set_name, feature):
    at, index = map(int, feature.split("/"))
    nodes = circuit.nodes
    here = (nodes.kind == "feature") & (nodes.layer == at) & (nodes.index == index)
    return circuit.transcoders == set_name and bool(here.any())


def test_find_feature_speaks_of_a_home(home):
    assert find_feature(home, "1/0", "set-a").name == "1/0"
