"""The demo prints what the README says, leaves a clean atlas, may be run again, and goes on to the same in Cypher.

All that looks at the demo is in this file, so that it is run once, whatever the number of workers.
"""

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from atlas.artefact.format import graph_folder
from atlas.config import open_home
from atlas.stores.local_neo4j import NEWEST
from ingest.demo.cypher import alike
from query.page import answers_in
from tests.journey.conftest import Demo, Outcome, atlas, here
from tests.neo4j_servers import none_to_be_had

README = Path(__file__).parents[2] / "README.md"
NOTHING_THERE = {
    "duplicate-families",
    "error-fed-features",
    "opposed-duplicates",
    "pinned-nodes",
    "rerun-drift",
    "split-concepts",
    "supernode-circuit",
    "supernode-occurrences",
}
"""What the demo does not have: notes, reruns, pairs of cosine 0.9 or more, features fed mostly by errors."""

ASKED = (
    ("image-to-logit", "--graph", "sum-3-4-a"),
    ("only-in", "--a", "moons-mars-a", "--b", "moons-earth-a"),
    ("recurring-features", "--task", "sum"),
    ("supernode-occurrences", "--supernode", "the 3"),
)
"""What is asked of both engines without Docker."""
KEPT = ("sum-3-4-a", "sum-3-4-b", "moons-mars-a", "moons-earth-a", "words-mars")
"""Graphs that are enough for it."""


def test_it_prints_what_the_readme_says(demo: Demo) -> None:
    block = re.search(r"\$ make demo\n(.*?)\n\$ make test", README.read_text(), re.DOTALL)
    assert block is not None, "the README shows `$ make demo`"
    if "No Neo4j here" in demo.output:
        none_to_be_had("for the demo", demo.output[demo.output.index("No Neo4j here") :])
    said, printed = _lines(block[1]), _lines(demo.output)
    # A last digit may round otherwise on another processor, and two features of one rank may swap; a line may not.
    assert len(said) == len(printed)
    unlike = [(a, b) for a, b in zip(said, printed, strict=True) if a != b]
    assert [_words(a) for a, _ in unlike] == [_words(b) for _, b in unlike], unlike
    assert len(unlike) <= 4, unlike


def test_its_stores_equal_its_artefacts(demo: Demo) -> None:
    done = here("verify", "--json", cwd=demo.cwd)
    assert (done.code, done.rows()) == (0, [])


def test_every_question_answers_with_its_own_example(demo: Demo) -> None:
    listed = here("ask", "--list", "--json", cwd=demo.cwd).rows()
    assert len(listed) >= 24
    for question in listed:
        options = []
        for parameter in question["parameters"]:
            if parameter["required"]:
                options += [f"--{parameter['name'].replace('_', '-')}", str(parameter["example"])]
        done = here("ask", question["name"], *options, "--json", cwd=demo.cwd)
        assert done.code == 0, (question["name"], done.err)
        assert bool(done.rows()) == (question["name"] not in NOTHING_THERE), (question["name"], options)


def test_the_page_of_questions_shows_the_answers(demo: Demo) -> None:
    shown = answers_in((README.parent / "docs" / "questions.md").read_text())
    assert len(shown) >= 20
    for command, said in shown.values():
        done = here(*shlex.split(command)[1:], cwd=demo.cwd)
        unlike = [(a, b) for a, b in zip_longest(_lines(said), _lines(done.out), fillvalue="") if a != b]
        assert [_words(a) for a, _ in unlike] == [_words(b) for _, b in unlike], command
        assert len(unlike) <= 1, (command, unlike)  # a last digit may round otherwise on another processor


def test_it_may_be_run_again(demo: Demo) -> None:
    before = {path: path.stat().st_mtime_ns for path in (demo.cwd / "atlas-home" / "artefacts" / "graph").glob("*/*/*")}
    done = atlas("demo", cwd=demo.cwd)
    after = {path: path.stat().st_mtime_ns for path in (demo.cwd / "atlas-home" / "artefacts" / "graph").glob("*/*/*")}
    assert done.code == 0, done.err
    assert _lines(done.out) == _lines(demo.output)
    assert before == after


def test_the_drawing_is_a_picture_and_a_document(demo: Demo) -> None:
    folder = demo.cwd / "atlas-home" / "demo"
    with Image.open(folder / "sum-3-4-a.png") as picture:
        assert picture.width >= 1000
    tree = ElementTree.parse(folder / "sum-3-4-a.svg")
    assert tree.getroot().tag.endswith("svg")


def test_delete_and_rebuild(demo: Demo, tmp_path: Path) -> None:
    home = tmp_path / "copy"
    shutil.copytree(demo.cwd / "atlas-home", home)
    question = ("ask", "recurring-features", "--json", "--home", home)
    before = here(*question, cwd=tmp_path).rows()
    assert here("rebuild", "--home", home, cwd=tmp_path).code == 0
    assert here(*question, cwd=tmp_path).rows() == before
    assert here("delete", "words-mars", "--home", home, cwd=tmp_path).code == 0
    slugs = {row["slug"] for row in here("list", "--json", "--home", home, cwd=tmp_path).rows()}
    assert "words-mars" not in slugs
    assert "words-3-4" in slugs
    assert here("verify", "--home", home, cwd=tmp_path).code == 0


@pytest.fixture
def place(demo: Demo, tmp_path: Path) -> Iterator[Path]:
    """A copy of some of the demo's graphs, without what it left of its server; no server runs afterwards."""
    home = tmp_path / "atlas-home"
    shutil.copytree(demo.cwd / "atlas-home", home, ignore=shutil.ignore_patterns("neo4j"))
    for row in here("list", "--json", cwd=tmp_path).rows():
        if row["slug"] not in KEPT:
            shutil.rmtree(graph_folder(open_home(home), row["id"]))
    assert here("load", cwd=tmp_path).code == 0
    yield tmp_path
    atlas("neo4j", "stop", cwd=tmp_path)


def test_from_no_docker_to_the_same_answers_in_cypher(place: Path) -> None:
    run = _runner(place)
    assert "pending" in run("status").out
    started = atlas("neo4j", "start", cwd=place)
    if started.code:
        none_to_be_had(NEWEST, started.err)
    password = (place / "atlas-home" / "neo4j" / "password").read_text().strip()
    assert "already" in run("neo4j", "start").out

    run("supernode", "add", "the 3", "0/310", "0/203")
    run("load")
    assert run("verify", "--json").rows() == []

    for question in ASKED:
        sql, cypher = (run("ask", *question, "--engine", engine, "--json").rows() for engine in ("duckdb", "neo4j"))
        assert sql, question
        assert alike(sql, cypher), question

    counted = run("cypher", "MATCH (g:Graph) RETURN count(g) AS graphs", "--json").rows()
    assert counted == [{"graphs": len(run("list", "--json").rows())}]
    refused = here("cypher", "MATCH (n) DETACH DELETE n", cwd=place)
    assert (refused.code, refused.out) == (1, "")

    run("delete", "words-mars")
    assert run("cypher", "MATCH (g:Graph {slug: 'words-mars'}) RETURN g.slug", "--json").rows() == []
    run("rebuild")
    assert run("verify", "--json").rows() == []
    assert {row["state"] for row in run("doctor", "--json").rows()} <= {"ok", "warning"}

    run("neo4j", "stop")
    assert run("ask", *ASKED[0], "--json").rows()
    away = here("ask", *ASKED[0], "--engine", "neo4j", cwd=place)
    assert away.code == 1
    assert "atlas neo4j start" in away.err
    assert password not in open_home(place / "atlas-home").log.read_text()


def _runner(place: Path) -> Callable[..., Outcome]:
    def run(*arguments: str) -> Outcome:
        done = here(*arguments, cwd=place)
        assert done.code == 0, (arguments, done.err)
        return done

    return run


def _lines(text: str) -> list[str]:
    """The lines that say something, without what a clock says."""
    timeless = (re.sub(r"\b\d+ (m?s)\b", r"N \1", line.strip()) for line in text.splitlines())
    kept = (re.sub(" +", " ", line) for line in timeless)  # columns are as wide as the times in them
    return [line for line in kept if line]


def _words(line: str) -> list[str]:
    """A line's words, with its numbers and features masked and columns closed up."""
    return re.sub(r"\d+/\d+|\d+(\.\d+)?", "#", line).split()
