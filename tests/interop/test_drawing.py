"""A drawing is well-formed, small, the same every time, and shows what the graph holds."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from atlas.domain.circuit import Circuit, Edges
from atlas.errors import InputError
from atlas.interop import export_graph, find_graph_files, read_graph_json
from atlas.interop.drawing import draw
from atlas.interop.drawing_choice import choose, flows, strengths
from atlas.interop.drawing_layout import HEIGHT, WIDTH, arrange
from tests.factory import make_circuit
from tests.interop import foreign
from tests.interop.pictured import pictured

REAL = Path(__file__).parents[3] / "shared" / "data" / "real-graphs"
ABSENT = "the folder ../shared/data/real-graphs of published graphs is absent"


def words(path: Path) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def imported(tmp_path: Path, graph: foreign.Document) -> Circuit:
    return read_graph_json(foreign.write(tmp_path / "graph.json", graph))


def test_the_picture_has_its_size_and_the_vectors_their_words(tmp_path: Path) -> None:
    circuit = pictured()

    png = export_graph(circuit, "png", tmp_path / "graph.png")
    svg = export_graph(circuit, "svg", tmp_path / "graph.svg")

    with Image.open(png) as picture:
        assert picture.size == (1600, 1000)
    assert svg.stat().st_size < 1_000_000
    said = words(svg)
    assert any(circuit.description.prompt in word and circuit.answer in word for word in said)
    assert any(circuit.description.slug in word for word in said)
    strongest = choose(circuit, 40).nodes[:3]
    features = [row for row in strongest.tolist() if circuit.nodes.kind[row] == "feature"]
    for row in features:
        assert any(word.startswith(f"{circuit.nodes.layer[row]}/{circuit.nodes.index[row]}") for word in said)
    assert {"seven", "0.86", "what", "sum", "raises its target", "lowers it"} <= set(said)


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    circuit = make_circuit(seed=2)
    for name in ("one.svg", "one.png"):
        first = draw(circuit, tmp_path / name).read_bytes()
        assert draw(circuit, tmp_path / name).read_bytes() == first


def test_a_picture_shows_through_where_nothing_is_strong(tmp_path: Path) -> None:
    circuit = pictured(side=8)
    bright = replace(circuit, thumbnails=replace(circuit.thumbnails, data=[_solid((0, 255, 0))]))
    shown = np.asarray(Image.open(draw(bright, tmp_path / "green.png")).convert("RGB")).astype(int)
    hidden = np.asarray(Image.open(draw(circuit, tmp_path / "digits.png")).convert("RGB")).astype(int)
    assert ((shown[..., 1] > shown[..., 0] + 80) & (shown[..., 1] > shown[..., 2] + 80)).sum() > 20_000
    assert ((hidden[..., 1] > hidden[..., 0] + 80) & (hidden[..., 1] > hidden[..., 2] + 80)).sum() < 1_000


@pytest.mark.parametrize("top", [1, 5, 200])
def test_the_strongest_are_drawn_and_no_more(top: int) -> None:
    circuit = pictured()
    kind, influence = circuit.nodes.kind, circuit.nodes.influence
    middle = np.flatnonzero((kind == "feature") | (kind == "error"))
    expected = set(sorted(middle.tolist(), key=lambda row: -influence[row])[:top])
    assert set(choose(circuit, top).nodes.tolist()) == expected


def test_edges_drawn_join_nodes_drawn_and_each_node_keeps_its_best() -> None:
    circuit = pictured()
    choice = choose(circuit, 30)
    drawn = {*choice.nodes.tolist(), *choice.logits.tolist(), *choice.inputs.tolist()}
    ends = {(int(circuit.edges.source[row]), int(circuit.edges.target[row])) for row in choice.edges}
    assert {end for pair in ends for end in pair} <= drawn
    joined = {end for pair in ends for end in pair}
    could = [
        row for row in choice.nodes.tolist()
        if any(s in drawn and t in drawn and row in (s, t) for s, t in zip(circuit.edges.source, circuit.edges.target))
    ]  # fmt: skip
    assert set(could) <= joined


def test_strength_of_an_import_is_the_step_of_its_cumulative_share(tmp_path: Path) -> None:
    graph = foreign.circuit_tracer()
    for node, value in zip(graph["nodes"], [0.5, 0.75, 0.875, 0.95, 0.97, 0.98, 0.99, 0.999, 1.0, 1.0, 1.0]):
        node["influence"] = value
    strength = strengths(imported(tmp_path, graph))
    assert strength[:4] == pytest.approx([0.5, 0.25, 0.125, 0.075])


def test_what_an_edge_carries_is_handed_down_from_the_logits_by_share(tmp_path: Path) -> None:
    graph = foreign.circuit_tracer()
    carried = dict(zip([(link["source"], link["target"]) for link in graph["links"]], flows(imported(tmp_path, graph))))
    into_answer = 0.828 * 2 / 3
    assert carried["1_4000_4", "4_507_4"] == pytest.approx(into_answer)
    assert carried["2_7_4", "4_507_4"] == pytest.approx(0.828 / 3)
    assert carried["0_11_1", "1_4000_4"] == pytest.approx((into_answer + 0.0625) / 2)
    assert carried["E_101_1", "0_11_1"] == pytest.approx((into_answer + 0.0625) / 2)


def test_marks_of_one_row_do_not_cover_each_other_where_there_is_room() -> None:
    circuit = make_circuit(seed=4, n_features=30)
    choice = choose(circuit, 30)
    layout = arrange(circuit, choice)
    assert np.isfinite(layout.x[choice.nodes]).all()
    assert ((layout.x[choice.nodes] > 0) & (layout.x[choice.nodes] < WIDTH)).all()
    assert ((layout.y[choice.nodes] > 0) & (layout.y[choice.nodes] < HEIGHT)).all()
    marks = sorted((float(layout.y[row]), float(layout.x[row]), float(layout.radius[row])) for row in choice.nodes)
    for one, other in pairwise(marks):
        if one[0] == other[0]:
            assert other[1] - one[1] >= one[2] + other[2] - 0.02


ODD = {
    "an imported picture": lambda tmp: imported(tmp, foreign.uiuc()),
    "labels and legacy": lambda tmp: imported(tmp, foreign.legacy()),
    "no grid in the file": lambda tmp: imported(tmp, foreign.circuit_tracer(True, ["<image_soft_token>"] * 5)),
    "two pictures": lambda tmp: pictured(side=4, n_pictures=2),
    "many layers": lambda tmp: pictured(side=4, n_layers=34, n_features=600),
    "a long prompt": lambda tmp: make_circuit(n_text=90, n_features=60),
    "one node": lambda tmp: replace(
        imported(tmp, foreign.circuit_tracer() | {"nodes": [foreign.circuit_tracer()["nodes"][0]], "links": []})
    ),
    "no edges": lambda tmp: replace(make_circuit(), edges=Edges.empty()),
    "markup in words": lambda tmp: replace(
        make_circuit(), answer="<b>$x_1$ & 东</b>\x00",
        description=replace(make_circuit().description, prompt="$\\frac<\n>$"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_odd_graphs_are_drawn(tmp_path: Path, what: str) -> None:
    circuit = ODD[what](tmp_path)
    path = draw(circuit, tmp_path / "odd.svg")
    assert re.sub(r"\W", "", circuit.description.slug)[:5] in re.sub(r"\W", "", " ".join(words(path)))


def test_other_endings_and_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="png"):
        draw(make_circuit(), tmp_path / "graph.pdf")
    with pytest.raises(InputError, match="1 or more"):
        draw(make_circuit(), tmp_path / "graph.png", top=0)
    with pytest.raises(InputError, match="error_ids"):
        export_graph(make_circuit(), "png", tmp_path / "graph.png", error_ids="old")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not REAL.is_dir(), reason=ABSENT)
def test_published_graphs_are_drawn(tmp_path: Path) -> None:
    for path in find_graph_files([REAL])[:3]:
        circuit = read_graph_json(path)
        drawing = draw(circuit, tmp_path / "graph.svg")
        assert drawing.stat().st_size < 1_000_000
        assert circuit.answer.strip() in words(drawing)


def _solid(colour: tuple[int, int, int]) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()
