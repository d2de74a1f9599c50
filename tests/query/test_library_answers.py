"""Each question's text says what plain Python says, over small atlases of every sort."""

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from query import answers
from query.library import question
from tests.query import plain
from tests.query.plain import Plain
from tests.query.world import Memory, atlases

SMALL = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MODALITIES = st.sampled_from([None, "image", "text"])
TASKS = st.sampled_from([None, "sum", "colour"])


def ask(store: Memory, name: str, **given: Any) -> list[dict[str, Any]]:
    return answers.run(store, answers.bind(store, question(name), {"limit": 100_000} | given)).to_pylist()


def same(found: list[dict[str, Any]], wanted: list[dict[str, Any]], *key: str) -> None:
    """The same rows, in any order, in all columns that `wanted` has; numbers within 1e-6."""
    assert len(found) == len(wanted)
    left = {tuple(str(row[k]) for k in key): row for row in found}
    right = {tuple(str(row[k]) for k in key): row for row in wanted}
    assert left.keys() == right.keys()
    assert len(right) == len(wanted), "the key must tell rows apart"
    for name, row in right.items():
        for column, value in row.items():
            expected = pytest.approx(value, rel=1e-5, abs=1e-9) if isinstance(value, float) else value
            assert left[name][column] == expected, (name, column)


def falling(values: list[float]) -> bool:
    return all(a >= b - 1e-9 for a, b in itertools.pairwise(values))


def with_set_names(store: Memory, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {number: name for name, number in store.sets.items()}
    return [row | {"set_name": names[row["set"]]} for row in rows]


@SMALL
@given(atlases(), TASKS, MODALITIES)
def test_feature_occurrences_are_the_nodes_of_that_feature(circuits, task, modality):
    store, graphs = Memory(circuits), [Plain(c) for c in circuits]
    feature, set_name = next(iter(graphs[0].features())), circuits[0].transcoders

    found = ask(store, "feature-occurrences", feature=feature, set=set_name, task=task, modality=modality)

    same(found, plain.feature_occurrences(graphs, feature, set_name, task, modality), "graph", "position")
    assert falling([-row["cumulative"] for row in found])


@SMALL
@given(atlases(), TASKS, st.sampled_from([None, "seven"]), MODALITIES, st.integers(1, 3))
def test_recurring_features_are_counted_and_weighted_by_rarity(circuits, task, concept, modality, least):
    store = Memory(circuits)

    found = ask(store, "recurring-features", task=task, concept=concept, modality=modality, min_graphs=least)

    wanted = plain.recurring_features([Plain(c) for c in circuits], task, concept, modality, least)
    same(with_set_names(store, found), wanted, "set_name", "feature")
    assert falling([row["score"] for row in found])


@SMALL
@given(atlases(least=2), TASKS, st.integers(1, 2), st.sampled_from([0.0, 0.05]))
def test_recurring_edges_have_one_sign_in_enough_graphs(circuits, task, least, share):
    store = Memory(circuits)

    found = ask(store, "recurring-edges", task=task, min_graphs=least, min_share=share)

    wanted = plain.recurring_edges([Plain(c) for c in circuits], task, least, share)
    same(with_set_names(store, found), wanted, "set_name", "source", "target", "sign")
    assert falling([row["graphs"] for row in found])


@SMALL
@given(atlases(least=2))
def test_shared_features_are_those_in_both(circuits):
    circuits = [c for c in circuits if c.transcoders == circuits[0].transcoders]
    store, graphs = Memory(circuits), [Plain(c) for c in circuits]

    found = ask(store, "shared-features", a=circuits[0].id, b=circuits[-1].id)

    same(found, plain.shared_features(graphs[0], graphs[-1]), "feature")
    assert falling([min(row["share_a"], row["share_b"]) for row in found])


@SMALL
@given(atlases(most=2), MODALITIES)
def test_image_to_logit_multiplies_the_two_shares(circuits, at):
    found = ask(Memory(circuits), "image-to-logit", graph=circuits[0].id, at=at)

    same(found, plain.image_to_logit(Plain(circuits[0]), at), "node")
    assert falling([row["carried"] for row in found])


@SMALL
@given(atlases())
def test_modality_by_layer_splits_all_the_influence(circuits):
    store, graphs = Memory(circuits), [Plain(c) for c in circuits]
    set_name = circuits[0].transcoders

    everything = ask(store, "modality-by-layer", set=set_name)
    one = ask(store, "modality-by-layer", graph=circuits[0].id)

    same(everything, plain.modality_by_layer(graphs, set_name), "layer")
    same(one, plain.modality_by_layer(graphs[:1], set_name), "layer")
    assert sum(row["image"] + row["text"] for row in everything) == pytest.approx(1)


@SMALL
@given(
    atlases(most=1),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    st.sampled_from(["input", "any"]),
    st.sampled_from([{}, {"row": 0, "col": 1}, {"position": 2}, {"modality": "text"}]),
)
def test_strongest_paths_are_all_paths_above_the_floor(circuits, depth, floor, start, where):
    given = {"graph": circuits[0].id, "depth": depth, "floor": floor, "start": start} | where

    store, wanted = Memory(circuits), plain.strongest_paths(Plain(circuits[0]), depth, floor, start, **where)

    found = ask(store, "strongest-paths", **given)
    few = ask(store, "strongest-paths", limit=3, **given)

    same(found, wanted, "nodes")
    assert falling([row["strength"] for row in found])
    best = sorted((row["strength"] for row in wanted), reverse=True)[:3]
    assert [row["strength"] for row in few] == pytest.approx(best)


@SMALL
@given(atlases(least=2))
def test_graph_similarity_is_jaccard_over_distinct_features(circuits):
    store, graphs = Memory(circuits), {c.id: Plain(c) for c in circuits}
    like = [c.id for c in circuits if c.transcoders == circuits[0].transcoders]

    pairs = ask(store, "graph-similarity")
    against = ask(store, "graph-similarity", a=like[0])
    two = ask(store, "graph-similarity", a=like[-1], b=like[0])

    same(
        pairs,
        [
            {"a": a, "b": b} | plain.graph_similarity(graphs[a], graphs[b])
            for i, a in enumerate(graphs)
            for b in list(graphs)[i + 1 :]
            if graphs[a].circuit.transcoders == graphs[b].circuit.transcoders
        ],
        "a",
        "b",
    )
    same(against, [{"b": b} | plain.graph_similarity(graphs[like[0]], graphs[b]) for b in like[1:]], "b")
    same(two, [{"a": like[-1], "b": like[0]} | plain.graph_similarity(graphs[like[-1]], graphs[like[0]])], "a", "b")
    assert falling([row["jaccard"] for row in pairs])
