"""Foreign graphs become circuits: the same features, nodes, edges and words, and what is unknown stays unknown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.artefact.check import check_circuit
from atlas.domain.circuit import Circuit
from atlas.ids import content_hash
from atlas.interop import find_graph_files, read_graph_json
from atlas.interop.dialects import DIALECTS, cantor, cantor_pair
from tests.interop import foreign

REAL = Path(__file__).parents[3] / "shared" / "data" / "real-graphs"
ABSENT = "the folder ../shared/data/real-graphs of published graphs is absent"


def read(tmp_path: Path, graph: Any, name: str = "graph.json") -> Circuit:
    return read_graph_json(foreign.write(tmp_path / name, graph))


def named(circuit: Circuit, kind: str) -> set[tuple[int, int, int]]:
    rows = np.flatnonzero(circuit.nodes.kind == kind)
    return {(int(circuit.nodes.layer[r]), int(circuit.nodes.index[r]), int(circuit.nodes.position[r])) for r in rows}


@pytest.mark.parametrize("dialect", foreign.BUILDERS)
def test_every_dialect_gives_the_same_circuit(tmp_path: Path, dialect: str) -> None:
    graph = foreign.BUILDERS[dialect]()

    circuit = read(tmp_path, graph)

    check_circuit(circuit, "import")
    assert circuit.source == dialect
    assert circuit.n_layers == foreign.N_LAYERS
    assert named(circuit, "feature") == {(layer, index, at) for layer, index, at, _ in foreign.FEATURES}
    assert {(layer, at) for layer, _, at in named(circuit, "error")} == set(foreign.ERRORS)
    assert {layer for layer, _, _ in named(circuit, "token") | named(circuit, "image")} == {-1}
    assert {layer for layer, _, _ in named(circuit, "logit")} == {foreign.N_LAYERS}
    assert circuit.answer == " seven"
    assert circuit.nodes.probability[circuit.nodes.is_answer] == pytest.approx([0.828])
    assert list(circuit.nodes.original_id) == [node["node_id"] for node in graph["nodes"]]
    ends = [
        (circuit.nodes.original_id[s], circuit.nodes.original_id[t])
        for s, t in zip(circuit.edges.source, circuit.edges.target)
    ]
    assert ends == [(link["source"], link["target"]) for link in graph["links"]]
    assert circuit.edges.weight.tolist() == [link["weight"] for link in graph["links"]]
    expected = foreign.shares(graph)
    assert circuit.edges.share == pytest.approx([expected[end] for end in ends])
    assert circuit.partial
    assert circuit.vectors is None


def test_every_row_of_the_dialect_table_is_tested() -> None:
    refused = {dialect.name for dialect in DIALECTS if dialect.refused is not None}
    assert {dialect.name for dialect in DIALECTS} == set(foreign.BUILDERS) | refused
    assert refused == {"spd"}


@pytest.mark.parametrize("old_errors", [False, True])
def test_both_forms_of_error_ids_name_the_same_errors(tmp_path: Path, old_errors: bool) -> None:
    circuit = read(tmp_path, foreign.circuit_tracer(old_errors))
    assert named(circuit, "error") == {(0, 0, 3), (1, 0, 4)}


def test_legacy_feature_numbers_fall_back_to_the_id(tmp_path: Path) -> None:
    circuit = read(tmp_path, foreign.legacy())
    assert named(circuit, "feature") == {(layer, index, at) for layer, index, at, _ in foreign.FEATURES}


def test_the_set_of_a_feature_is_the_transcoder_set_and_not_the_model(tmp_path: Path) -> None:
    tracer, pedia = read(tmp_path, foreign.circuit_tracer()), read(tmp_path, foreign.neuronpedia())
    assert tracer.transcoders == pedia.transcoders == "example/plt//width-16k@v2"
    assert (tracer.model, pedia.model) == ("unknown", "some-model-2b")


def test_a_hash_of_python_is_never_a_set(tmp_path: Path) -> None:
    graph = foreign.circuit_tracer()
    graph["metadata"] |= {"scan": "custom-123456789", "transcoder_list": ["a/one", "b/two"]}
    assert read(tmp_path, graph).transcoders == "a/one+b/two"


def test_sets_that_are_not_named_are_unlike_each_other(tmp_path: Path) -> None:
    one, two = foreign.neuronpedia(), foreign.neuronpedia()
    del one["metadata"]["info"], two["metadata"]["info"]
    two["metadata"]["slug"] = "another"
    assert read(tmp_path, one).transcoders != read(tmp_path, two).transcoders


def test_influence_is_the_cumulative_share_and_raw_influence_unknown(tmp_path: Path) -> None:
    graph = foreign.circuit_tracer()
    graph["nodes"][0]["influence"] = 0.125
    nodes = read(tmp_path, graph).nodes
    assert nodes.cumulative[0] == 0.125
    assert np.isnan(nodes.influence).all()
    assert np.isnan(nodes.cumulative[nodes.kind == "logit"]).all()


def test_labels_unknown_keys_and_view_state_are_kept(tmp_path: Path) -> None:
    graph = foreign.circuit_tracer()
    graph["nodes"][0] |= {"clerp": "says seven", "vis_link": "http://example.org", "run_idx": 3}
    graph["links"][0]["note"] = "first"
    circuit = read(tmp_path, graph)
    assert circuit.nodes.label[0] == "says seven"
    assert json.loads(circuit.nodes.extra[0]) == {"vis_link": "http://example.org", "run_idx": 3}
    assert circuit.nodes.extra[1] is None
    assert circuit.foreign is not None
    assert circuit.foreign["metadata"] == graph["metadata"]
    assert circuit.foreign["qParams"] == graph["qParams"]
    logit = circuit.nodes.kind == "logit"
    assert list(circuit.nodes.text[logit]) == [" seven", " eight"]
    assert list(circuit.nodes.label[logit]) == [None, None]


def test_positions_come_from_the_prompt_tokens_and_soft_tokens_are_image_positions(tmp_path: Path) -> None:
    circuit = read(tmp_path, foreign.uiuc())
    positions = circuit.positions
    assert list(positions.modality) == ["text", *["image"] * 4, "text"]
    assert positions.row.tolist() == [-1, 0, 0, 1, 1, -1]
    assert positions.col.tolist() == [-1, 0, 1, 0, 1, -1]
    assert positions.token_id.tolist() == [100, 101, 102, 103, 104, 105]
    assert {at for _, _, at in named(circuit, "image")} == {1, 2, 3, 4}


def test_the_id_is_the_hash_of_the_content(tmp_path: Path) -> None:
    graph = foreign.circuit_tracer()
    first = read(tmp_path, graph)
    moved = {key: graph[key] for key in reversed(graph)} | {"nodes": graph["nodes"][::-1], "qParams": {"pinnedIds": []}}
    text = json.dumps(moved).replace('"weight": 2.0', '"weight": 2')
    heavier = foreign.circuit_tracer()
    heavier["links"][0]["weight"] = 1.25

    assert first.id == content_hash(first.identity)
    assert read(tmp_path, json.loads(text), "elsewhere.json").id == first.id
    other = read(tmp_path, heavier)
    assert other.id != first.id
    assert other.description.slug == first.description.slug


def test_settings_and_generator_are_provenance(tmp_path: Path) -> None:
    provenance = read(tmp_path, foreign.neuronpedia()).provenance
    assert provenance["convention"] == "unknown"
    assert provenance["pruning_settings"] == {"node_threshold": 0.8, "edge_threshold": 0.85}
    assert provenance["generation_settings"]["batch_size"] == 48
    assert provenance["generator"]["version"] == "0.2"


def test_the_answer_is_the_most_probable_logit_whatever_the_file_flags(tmp_path: Path) -> None:
    graph = foreign.circuit_tracer()
    graph["nodes"][-1] |= {"token_prob": 0.9, "clerp": 'Output " eight" (p=0.900)'}
    assert read(tmp_path, graph).answer == " eight"


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 40))
def test_cantor_codes_come_back_beyond_the_precision_of_floats(layer: int, index: int) -> None:
    assert cantor_pair(cantor(layer, index)) == (layer, index)


@given(foreign.graphs())
@settings(max_examples=40, deadline=None)
def test_any_valid_file_makes_a_valid_circuit(
    tmp_path_factory: pytest.TempPathFactory, graph: foreign.Document
) -> None:
    circuit = read(tmp_path_factory.mktemp("graphs"), graph)
    check_circuit(circuit, "import")
    assert len(circuit.nodes) == len(graph["nodes"])
    assert len(circuit.edges) == len(graph["links"])


def test_folders_give_their_graphs_once_and_no_listing(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    paths = [foreign.write(tmp_path / name, foreign.circuit_tracer()) for name in ("b.json", "deep/a.json")]
    foreign.write(tmp_path / "graph-metadata.json", {"graphs": []})
    (tmp_path / "notes.txt").write_text("no graph")
    assert find_graph_files([tmp_path, paths[0]]) == paths


@pytest.mark.skipif(not REAL.is_dir(), reason=ABSENT)
def test_published_graphs_are_read_and_like_prompts_share_their_features() -> None:
    circuits = {path.name: read_graph_json(path) for path in find_graph_files([REAL])}
    features = {name: {pair[:2] for pair in named(circuit, "feature")} for name, circuit in circuits.items()}

    def jaccard(one: str, other: str) -> float:
        a, b = (next(f for name, f in features.items() if name.startswith(start)) for start in (one, other))
        return len(a & b) / len(a | b)

    assert len(circuits) == 10
    for name, circuit in circuits.items():
        check_circuit(circuit, name)
        assert (circuit.source, circuit.model, circuit.n_layers) == ("neuronpedia", "gemma-2-2b", 26)
    assert jaccard("clt-hp", "capital_oakland") == pytest.approx(0.55, abs=0.01)
    assert 0.04 <= jaccard("clt-hp", "the-opposite") <= 0.095
