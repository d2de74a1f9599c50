"""The graph of groups adds up to the graph of nodes; scores of a circuit are the house's, with all else an error."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atlas.domain.circuit import Circuit
from atlas.domain.note import Supernode
from atlas.errors import InputError
from atlas.ids import FeatureId
from ingest.attribution.prune import prune
from ingest.attribution.result import collect
from ingest.attribution.settings import AttributionSettings
from ingest.supernodes.graph import SupernodeGraph, group_rows, link_rows, pooled, target_weights
from ingest.supernodes.picture import draw
from ingest.supernodes.score import score
from tests.factory import make_circuit
from tests.science.world import case

A = make_circuit(0, n_features=30)
KEPT = sorted(
    {FeatureId(*pair) for pair in zip(*(c[A.nodes.kind == "feature"].tolist() for c in (A.nodes.layer, A.nodes.index)))}
)
groupings = st.lists(st.lists(st.sampled_from(KEPT), min_size=1, unique=True), min_size=1, max_size=5)


def supernodes(groups: list[list[FeatureId]]) -> list[Supernode]:
    return [Supernode("set-a", f"group {at}", tuple(sorted(group)), "hand") for at, group in enumerate(groups)]


def table(made: SupernodeGraph, name: str) -> np.ndarray:
    found = np.zeros((len(made.groups),) * 2)
    for link in made.links:
        found[link.source, link.target] = getattr(link, name)
    return found


@given(groups=groupings)
def test_weights_and_influence_add_up_whatever_the_groups(groups: list[list[FeatureId]]) -> None:
    made = pooled(A, supernodes(groups))
    assert sum(link.weight for link in made.links) == pytest.approx(float(A.edges.weight.sum(dtype=np.float64)))
    assert made.influence.sum() == pytest.approx(1.0)
    shares, nets = table(made, "share"), table(made, "net")
    assert (np.abs(nets) <= shares + 1e-9).all() and (shares.sum(axis=0) <= 1 + 1e-6).all()
    named = {group.name: group.nodes for group in made.groups if group.kind == "supernode"}
    for node in supernodes(groups):
        mine = [FeatureId(*pair) in node.features for pair in zip(A.nodes.layer.tolist(), A.nodes.index.tolist())]
        assert named[node.name] == int(((A.nodes.kind == "feature") & mine).sum())


def test_a_link_is_the_edges_between_two_groups_added_up() -> None:
    one, two = KEPT[:8], KEPT[8:20]
    made = pooled(A, supernodes([one, two]))
    names = [FeatureId(*pair) for pair in zip(A.nodes.layer.tolist(), A.nodes.index.tolist(), strict=True)]
    feature = A.nodes.kind == "feature"
    inside = [feature & np.array([name in group for name in names]) for group in (one, two)]
    joined = inside[0][A.edges.source] & inside[1][A.edges.target]
    link = next(link for link in made.links if (link.source, link.target) == (0, 1))
    assert link.weight == pytest.approx(float(A.edges.weight[joined].sum()), rel=1e-5)
    influence = np.nan_to_num(A.nodes.influence) * (A.nodes.kind != "logit") * (A.nodes.kind != "bias")
    importance = influence / influence.sum()
    wanted = (A.edges.share[joined] * importance[A.edges.target[joined]]).sum() / importance[inside[1]].sum()
    assert link.share == pytest.approx(float(wanted), rel=1e-5)
    through = (A.edges.share[joined] * A.nodes.influence[A.edges.target[joined]]).sum() / 0.96
    assert link.carried == pytest.approx(float(through), rel=1e-5)


def test_groups_of_one_feature_are_the_graph_without_positions() -> None:
    made = pooled(A, supernodes([[feature] for feature in KEPT]))
    number = {group.name: at for at, group in enumerate(made.groups)}
    weights = table(made, "weight")
    for at, feature in enumerate(KEPT):
        own = (A.nodes.kind == "feature") & (A.nodes.layer == feature.layer) & (A.nodes.index == feature.index)
        out = own[A.edges.source] & (A.nodes.kind[A.edges.target] == "logit")
        logits = [at for at, group in enumerate(made.groups) if group.kind == "logit"]
        found = weights[number[f"group {at}"], logits].sum()
        assert found == pytest.approx(float(A.edges.weight[out].sum()), abs=1e-4)
    assert not any(group.kind == "features" for group in made.groups)
    assert sum(group.is_answer for group in made.groups) == 1


def test_a_feature_of_two_groups_belongs_to_each_by_half() -> None:
    whole = pooled(A, supernodes([KEPT[:6]]))
    twice = pooled(A, supernodes([KEPT[:6], KEPT[:6]]))
    assert twice.influence[0] == pytest.approx(whole.influence[0] / 2)
    into = {(made.groups[link.target].name, link.source): link for made in (twice,) for link in made.links}
    for link in whole.links:
        if link.source == 0 and link.target != 0:
            assert into[whole.groups[link.target].name, 0].weight == pytest.approx(link.weight / 2)


def test_rows_are_for_people_and_programs() -> None:
    made = pooled(A, supernodes([KEPT[:8], KEPT[8:20]]))
    links, groups = link_rows(made), group_rows(made)
    carried = [row["carried"] for row in links]
    assert carried == sorted(carried, reverse=True) and min(carried) >= 0
    assert all(row["source"] != row["target"] for row in links)
    assert len(groups) == len(made.groups) and {row["layers"] for row in groups} >= {"in", "out"}


@pytest.mark.parametrize("form", ["png", "svg"])
def test_a_picture_has_every_supernode_and_is_the_same_every_time(form: str, tmp_path: Path) -> None:
    made = pooled(A, supernodes([KEPT[:8], KEPT[8:20]]))
    first = draw(made, tmp_path / f"one.{form}").read_bytes()
    assert first == draw(made, tmp_path / f"two.{form}").read_bytes()
    if form == "png":
        with Image.open(tmp_path / "one.png") as picture:
            assert min(picture.size) > 400
    else:
        words = " ".join(ElementTree.fromstring(first).itertext())
        assert "group 0" in words and "group 1" in words and "image patches" in words
    with pytest.raises(InputError, match="neither"):
        draw(made, tmp_path / "three.gif")


def brute_force(circuit: Circuit, features: set[FeatureId]) -> tuple[float, float]:
    """Replacement and completeness by the inverse of a dense matrix."""
    nodes, incoming = circuit.nodes, circuit.incoming
    keys = list(zip(nodes.kind, nodes.layer, nodes.index, nodes.position, strict=True))
    place = {key: at for at, key in enumerate(keys)}
    n = len(keys)
    matrix, tokens, rest = np.zeros((n, n)), np.zeros(n), np.zeros(n)
    rows = zip(incoming.target.tolist(), incoming.kind, incoming.layer, incoming.index, incoming.position,
               np.abs(incoming.weight).tolist(), strict=True)  # fmt: skip
    for target, kind, layer, index, position, weight in rows:
        source = place.get((kind, layer, index, position))
        if kind == "feature" and FeatureId(int(layer), int(index)) in features and source is not None:
            matrix[target, source] += weight
        elif kind != "bias":
            (tokens if kind in {"token", "image"} else rest)[target] += weight
    inside = np.array([key[0] == "logit" or (key[0] == "feature" and FeatureId(int(key[1]), int(key[2])) in features)
                       for key in keys])  # fmt: skip
    whole = matrix.sum(axis=1) + tokens + rest
    scale = np.where(inside & (whole > 0), 1 / np.where(whole > 0, whole, 1), 0)
    start = target_weights(circuit) / target_weights(circuit).sum()
    through = start @ np.linalg.inv(np.eye(n) - matrix * scale[:, None])
    on_tokens, on_rest = through @ (tokens * scale), through @ (rest * scale)
    return on_tokens / (on_tokens + on_rest), 1 - on_rest / (through.sum() + on_tokens + on_rest)


@given(features=st.sets(st.sampled_from(KEPT)))
def test_scores_are_those_of_the_dense_matrix(features: set[FeatureId]) -> None:
    found = score(A, features)
    assert (found.replacement, found.completeness) == pytest.approx(brute_force(A, features), rel=1e-6)
    assert found.features == len(features) and found.occurrences >= len(features)


def test_all_features_of_an_unpruned_graph_have_the_graphs_own_scores() -> None:
    made, settings = case(), AttributionSettings(node_threshold=1, edge_threshold=1, coverage=1)
    rows = made.rows()
    graph = collect(rows, prune(rows, settings), made.images, made.texts, 1.0)
    whole = replace(A, nodes=graph.nodes, edges=graph.edges, incoming=graph.incoming, scores=graph.scores)
    features = {
        FeatureId(int(layer), int(index))
        for kind, layer, index in zip(graph.nodes.kind, graph.nodes.layer, graph.nodes.index, strict=True)
        if kind == "feature"
    }
    found = score(whole, features)
    assert found.replacement == pytest.approx(graph.scores["replacement"], abs=1e-6)
    assert found.completeness == pytest.approx(graph.scores["completeness"], abs=1e-6)
    assert score(whole, set()).replacement < found.replacement


def test_an_imported_graph_is_scored_by_its_edges() -> None:
    imported = make_circuit(0, n_features=30, partial=True)
    kept = imported.nodes.kind == "feature"
    names = zip(imported.nodes.layer[kept].tolist(), imported.nodes.index[kept].tolist(), strict=True)
    found = score(imported, {FeatureId(*name) for name in names})
    assert 0 < found.replacement < 1 and found.occurrences == int(kept.sum())
