"""Numbers are given once and for ever, by several processes, through kills; failures likewise."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from atlas.artefact.failures import append_failure, read_failures, settle_failure
from atlas.artefact.format import description_file
from atlas.artefact.ledger import Ledger
from atlas.artefact.names import find_graph
from atlas.artefact.write import write_circuit
from atlas.config import Home, open_home
from atlas.errors import ArtefactError, NotFoundError
from tests.factory import make_circuit


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home", create=True)


def test_numbers_count_from_one_and_stay(home: Home) -> None:
    ledger = Ledger(home)
    assert [ledger.graph_number(name) for name in ("a", "b", "a", "c")] == [1, 2, 1, 3]
    assert ledger.set_number("a") == 1, "graphs and sets count apart"
    assert Ledger(home).numbers("graph") == {"a": 1, "b": 2, "c": 3}
    assert Ledger(home).assign("graph", ["d", "a", "e", "d"]) == {"d": 4, "a": 1, "e": 5}


_WORKER = """
import sys, random
from pathlib import Path
from atlas.config import Home
from atlas.artefact.ledger import Ledger
ledger = Ledger(Home(Path(sys.argv[1])))
names = [f"g{i}" for i in range(40)] + [f"{sys.argv[2]}-{i}" for i in range(20)]
random.Random(sys.argv[2]).shuffle(names)
for name in names:
    print(name, ledger.graph_number(name))
"""


def test_two_processes_never_give_one_number_twice(home: Home) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", _WORKER, str(home.root), name], stdout=subprocess.PIPE, text=True)
        for name in ("x", "y")
    ]
    answers = [dict(line.split() for line in worker.communicate()[0].splitlines()) for worker in workers]
    both = answers[0] | answers[1]
    assert all(answers[0][name] == answers[1][name] for name in answers[0] if name in answers[1])
    assert sorted(map(int, both.values())) == list(range(1, 81))
    assert Ledger(home).numbers("graph") == {name: int(number) for name, number in both.items()}


@pytest.mark.parametrize("torn", ['{"kind": "gra', '{"kind": "graph", "number": 3, "id": "c"}', "\x00\x00"])
def test_a_torn_last_line_is_left_out_and_healed(home: Home, torn: str) -> None:
    ledger = Ledger(home)
    ledger.assign("graph", ["a", "b"])
    with home.ledger.open("a") as file:
        file.write(torn)  # no newline: the writer was killed
    assert ledger.numbers("graph") == {"a": 1, "b": 2}
    assert ledger.graph_number("d") == 3
    assert [json.loads(line)["id"] for line in home.ledger.read_text().splitlines()] == ["a", "b", "d"]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        '{"kind": "graph", "number": 1, "id": "z"}',
        '{"kind": "graph", "number": 9, "id": "a"}',
        '{"kind": "graph", "number": "x", "id": "z"}',
    ],
)
def test_a_damaged_line_is_an_error_and_never_a_new_number(home: Home, line: str) -> None:
    Ledger(home).assign("graph", ["a"])
    with home.ledger.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ArtefactError, match="ledger"):
        Ledger(home).graph_number("b")


def test_failures_are_appended_and_a_torn_line_is_healed(home: Home) -> None:
    assert read_failures(home) == []
    append_failure(home, "ingest", "prompts.jsonl:17", "what\nis this", "not JSON. Expected one object")
    with (home.artefacts / "failures.jsonl").open("a") as file:
        file.write('{"time": "2')
    first = read_failures(home)
    assert [(failure.number, failure.prompt) for failure in first] == [(1, "what\nis this")]
    append_failure(home, job="import", source="g.json", prompt=None, reason="ünreadable")
    second = read_failures(home)
    assert second[:1] == first
    assert second[1].as_row()["source"] == "g.json"


def test_a_failure_counts_once_a_source_until_it_is_settled(home: Home) -> None:
    for source, reason in (("p.jsonl:1", "a"), ("p.jsonl:2", "b"), ("p.jsonl:1", "c")):
        append_failure(home, "ingest", source, None, reason)
    assert [(failure.source, failure.reason) for failure in read_failures(home)] == [
        ("p.jsonl:2", "b"),
        ("p.jsonl:1", "c"),
    ]
    settle_failure(home, "p.jsonl:1")
    assert [failure.number for failure in read_failures(home)] == [2]
    append_failure(home, "ingest", "p.jsonl:1", None, "d")
    assert [failure.number for failure in read_failures(home)] == [2, 5]


def test_a_graph_is_found_by_id_prefix_or_slug(home: Home) -> None:
    circuits = [make_circuit(seed, slug="same" if seed else "first") for seed in range(3)]
    for circuit in circuits:
        write_circuit(home, circuit)
    assert find_graph(home, circuits[1].id) == circuits[1].id
    assert find_graph(home, circuits[1].id[:12]) == circuits[1].id
    assert find_graph(home, "first") == circuits[0].id
    with pytest.raises(NotFoundError, match="2 graphs fit 'same'"):
        find_graph(home, "same")
    for unknown in ("nothing", "", circuits[0].id[:3]):
        with pytest.raises(NotFoundError, match="no graph "):
            find_graph(home, unknown)
    description_file(home, circuits[2].id).write_text("{")
    assert find_graph(home, "first") == circuits[0].id, "a damaged neighbour is in nobody's way"
