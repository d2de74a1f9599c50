"""What is given with a question: checked, found, and compared only where it compares."""

from dataclasses import replace

import pytest

from atlas.errors import InputError, NotFoundError, QuestionError
from query import answers
from query.library import question
from query.names import feature_in, graph_in, set_in
from tests.factory import make_circuit
from tests.query.world import Memory, as_import


@pytest.fixture(scope="module")
def store():
    """Two graphs of one set and slug, one of another set, one imported."""
    graphs = [make_circuit(seed=seed, slug="twin", n_features=20) for seed in (1, 2)]
    other = make_circuit(seed=3, slug="stranger", transcoders="org/set-b", n_features=20)
    imported = as_import(make_circuit(seed=4, slug="foreign", partial=True, n_features=20))
    return Memory([*graphs, other, imported])


def bind(store, name, **given):
    return answers.bind(store, question(name), given)


def test_all_faults_are_named_at_once_with_an_example():
    with pytest.raises(QuestionError) as raised:
        answers.check(question("shared-features"), {"b": "x", "colour": 1, "limit": "many"})

    text = str(raised.value)
    assert "a is missing" in text
    assert "takes no colour" in text
    assert "limit is 'many'" in text
    assert "atlas ask shared-features --a moons-mars-a --b moons-earth-a" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", 0),
        ("limit", 1.5),
        ("limit", True),
        ("limit", "1e3"),
        ("depth", 13),
        ("floor", "nan"),
        ("floor", 1.01),
        ("modality", "sound"),
        ("start", ""),
        ("graph", 3.5),
        ("graph", " "),
        ("limit", 10**30),
        ("row", -1),
    ],
)
def test_values_of_another_type_or_out_of_bounds_are_refused(name, value):
    with pytest.raises(QuestionError, match=f"{name} is"):
        answers.check(question("strongest-paths"), {"graph": "g"} | {name: value})


@pytest.mark.parametrize("text", ["12", "x/1", "1/", "1/2/3", "-1/3", "1.0/3"])
def test_a_feature_is_layer_and_index(text):
    with pytest.raises(QuestionError, match="feature is"):
        answers.check(question("feature-occurrences"), {"feature": text})


def test_text_from_a_command_line_is_read():
    values = answers.check(question("strongest-paths"), {"graph": "g", "row": "3", "floor": "0.5", "limit": 2.0})

    assert (values["row"], values["floor"], values["limit"], values["depth"]) == (3, 0.5, 2, 6)
    assert answers.check(question("graph-similarity"), {"unlike": "yes"})["unlike"] is True


def test_a_graph_is_found_by_id_prefix_slug_and_beginning_of_slug(store):
    stranger = store.circuits[2]

    for text in (stranger.id, stranger.id[:9], stranger.id[:9].upper(), "stranger", " stranger ", "stran"):
        assert graph_in(store, text).id == stranger.id


def test_a_slug_or_prefix_of_several_graphs_lists_them(store):
    with pytest.raises(NotFoundError, match="2 graphs") as raised:
        graph_in(store, "twin")

    assert all(circuit.id[:12] in str(raised.value) for circuit in store.circuits[:2])


@pytest.mark.parametrize("text", ["strangers", "str", "%", "' OR true --"])
def test_a_name_of_no_graph_says_so(store, text):
    with pytest.raises(NotFoundError, match="no graph"):
        graph_in(store, text)


def test_a_prefix_of_three_digits_is_no_name(store):
    with pytest.raises(NotFoundError):
        graph_in(store, store.circuits[2].id[:3])


def test_a_feature_of_several_sets_needs_one(store):
    ours, theirs = ({(n["layer"], n["index"]) for n in nodes(c)} for c in (store.circuits[0], store.circuits[2]))
    both = "{}/{}".format(*min(ours & theirs))
    alone = "{}/{}".format(*min(ours - {(n["layer"], n["index"]) for n in fired(store.circuits[2])}))

    with pytest.raises(NotFoundError, match=r"2 transcoder sets: 1 \(set-a\), 2 \(org/set-b\)"):
        feature_in(store, both)
    assert feature_in(store, both, 2).set_number == 2
    assert feature_in(store, alone).set_number == 1
    with pytest.raises(NotFoundError, match="set 2"):
        feature_in(store, alone, 2)
    with pytest.raises(NotFoundError, match="2 transcoder sets"):
        bind(store, "feature-occurrences", feature=both)
    bound = bind(store, "feature-occurrences", feature=both, set="org")
    assert bound.values["feature"] == feature_in(store, both, 2).fid


def test_a_set_is_found_by_number_name_and_part(store):
    assert [set_in(store, text) for text in (2, "2", "org/set-b", "ORG")] == [2, 2, 2, 2]
    for text in ("set", "nothing", ""):
        with pytest.raises(NotFoundError, match=r"set-a.*set-b"):
            set_in(store, text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        ("3", 3),
        ("d9a6", 1),
        ("SHA256:D9A6", 1),
        ("sha256:d9a69", 1),
        ("sha256:" + "12340" * 12 + "1234", 2),
        ("gemma", 3),
        ("5", None),
        ("9", None),  # a digit of both hashes
        ("1234", None),  # digits alone are a number
        ("d9a", None),
        ("sha256", None),
        ("sha256:", None),
        ("a69d", None),  # within a hash
        ("clt", None),  # two repositories
        ("-1", None),
    ],
)
def test_a_set_is_not_found_by_chance(text, number):
    hashes = ["sha256:" + "d9a69d" * 10 + "0000", "sha256:" + "12340" * 12 + "1234"]
    names = [*hashes, "mntss/clt-gemma-2-2b", "mntss/clt-llama-1b"]
    found = Memory([make_circuit(seed=seed, n_features=4, transcoders=name) for seed, name in enumerate(names)])

    if number is not None:
        assert set_in(found, text) == number
    else:
        with pytest.raises(NotFoundError, match=r"there are: .*clt-gemma"):
            set_in(found, text)


def test_a_node_is_no_feature(store):
    with pytest.raises(InputError):
        feature_in(store, "feature:3/1@2")


def test_graphs_of_unlike_sets_compare_only_when_asked(store):
    a, b = store.circuits[0].id, store.circuits[2].id

    with pytest.raises(QuestionError, match=r"transcoder sets set-a and org/set-b.*--unlike"):
        bind(store, "shared-features", a=a, b=b)
    assert "made unlike" in bind(store, "shared-features", a=a, b=b, unlike=True).remarks[0]


def test_graphs_of_unlike_settings_compare_only_when_asked():
    first, second = make_circuit(seed=1), make_circuit(seed=2)
    settings = second.identity["attribution"] | {"node_threshold": 0.9}
    second = replace(second, identity=second.identity | {"precision": "bf16", "attribution": settings})
    store = Memory([first, second, make_circuit(seed=3)])

    with pytest.raises(QuestionError, match=r"precision fp32 and bf16; node_threshold 0\.8 and 0\.9"):
        bind(store, "graph-similarity", a=first.id, b=second.id)
    all_pairs = answers.run(store, bind(store, "graph-similarity"))
    assert all_pairs.num_rows == 1
    assert answers.run(store, bind(store, "graph-similarity", unlike=True)).num_rows == 3


def test_an_import_compares_with_a_remark(store):
    bound = bind(store, "graph-similarity", a=store.circuits[0].id, b=store.circuits[3].id)

    assert "not known for both graphs" in bound.remarks[0]
    table = answers.run(store, bound)
    assert table.num_rows == 1
    assert answers.remarks(table) == list(bound.remarks)


def test_a_question_nobody_knows_names_the_nearest():
    with pytest.raises(QuestionError, match="Did you mean recurring-edges"):
        question("recuring-edges")
    assert question("recurring_edges").name == "recurring-edges"


def nodes(circuit):
    kept = circuit.nodes.take(circuit.nodes.kind == "feature")
    return [{"layer": int(a), "index": int(b)} for a, b in zip(kept.layer, kept.index, strict=True)]


def fired(circuit):
    return [
        {"layer": int(a), "index": int(b)}
        for a, b in zip(circuit.activations.layer, circuit.activations.index, strict=True)
    ]
