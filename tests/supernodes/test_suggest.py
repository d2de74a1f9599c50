"""Suggested supernodes: clusters against the plain method, profiles without positions, planted groups, names."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.artefact.notes import change_notes, read_notes
from atlas.artefact.write import write_circuit
from atlas.config import Home, open_home
from atlas.domain.circuit import Circuit, Edges, Nodes, Positions
from atlas.domain.note import Member, Note
from atlas.errors import InputError
from atlas.ids import FeatureId
from ingest.supernodes.clusters import clusters
from ingest.supernodes.naming import Facts, free_name, learn, logit_effects, name_of
from ingest.supernodes.profiles import Profiles, Traced, profiles
from ingest.supernodes.suggest import Settings, as_notes, suggest
from tests.factory import make_circuit

A, B, OTHER = make_circuit(0), make_circuit(1), make_circuit(2, transcoders="set-b")
COPIES = Settings(similarity=0.9, decoder_weight=1.0)
"""Finds what the factory plants: row 8k + 1 of a layer writes nearly what row 8k writes."""


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = open_home(tmp_path_factory.mktemp("suggest") / "home", create=True)
    for circuit in (A, B, OTHER):
        write_circuit(home, circuit)
    return home


def plain(alike: np.ndarray, least: float) -> list[list[int]]:
    """Average linkage as it is told: of all pairs of groups, join the most alike, again and again."""
    groups = [[at] for at in range(len(alike))]
    while len(groups) > 1:
        pairs = [(alike[np.ix_(a, b)].mean(), a, b) for n, a in enumerate(groups) for b in groups[n + 1 :]]
        best, a, b = max(pairs, key=lambda pair: pair[0])
        if best < least:
            break
        groups = [group for group in groups if group not in (a, b)] + [sorted(a + b)]
    return sorted(groups)


@given(n=st.integers(0, 14), seed=st.integers(0, 2**32), least=st.floats(-0.5, 0.9))
def test_the_chain_joins_what_the_plain_method_joins(n: int, seed: int, least: float) -> None:
    drawn = np.random.default_rng(seed).uniform(-1, 1, (n, n))
    alike = (drawn + drawn.T) / 2
    before = alike.copy()
    found = clusters(alike, least)
    assert found == plain(alike, least)
    assert sorted(at for group in found for at in group) == list(range(n))
    assert np.array_equal(alike, before)


def test_equals_go_to_the_lower_index() -> None:
    assert clusters(np.ones((4, 4)), 0.5) == [[0, 1, 2, 3]]
    assert clusters(np.eye(4), 0.5) == [[0], [1], [2], [3]]


def traced(circuit: Circuit) -> Traced:
    return Traced(circuit.nodes, circuit.edges, circuit.vectors)


def same(one: Profiles, two: Profiles) -> bool:
    tables = ((one.reads, two.reads), (one.feeds, two.feeds), (one.written, two.written))
    return one.features == two.features and all(np.allclose(a, b) for a, b in tables)


def test_profiles_know_no_positions_and_no_order_of_graphs() -> None:
    columns = {spec.name: getattr(A.nodes, spec.name) for spec in Nodes.columns()}
    moved = Nodes(**columns | {"position": A.nodes.position[::-1]})
    assert same(profiles([traced(A)], 1000), profiles([Traced(moved, A.edges, A.vectors)], 1000))
    assert same(profiles([traced(A), traced(B)], 1000), profiles([traced(B), traced(A)], 1000))


def test_profiles_of_graphs_add_up() -> None:
    one, two = profiles([traced(A)], 1000), profiles([traced(A), traced(A)], 1000)
    assert np.allclose(two.reads, 2 * one.reads) and np.allclose(two.feeds, 2 * one.feeds)
    assert np.allclose(two.influence, one.influence)
    assert np.allclose(one.similarity(0.5), two.similarity(0.5))


def test_a_profile_is_the_signed_shares_of_what_is_known() -> None:
    """Errors and biases are left out; everything else that is read counts once."""
    found = profiles([traced(A)], 1000)
    signed = A.edges.share * np.sign(A.edges.weight)
    kind = A.nodes.kind[A.edges.source]
    for at in range(0, len(found.features), 7):
        feature = found.features[at]
        own = (A.nodes.kind == "feature") & (A.nodes.layer == feature.layer) & (A.nodes.index == feature.index)
        into = own[A.edges.target] & ~np.isin(kind, ["error", "bias"])
        assert found.reads[at].sum() == pytest.approx(float(signed[into].sum()), abs=1e-6)
        assert found.feeds[at].sum() == pytest.approx(float(signed[own[A.edges.source]].sum()), abs=1e-6)


def test_similarity_is_a_cosine_and_what_is_unknown_says_nothing() -> None:
    found = profiles([traced(A)], 1000)
    for weight in (0.0, 0.4, 1.0):
        alike = found.similarity(weight)
        assert np.allclose(alike, alike.T) and np.allclose(np.diag(alike), 1)
        assert alike.min() >= -1 - 1e-9 and alike.max() <= 1 + 1e-9
    nothing = np.zeros_like(found.written)
    unknown = Profiles(found.features, found.influence, found.reads, found.feeds, nothing)
    assert np.allclose(unknown.similarity(0.7), found.similarity(0.0))


def test_planted_copies_are_found_and_nothing_else(home: Home) -> None:
    kept = {FeatureId(*pair) for pair in zip(*(c[A.nodes.kind == "feature"].tolist() for c in
            (A.nodes.layer, A.nodes.index)), strict=True)}  # fmt: skip
    planted = {(f, FeatureId(f.layer, f.index + 1)) for f in kept if f.index % 8 == 0}
    wanted = {pair for pair in planted if pair[1] in kept}
    found = suggest(home, [A.id], COPIES)
    assert wanted and {made.features for made in found} == wanted
    assert all(made.similarity >= 0.9 and made.transcoders == A.transcoders for made in found)
    assert [made.influence for made in found] == sorted((made.influence for made in found), reverse=True)


def test_equal_graphs_give_equal_suggestions_in_any_order(home: Home) -> None:
    loose = Settings(similarity=0.2)
    found = suggest(home, [A.id, B.id], loose)
    assert found == suggest(home, [A.id, B.id, A.id], loose)
    assert {made.features for made in found} == {made.features for made in suggest(home, [B.id, A.id], loose)}
    features = [feature for made in found for feature in made.features]
    assert len(features) == len(set(features)) and all(len(made.features) >= 2 for made in found)
    assert len({made.name for made in found}) == len(found)


def test_what_is_grouped_stays_and_what_was_taken_back_stays_back(home: Home) -> None:
    found = suggest(home, [A.id], COPIES)
    first = found[0]
    member = Member(first.transcoders, first.name, first.features[0])
    change_notes(home, lambda notes: {member: Note("hand")})
    change_notes(home, lambda notes: {member: None})
    said = as_notes(found, read_notes(home))
    assert member not in said and len(said) == sum(len(made.features) for made in found) - 1
    change_notes(home, lambda notes: as_notes(found, notes))
    assert suggest(home, [A.id], COPIES) == []
    assert {node.source for node in read_notes(home).supernodes()} == {"suggestion"}


def test_a_fewest_and_a_top_are_kept_to(home: Home) -> None:
    assert suggest(home, [A.id], Settings(similarity=0.9, decoder_weight=1.0, smallest=3)) == []
    assert suggest(home, [A.id], Settings(similarity=-1, top=5))[0].features == tuple(profiles([traced(A)], 5).features)


def test_graphs_of_two_sets_are_one_error(home: Home) -> None:
    with pytest.raises(InputError, match="2 transcoder sets: set-a, set-b"):
        suggest(home, [A.id, OTHER.id], Settings())


def test_effects_are_added_up_over_all_paths() -> None:
    nodes, edges = A.nodes, A.edges
    logits, effects = logit_effects(nodes, edges)
    n = len(nodes)
    signed = np.zeros((n, n))
    signed[edges.source, edges.target] = edges.share * np.sign(edges.weight)
    paths = np.linalg.inv(np.eye(n) - signed)
    assert np.allclose(effects, paths[:, logits], atol=1e-6)
    assert np.abs(effects[nodes.kind == "feature"]).max() > 0


def graph(rows: list[tuple[int, int, float]]) -> tuple[Nodes, Edges, Positions]:
    """A graph of one layer: features of (index, position, influence) that feed the logit '7'."""
    n = len(rows)
    numbers = {"own_bias": np.nan, "pre_activation": np.nan, "cumulative": np.nan, "incoming_abs": np.nan}
    numbers |= {"tail_sum": np.nan, "tail_abs": np.nan, "residue": np.nan}
    nodes = Nodes(
        kind=["feature"] * n + ["logit"],
        layer=[2] * n + [3],
        index=[index for index, _, _ in rows] + [107],
        position=[position for _, position, _ in rows] + [3],
        text=[None] * n + [" 7"],
        label=[None] * (n + 1),
        activation=[1.0] * n + [np.nan],
        influence=[influence for _, _, influence in rows] + [np.nan],
        probability=[np.nan] * n + [1.0],
        is_answer=[False] * n + [True],
        original_id=[None] * (n + 1),
        extra=[None] * (n + 1),
        **{name: [value] * (n + 1) for name, value in numbers.items()},
    )
    edges = Edges(source=range(n), target=[n] * n, weight=[1.0] * n, share=[1.0 / n] * n)
    positions = Positions(
        position=range(4),
        token_id=range(4),
        text=["", "", "moons", "?"],
        modality=["image", "image", "text", "text"],
        image=[0, 0, -1, -1],
        crop=[0, 0, -1, -1],
        row=[0, 0, -1, -1],
        col=[0, 1, -1, -1],
    )
    return nodes, edges, positions


@pytest.mark.parametrize(
    ("rows", "labels", "name"),
    [
        ([(1, 0, 1.0), (2, 1, 1.0)], {}, "picture, layer 2, for 7"),
        ([(1, 2, 1.0), (2, 2, 1.0)], {}, "moons, layer 2, for 7"),
        ([(1, 3, 1.0), (2, 3, 1.0)], {}, "last token, layer 2, for 7"),
        ([(1, 2, 1.0), (2, 3, 1.0)], {}, "words, layer 2, for 7"),
        ([(1, 0, 1.0), (2, 2, 1.0)], {}, "picture and moons, layer 2, for 7"),
        ([(1, 0, 1.0), (2, 1, 1.0)], {FeatureId(2, 1): "a red disc"}, "a red disc, layer 2, for 7"),
    ],
)
def test_a_name_says_what_the_members_have_in_common(
    rows: list[tuple[int, int, float]], labels: dict[FeatureId, str], name: str
) -> None:
    facts: dict[FeatureId, Facts] = {}
    learn(facts, *graph(rows))
    assert name_of([FeatureId(2, index) for index, _, _ in rows], facts, labels) == name


def test_a_name_that_is_taken_gets_the_strongest_feature_and_then_a_number() -> None:
    strongest, names = FeatureId(2, 7), list[str]()
    for _ in range(4):
        names.append(free_name("x", strongest, names))
    assert names == ["x", "x, as 2/7", "x, as 2/7 (2)", "x, as 2/7 (3)"]
