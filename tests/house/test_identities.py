"""Identities: texts and numbers come back as they went, no two things share one, and order follows the layer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.errors import InputError
from atlas.ids import (
    KINDS,
    FeatureId,
    NodeId,
    canonical_json,
    content_hash,
    default_slug,
    feature_number,
    layer_range,
    node_number,
    split_feature_number,
)

layers, indices, positions = st.integers(0, 2**15 - 1), st.integers(0, 2**32 - 1), st.integers(0, 10**6)
nodes = st.builds(NodeId, st.sampled_from(KINDS), st.integers(-1, 200), indices, positions)
features = st.tuples(st.integers(0, 2**16 - 1), layers, indices)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(nodes)
def test_a_node_id_comes_back_from_its_text(node: NodeId) -> None:
    assert NodeId.parse(str(node)) == node


@given(nodes, nodes)
def test_two_nodes_never_share_a_text(one: NodeId, other: NodeId) -> None:
    assert (str(one) == str(other)) == (one == other)


def test_an_error_is_not_the_feature_of_its_number() -> None:
    assert str(NodeId("error", 3, 0, 5)) != str(NodeId("feature", 3, 0, 5))


@given(st.text(max_size=20) | st.from_regex(r"(feature|token|nothing):-?\d+/\d+@\d+", fullmatch=True))
def test_any_text_is_the_one_text_of_a_node_or_one_error(text: str) -> None:
    try:
        node = NodeId.parse(text)
    except InputError:
        return
    assert str(node) == text


@given(layers, indices)
def test_a_feature_comes_back_from_its_text(layer: int, index: int) -> None:
    assert FeatureId.parse(str(FeatureId(layer, index))) == FeatureId(layer, index)


@pytest.mark.parametrize("text", ["", "3", "3/", "/4", "3/4/5", "-1/4", "a/b"])
def test_what_is_no_feature_is_one_error(text: str) -> None:
    with pytest.raises(InputError, match="is no feature"):
        FeatureId.parse(text)


@given(features)
def test_a_feature_number_comes_back_and_fits_64_bits(feature: tuple[int, int, int]) -> None:
    number = feature_number(*feature)
    assert split_feature_number(number) == feature
    assert 0 <= number < 2**63


@given(features, layers, layers)
def test_a_layer_filter_is_a_range_of_numbers(feature: tuple[int, int, int], one: int, other: int) -> None:
    first, last = sorted((one, other))
    low, high = layer_range(first, last)
    assert (low <= feature_number(*feature) < high) == (first <= feature[1] <= last)


@given(st.integers(0, 2**39 - 1), st.integers(0, 2**24 - 1), st.integers(0, 2**39 - 1), st.integers(0, 2**24 - 1))
def test_two_nodes_never_share_a_number(graph: int, ordinal: int, other_graph: int, other_ordinal: int) -> None:
    same = node_number(graph, ordinal) == node_number(other_graph, other_ordinal)
    assert same == ((graph, ordinal) == (other_graph, other_ordinal))


@pytest.mark.parametrize(
    "make",
    [
        lambda: node_number(0, 2**24),
        lambda: node_number(-1, 0),
        lambda: feature_number(2**16, 0, 0),
        lambda: feature_number(0, 2**15, 0),
        lambda: feature_number(0, 0, 2**32),
    ],
)
def test_a_number_that_does_not_fit_is_refused(make) -> None:
    with pytest.raises(InputError, match="a number from 0 to"):
        make()


@given(values)
def test_canonical_json_is_one_text_a_value(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


def test_the_order_of_keys_does_not_count_and_their_values_do() -> None:
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash({"a": 1, "b": 2}) != content_hash({"a": 2, "b": 1})
    assert content_hash({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes"])
def test_what_json_cannot_say_has_no_identity(value: object) -> None:
    with pytest.raises(InputError, match="canonical form"):
        canonical_json(value)


@given(st.text(max_size=60))
def test_a_slug_is_of_plain_characters(prompt: str) -> None:
    slug = default_slug(prompt, "abcdef0123")
    assert slug.endswith("-abcdef")
    assert all(character.isascii() and (character.isalnum() or character == "-") for character in slug)
