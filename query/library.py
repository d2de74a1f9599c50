"""The library of questions: one text per engine and question, read from files.

    query/sql/NAME.sql         what DuckDB runs; its header lines begin with --
    query/cypher/NAME.cypher   what Neo4j runs; its header lines begin with //

The header (query/header.py) stands once, in either text. Commands, Python, the documentation and the checks are made
from it.
"""

from collections.abc import Iterator
from functools import cache
from itertools import groupby
from pathlib import Path

from atlas.errors import QuestionError
from query.header import SCREEN, Engine, Parameter, Question, parse, split

_FILES: dict[Engine, tuple[str, str, str]] = {"duckdb": ("sql", ".sql", "--"), "neo4j": ("cypher", ".cypher", "//")}


@cache
def library() -> dict[str, Question]:
    """All questions by name, in order of their groups. Raises QuestionError for a header that breaks the rules."""
    return load(Path(__file__).parent)


def question(name: str) -> Question:
    """One question; underscores do for hyphens. Raises QuestionError with the nearest names."""
    found = library().get(name.replace("_", "-"))
    if found is None:
        import difflib

        near = difflib.get_close_matches(name, library(), n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise QuestionError(
            f"no question is named {name!r}", f"one of {', '.join(library())}", f"{hint}See `atlas ask --list`"
        )
    return found


def load(folder: Path) -> dict[str, Question]:
    """Read and check every question under `folder`/sql and `folder`/cypher."""
    files: dict[str, dict[Engine, Path]] = {}
    for engine, (room, suffix, _) in _FILES.items():
        for path in sorted((folder / room).glob(f"*{suffix}")):
            files.setdefault(path.stem, {})[engine] = path
    questions = [_read(name, paths) for name, paths in files.items()]
    return {q.name: q for q in sorted(questions, key=lambda q: (q.group, q.name))}


def questions_markdown() -> str:
    """docs/questions.md: every question with what it takes and gives, from the headers."""
    parts = ["# Questions\n", "Generated from the headers in `query/sql`; `make docs` makes it again.\n"]
    parts.append(_INTRODUCTION.format(screen=SCREEN))
    for group, questions in groupby(library().values(), key=lambda q: q.group):
        parts += [f"## {group}\n", *(line for asked in questions for line in _section(asked))]
    return "\n".join(parts)


_INTRODUCTION = """\
    atlas ask NAME --param value      the answer as a table; --json, --csv and --arrow for programs
    atlas ask NAME --help             what the question takes
    atlas ask NAME ... --show         the text that ran
    atlas ask --list --json           all questions, with examples from the atlas at hand

In Python: `atlas.open(home).ask(NAME, param=value)` returns an Arrow table. A graph is named by its id, a unique prefix
of it, or its slug; a feature by `layer/index`, with `--set` where more than one transcoder set has it.

The default of `--limit` is that of Python, `--json`, `--csv` and `--arrow`; the table for people stops at {screen} rows
unless `--limit` says otherwise.
"""


def _section(asked: Question) -> Iterator[str]:
    yield f"### {asked.name}\n"
    faster = f"; {asked.engine} is the faster one" if len(asked.texts) > 1 else ""
    yield f"{asked.asks} (Runs on {' and '.join(sorted(asked.texts))}{faster}.)\n"
    yield "| parameter | type | default | meaning |\n|---|---|---|---|"
    for p in asked.parameters:
        yield f"| `{p.option}` | {p.expects} | {_default(p)} | {p.doc} |"
    yield "\n| column | type | unit | meaning |\n|---|---|---|---|"
    for c in asked.columns:
        yield f"| `{c.name}` | {c.type} | {c.unit or '-'} | {c.doc} |"
    yield f"\nNo rows: {asked.empty}\n"


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.default, bool):
        return str(parameter.default).lower()
    return "-" if parameter.default is None else f"{parameter.default}"


def _read(name: str, paths: dict[Engine, Path]) -> Question:
    headers: list[tuple[Path, list[str]]] = []
    texts: dict[Engine, str] = {}
    for engine, path in paths.items():
        header, texts[engine] = split(path.read_text(encoding="utf-8"), _FILES[engine][2])
        if header:
            headers.append((path, header))
    if len(headers) != 1:
        raise QuestionError(f"question {name} has {len(headers)} headers", "one, in its SQL or in its Cypher text")
    path, lines = headers[0]
    try:
        parsed = parse(name, lines, texts)
    except ValueError as error:
        raise QuestionError(f"{path.name}: {error}", "a header as query/header.py describes it") from error
    return parsed
