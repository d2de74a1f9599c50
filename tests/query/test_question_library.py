"""The headers say what the texts do."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from atlas.errors import QuestionError
from query import answers, examples
from query.header import parameters_of
from query.library import library, load, question, questions_markdown
from tests.factory import make_circuit
from tests.query.world import Memory

HEADER = """\
-- name: small
-- asks: Which graphs are there?
-- group: Graphs
-- engine: neo4j
-- empty: None.
-- parameter task (text; optional): Only this
--   task.
-- parameter limit (integer 1..; default 5): Most rows.
-- column slug (text): Its name.
"""
TEXT = "SELECT slug FROM graph WHERE ($task IS NULL OR task = $task) ORDER BY slug LIMIT $limit\n"
NAMES = [
    "feature-occurrences",
    "recurring-features",
    "recurring-edges",
    "shared-features",
    "image-to-logit",
    "modality-by-layer",
    "strongest-paths",
    "graph-similarity",
]


def is_of(kind: str, found: pa.DataType) -> bool:
    if kind in {"texts", "numbers"}:
        return pa.types.is_list(found) and is_of({"texts": "text", "numbers": "number"}[kind], found.value_type)
    tests = {
        "text": pa.types.is_string(found),
        "integer": pa.types.is_integer(found),
        "boolean": pa.types.is_boolean(found),
        "number": pa.types.is_floating(found) or pa.types.is_integer(found),
    }
    return tests[kind]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        suffix = name.split("_")[1]
        (folder / suffix).mkdir(exist_ok=True)
        (folder / suffix / f"small.{suffix}").write_text(text)
    return folder


def test_the_first_eight_questions_are_there():
    assert set(NAMES) <= set(library())


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_declared_are_the_columns_returned(name):
    asked = question(name)
    text = asked.texts["duckdb"]
    values = {p.name: p.default for p in asked.parameters if p.name in parameters_of(text)}

    found = Memory([]).arrow(text, values).schema

    assert found.names == [column.name for column in asked.columns]
    assert [c.name for c in asked.columns if not is_of(c.type, found.field(c.name).type)] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_smaller_limit_gives_the_first_rows(name):
    store = Memory([make_circuit(seed=seed, n_layers=3, n_latents=12) for seed in range(3)])
    given = examples.fill(question(name), examples.values(store))
    given |= {p.name: None for p in question(name).parameters if not p.required}

    everything = answers.run(store, answers.bind(store, question(name), given | {"limit": 1000}))
    few = answers.run(store, answers.bind(store, question(name), given | {"limit": 2}))

    assert few.to_pylist() == everything.slice(0, 2).to_pylist()


@pytest.mark.parametrize("name", NAMES)
def test_examples_have_an_answer(name):
    store = Memory([make_circuit(seed=seed, n_layers=3, n_latents=12, slug="same") for seed in range(4)])
    asked = question(name)
    given = examples.fill(asked, examples.values(store))

    assert answers.run(store, answers.bind(store, asked, given)).num_rows
    required = {p.name: given[p.name] for p in asked.parameters if p.required}
    assert answers.run(store, answers.bind(store, asked, required)).num_rows


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_atlas_has_no_examples_but_the_defaults(name):
    given = examples.fill(question(name), examples.values(Memory([])))

    assert given == {p.name: p.default for p in question(name).parameters}


def test_every_example_key_is_known():
    known = examples.values(Memory([make_circuit(seed=1)]))

    assert {p.example for q in library().values() for p in q.parameters if p.example} <= set(known)


def test_a_header_is_read_with_its_continued_lines(tmp_path):
    asked = load(write(tmp_path, a_sql=HEADER + "\n" + TEXT))["small"]

    assert asked.texts == {"duckdb": TEXT}
    assert (asked.engine, asked.asks) == ("neo4j", "Which graphs are there?")
    assert asked.parameters[0].doc == "Only this task."
    assert (asked.parameters[1].least, asked.parameters[1].default) == (1, 5)


def test_the_header_may_stand_in_the_cypher_text(tmp_path):
    cypher = "MATCH (g:Graph) WHERE $task IS NULL OR g.task = $task RETURN g.slug AS slug ORDER BY slug LIMIT $limit\n"
    header = re.sub("^--", "//", HEADER, flags=re.MULTILINE)

    asked = load(write(tmp_path, a_cypher=header + "\n" + cypher, a_sql="-- how\n" + TEXT))["small"]

    assert asked.texts == {"duckdb": "-- how\n" + TEXT, "neo4j": cypher}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("$task IS", "$tsk IS", "tsk"),
        ("($task IS NULL OR task = $task)", "true", "unused"),
        ("-- asks: Which graphs are there?\n", "", "no line for asks"),
        ("-- name: small", "-- name: large", "large"),
        ("-- engine: neo4j", "-- engine: sqlite", "sqlite"),
        ("task (text; optional)", "task (word; optional)", "task"),
        ("task (text; optional)", "task (text; perhaps)", "perhaps"),
        ("slug (text)", "slug (string)", "slug"),
        ("default 5", "default five", "five"),
        ("-- column slug (text): Its name.\n", "-- column slug (text): Its name.\n" * 2, "twice"),
        ("-- empty: None.", "-- nonsense", "nonsense"),
    ],
)
def test_a_broken_header_is_refused(tmp_path, old, new, says):
    text = HEADER + "\n" + TEXT
    assert old in text

    with pytest.raises(QuestionError, match=says):
        load(write(tmp_path, a_sql=text.replace(old, new)))


def test_a_parameter_may_not_shadow_an_option_of_the_command(tmp_path):
    text = (HEADER + "\n" + TEXT).replace("parameter task", "parameter engine").replace("$task", "$engine")

    with pytest.raises(QuestionError, match="engine"):
        load(write(tmp_path, a_sql=text))


def test_one_header_is_wanted_not_two_and_not_none(tmp_path):
    header = re.sub("^--", "//", HEADER, flags=re.MULTILINE)

    with pytest.raises(QuestionError, match="2 headers"):
        load(write(tmp_path, a_sql=HEADER + "\n" + TEXT, a_cypher=header + "\nMATCH (g) RETURN $task, $limit"))
    (tmp_path / "cypher" / "small.cypher").unlink()
    with pytest.raises(QuestionError, match="0 headers"):
        load(write(tmp_path, a_sql=TEXT))


def test_the_page_of_questions_is_current():
    page = Path(__file__).parents[2] / "docs" / "questions.md"

    assert page.read_text() == questions_markdown(), "run `make docs`"
