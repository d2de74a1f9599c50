"""Rows for people: what fits on a line, columns without a value left out, long names cut."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

_ID_DIGITS = 10
_LONGEST = 44
_PROMPT = 32
_SHORTEST_PROMPT = 12
_SETS = ("set", "set_a", "set_b")

Rows = list[dict[str, Any]]


def for_people(table: pa.Table, *hidden: str) -> Rows:
    """The rows without the hidden columns (a transcoder set is shown where there are several) and the empty ones."""
    rows = table.to_pylist()
    several = len({row[name] for name in _SETS for row in rows if name in row}) > 1
    left_out = {name for name in hidden if not (several and name in _SETS)}
    return _slim([{name: value for name, value in row.items() if name not in left_out} for row in rows])


def graphs_for_people(table: pa.Table, width: int | None = None) -> tuple[Rows, list[str]]:
    """The graphs, a line each, and the columns left out so that a line fits `width` (None: all stay).

    Slugs stay whole, since people copy them; prompts are cut. The model stands there if there are several.
    """
    rows = table.to_pylist()
    several = len({row["model"] for row in rows}) > 1
    lines = _slim([_graph_line(row, several) for row in rows])
    left_out: list[str] = []
    if width is None or not lines:
        return lines, left_out
    for name in _LEAST_WANTED:
        if _line_width(_with_prompts(lines, _SHORTEST_PROMPT)) <= width:
            break
        if name in lines[0]:
            left_out.append(name)
            lines = [{key: value for key, value in line.items() if key != name} for line in lines]
    room = width - _line_width(_with_prompts(lines, _SHORTEST_PROMPT))
    return _with_prompts(lines, _SHORTEST_PROMPT + max(room, 0)), left_out


_LEAST_WANTED = ("edges", "nodes", "compl.", "repl.", "task", "concept", "model")


def _with_prompts(lines: Rows, longest: int) -> Rows:
    return [line | {"prompt": short(line["prompt"], longest)} if "prompt" in line else line for line in lines]


def _graph_line(row: dict[str, Any], with_model: bool) -> dict[str, Any]:
    return {
        "id": row["id"][:_ID_DIGITS],
        "slug": row["slug"],
        **({"model": row["model"]} if with_model else {}),
        "prompt": short(row["prompt"].strip().removeprefix("<bos>"), _PROMPT),
        "answer": None if row["answer"] is None else short(row["answer"], _PROMPT),
        "target": None if row["target"] is None else short(row["target"], _PROMPT),
        "correct": row["correct"],
        "task": row["task"],
        "concept": row["concept"],
        "nodes": row["nodes"],
        "edges": row["edges"],
        "repl.": _digits(row["replacement"]),
        "compl.": _digits(row["completeness"]),
    }


def _digits(score: float | None) -> float | None:
    return None if score is None else round(score, 3)


def _line_width(lines: Rows) -> int:
    return sum(2 + max(len(name), *(len(str(line[name])) for line in lines)) for name in lines[0]) - 2


def graph_sections(page: dict[str, Any]) -> Iterator[tuple[str, Rows]]:
    """One graph in sections: what it is, targets, strongest features, how it was made."""
    names = (
        "id",
        "slug",
        "prompt",
        "answer",
        "target",
        "expected",
        "correct",
        "task",
        "concept",
        "pair",
        "model",
        "transcoders",
        "source",
        "partial",
        "convention",
        "precision",
        "n_positions",
        "n_nodes",
        "n_edges",
        "n_active",
        "replacement",
        "completeness",
        "error_share",
        "bias_share",
        "logit_mass",
        "worst_residue",
    )
    facts: Rows = [{"graph": name, "value": _text(page[name])} for name in names if page[name] is not None]
    kinds = ", ".join(f"{count} {kind}" for kind, count in page["kinds"].items())
    yield "", [*facts, {"graph": "kinds of nodes", "value": kinds}]
    yield "Targets", _slim(page["targets"])
    if page["images"]:
        yield (
            "Images",
            [
                {
                    "image": i["image"],
                    "name": i["name"],
                    "width": i["width"],
                    "height": i["height"],
                    "sha256": i["sha"][:_ID_DIGITS],
                }
                for i in page["images"]
            ],
        )
    yield "Strongest features (graphs: how many keep the feature)", _slim(page["top_features"])
    made: Rows = [{"made with": name, "value": _text(value)} for name, value in sorted(page["provenance"].items())]
    if made:
        yield "Provenance", made


def feature_sections(page: dict[str, Any]) -> Iterator[tuple[str, Rows]]:
    """One feature in sections: what it is, occurrences, tokens, near-duplicates, inputs, outputs."""
    names = ("feature", "label", "transcoders", "model")
    facts: Rows = [{"about": name, "value": _text(page[name])} for name in names if page[name] is not None]
    facts.append({"about": "kept", "value": f"{page['kept']} times, in {page['graphs']} graphs"})
    fired = "not known of imported graphs" if page["fired"] is None else f"{page['fired']} times, before pruning"
    facts.append({"about": "fired", "value": fired})
    if page["image_share"] is not None:
        facts.append({"about": "on image", "value": f"{page['image_share']:.4g} of {_share_of(page)}"})
    yield "", facts
    sections = (
        ("Where it matters most", "occurrences"),
        ("Tokens it fires on", "tokens"),
        ("Near-duplicates", "near_duplicates"),
        ("Strongest inputs (by graphs, then mean share; positive: part of the edges that excite)", "inputs"),
        ("Strongest outputs", "outputs"),
    )
    for title, name in sections:
        if page[name]:
            yield title, _slim([{k: v for k, v in row.items() if k != "graph"} for row in page[name]])


def _share_of(page: dict[str, Any]) -> str:
    if page["fired"] is None:
        return f"the {page['image_share_of']} kept"
    if page["fired"] == page["image_share_of"]:
        return f"the {page['fired']} fired"
    return f"{page['image_share_of']}: fired, and kept in imported graphs"


def short(text: str, longest: int = _LONGEST) -> str:
    """One line of at most that many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _slim(rows: Rows) -> Rows:
    names = list(rows[0]) if rows else []
    kept = [name for name in names if any(row[name] is not None and row[name] != "" for row in rows)]
    return [{name: _cell(name, row) for name in kept} for row in rows]


def _cell(name: str, row: dict[str, Any]) -> Any:
    """Labels are cut; an image's token is always the same word, and long."""
    value = row[name]
    if name == "token" and row.get("modality") == "image":
        return "(patch)"
    return short(value) if isinstance(value, str) and name.startswith("label") else value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    return str(value)
