"""Tables for people: a line each in a pipe, whole words on a screen, slugs never cut."""

import sys
from dataclasses import replace

import pyarrow as pa
import pytest

from atlas.options import emit
from query.listing import _targets
from query.tables import graphs_for_people
from tests.factory import make_circuit
from tests.query.world import Memory

LAST = len(make_circuit(seed=1).positions) - 1
SLUG = "clt-hp-the-capital-of-201020250035-20251020-003525"


def row(**given):
    known = {
        "id": "ab" * 32,
        "slug": SLUG,
        "model": "gemma-2-2b",
        "prompt": "<bos>The capital of\\nthe state containing Oakland is",
        "answer": " Sacramento",
        "expected": None,
        "correct": None,
        "task": None,
        "concept": None,
        "nodes": 348,
        "edges": 3979,
        "replacement": None,
        "completeness": None,
        "target": None,
    }
    return known | given


def test_a_graph_is_one_line_with_its_slug_whole(capsys):
    lines, left_out = graphs_for_people(pa.Table.from_pylist([row(), row(slug="b")]))
    emit(lines, None)

    assert list(lines[0]) == ["id", "slug", "prompt", "answer", "nodes", "edges"]
    assert lines[0]["prompt"].startswith("The capital of")
    assert len(lines[0]["prompt"]) == 32
    assert lines[0]["answer"] == "Sacramento"
    assert left_out == []
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert SLUG in printed[1]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_graphs_of_several_models_fit_the_screen(width):
    traced = row(
        slug="sum-3-4-a",
        model="circuit-atlas-demo",
        correct=True,
        task="sum",
        concept="3+4",
        replacement=0.87342,
        completeness=0.9591,
        target="7 - 8",
    )

    lines, left_out = graphs_for_people(pa.Table.from_pylist([traced, row()]), width)

    longest = [max(len(name), *(len(str(line[name])) for line in lines)) for name in lines[0]]
    assert sum(longest) + 2 * len(longest) - 2 <= width or "model" in left_out
    assert left_out[0] == "edges"
    assert lines[1]["slug"] == SLUG
    assert lines[0]["target"] == "7 - 8"


def test_a_screen_breaks_between_words_only(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")

    emit([{"slug": SLUG, "other": SLUG[::-1], "text": "some words that may go to another line"}], None)

    printed = capsys.readouterr().out
    assert SLUG in printed
    assert SLUG[::-1] in printed
    assert len(printed.splitlines()) > 2


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"kind": "top", "mass": 0.95, "max_logits": 10, "position": LAST}, None),
        ({"kind": "top", "mass": 0.5, "max_logits": 3, "position": 2}, "top @2"),
        ({"kind": "difference", "position": LAST, "difference": ["7", " 8"]}, "7 - 8"),
        ({"kind": "difference", "position": LAST, "difference": [17, 18]}, "17 - 18"),
        ({"kind": "strings", "position": 2, "strings": ["five"]}, "five @2"),
        ({"kind": "vector", "position": LAST, "vector": [1.0]}, "vector"),
        (None, None),
    ],
)
def test_a_target_is_named_where_it_is_not_the_default(targets, said):
    circuit = make_circuit(seed=1)
    identity = {k: v for k, v in circuit.identity.items() if k != "targets"} | ({"targets": targets} if targets else {})
    store = Memory([replace(circuit, identity=identity)])

    assert _targets(store, [1]).get(1) == said


def test_a_target_after_generated_tokens_is_named_with_its_place():
    circuit = make_circuit(seed=1)
    targets = {"kind": "top", "mass": 0.95, "max_logits": 10, "position": LAST}
    store = Memory([replace(circuit, identity=circuit.identity | {"targets": targets, "prompt_length": LAST - 1})])

    assert _targets(store, [1]) == {1: f"top @{LAST}"}


def test_tokens_are_named_by_their_text():
    circuit = make_circuit(seed=1)
    identity = circuit.identity | {"targets": {"kind": "tokens", "position": LAST, "tokens": [1]}}
    store = Memory([replace(circuit, identity=identity)])
    texts = circuit.nodes.take(circuit.nodes.kind == "logit").text

    assert sorted(_targets(store, [1])[1].split(", ")) == sorted(text.strip() for text in texts)
