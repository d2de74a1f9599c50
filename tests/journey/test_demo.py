"""The demo prints what the README says, leaves a clean atlas, and may be run again."""

import re
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from tests.journey.conftest import Demo, atlas

README = Path(__file__).parents[2] / "README.md"
QUESTIONS = {
    "feature-occurrences",
    "recurring-features",
    "recurring-edges",
    "shared-features",
    "image-to-logit",
    "modality-by-layer",
    "strongest-paths",
    "graph-similarity",
}


def test_it_prints_what_the_readme_says(demo: Demo) -> None:
    block = re.search(r"\$ make demo\n(.*?)\n\$ make test", README.read_text(), re.DOTALL)
    assert block is not None, "the README shows `$ make demo`"
    said, printed = _lines(block[1]), _lines(demo.output)
    # A last digit may round otherwise on another processor, and two features of one rank may swap; a line may not.
    assert len(said) == len(printed)
    unlike = [(a, b) for a, b in zip(said, printed, strict=True) if a != b]
    assert [_words(a) for a, _ in unlike] == [_words(b) for _, b in unlike], unlike
    assert len(unlike) <= 4, unlike


def test_its_stores_equal_its_artefacts(demo: Demo) -> None:
    done = atlas("verify", "--json", cwd=demo.cwd)
    assert (done.code, done.rows()) == (0, [])


def test_every_question_answers_with_its_own_example(demo: Demo) -> None:
    listed = atlas("ask", "--list", "--json", cwd=demo.cwd).rows()
    assert {question["name"] for question in listed} >= QUESTIONS
    for question in listed:
        options = []
        for parameter in question["parameters"]:
            if parameter["required"]:
                options += [f"--{parameter['name'].replace('_', '-')}", str(parameter["example"])]
        done = atlas("ask", question["name"], *options, "--json", cwd=demo.cwd)
        assert done.code == 0, (question["name"], done.err)
        assert done.rows(), f"{question['name']} {options} has no answer"


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
    import shutil

    home = tmp_path / "copy"
    shutil.copytree(demo.cwd / "atlas-home", home)
    question = ("ask", "recurring-features", "--json", "--home", home)
    before = atlas(*question, cwd=tmp_path).rows()
    assert atlas("rebuild", "--home", home, cwd=tmp_path).code == 0
    assert atlas(*question, cwd=tmp_path).rows() == before
    assert atlas("delete", "words-mars", "--home", home, cwd=tmp_path).code == 0
    slugs = {row["slug"] for row in atlas("list", "--json", "--home", home, cwd=tmp_path).rows()}
    assert "words-mars" not in slugs
    assert "words-3-4" in slugs
    assert atlas("verify", "--home", home, cwd=tmp_path).code == 0


def _lines(text: str) -> list[str]:
    """The lines that say something, without what a clock says."""
    kept = (re.sub(r"\b\d+ s\b", "N s", line.rstrip()) for line in text.splitlines())
    return [line for line in kept if line]


def _words(line: str) -> list[str]:
    """A line's words, with its numbers and features masked and columns closed up."""
    return re.sub(r"\d+/\d+|\d+(\.\d+)?", "#", line).split()
