"""What can be asked: the questions of the library, by name, over all graphs of an atlas.

ask(home, "shared-features", a="moons-mars-a", b="moons-earth-a")     the answer as an Arrow table
questions(home)                                                       all questions, with examples from this atlas
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from atlas.config import Home
from atlas.errors import QuestionError
from query import answers, examples
from query.header import ENGINES, Engine, Question
from query.library import library, question
from query.line import command
from query.reading import TIMEOUT, reading


class Answered(NamedTuple):
    """An answer with what ran for it."""

    question: Question
    """The question."""
    table: pa.Table
    """Its rows; remarks are in the schema's metadata (query.answers.remarks)."""
    bound: answers.Bound
    """The text that ran and its values."""


def ask(home: Home, name: str, engine: str | None = None, timeout: float = TIMEOUT, **parameters: Any) -> pa.Table:
    """Answer a question of the library.

    Graphs are given by id, prefix or slug, features as layer/index. Raises QuestionError for an unknown question or
    parameter, NotFoundError for a graph or feature that is not there.

    >>> ask(home, "recurring-features", task="sum", concept="3+4")     # doctest: +SKIP
    """
    return answered(home, name, parameters, engine, timeout).table


def answered(
    home: Home, name: str, parameters: Mapping[str, Any], engine: str | None = None, timeout: float = TIMEOUT
) -> Answered:
    """As ask(), with the text that ran."""
    asked = question(name)
    chosen = _engine(asked, engine)
    answers.check(asked, parameters)  # what is wrong with the words is said without opening a store
    with reading(home, timeout) as store:
        bound = answers.bind(store, asked, parameters, chosen)
        return Answered(asked, answers.run(store, bound), bound)


def questions(home: Home | None) -> list[dict[str, Any]]:
    """All questions: name, sentence, group, engine, and parameters with examples from the atlas at hand.

    Without a home, or over an empty one, the examples are the defaults.
    """
    known: dict[str, Any] = {}
    if home is not None:
        with reading(home) as store:
            known = examples.values(store)
    return [_described(asked, known) for asked in library().values()]


def _described(asked: Question, known: dict[str, Any]) -> dict[str, Any]:
    filled = examples.fill(asked, known)
    return {
        "name": asked.name,
        "sentence": asked.asks,
        "group": asked.group,
        "engine": asked.engine if asked.engine in asked.texts else next(iter(asked.texts)),
        "engines": sorted(asked.texts),
        "command": _command(asked, filled, known),
        "parameters": [
            {
                "name": p.name,
                "type": p.type,
                "required": p.required,
                "example": filled[p.name],
                "default": p.default,
                "choices": list(p.choices),
                "meaning": p.doc,
            }
            for p in asked.parameters
        ],
        "columns": [{"name": c.name, "type": c.type, "unit": c.unit, "meaning": c.doc} for c in asked.columns],
    }


def _command(asked: Question, filled: dict[str, Any], known: dict[str, Any]) -> str:
    """A command that has an answer; a feature of several transcoder sets comes with its set."""
    words = command(asked, {p.name: filled[p.name] for p in asked.parameters if filled[p.name] != p.default})
    several = (known.get("sets of feature") or 1) > 1 and any(
        p.required and p.type == "feature" for p in asked.parameters
    )
    return f"{words} --set {known['set']}" if several else words


def _engine(asked: Question, wanted: str | None) -> Engine:
    """The engine to ask. Raises QuestionError for one that is not there."""
    if wanted is None or wanted == "duckdb":
        return "duckdb"
    if wanted in ENGINES:
        raise QuestionError(
            "no Neo4j is configured for this atlas",
            "engine duckdb",
            f"Ask {asked.name} without --engine, or with duckdb",
        )
    raise QuestionError(f"no engine is named {wanted!r}", " or ".join(ENGINES))
