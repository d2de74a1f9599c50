"""Rows for people: what fits on a line, columns without a value left out, long names cut."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

_ID_DIGITS = 10
_LONGEST = 44
_SETS = ("set", "set_a", "set_b")

Rows = list[dict[str, Any]]


def for_people(table: pa.Table, *hidden: str) -> Rows:
    """The rows without the hidden columns (a transcoder set is shown where there are several) and the empty ones."""
    rows = table.to_pylist()
    several = len({row[name] for name in _SETS for row in rows if name in row}) > 1
    left_out = {name for name in hidden if not (several and name in _SETS)}
    return _slim([{name: value for name, value in row.items() if name not in left_out} for row in rows])


def graphs_for_people(table: pa.Table) -> Rows:
    """The graphs, a line each: short ids and prompts; the model only if there are several."""
    rows = table.to_pylist()
    several = len({row["model"] for row in rows}) > 1
    return _slim(
        [
            {
                "id": row["id"][:_ID_DIGITS],
                "slug": row["slug"],
                **({"model": row["model"]} if several else {}),
                "prompt": short(row["prompt"]),
                "answer": row["answer"],
                "correct": row["correct"],
                "task": row["task"],
                "concept": row["concept"],
                "nodes": row["nodes"],
                "edges": row["edges"],
                "replacement": row["replacement"],
                "completeness": row["completeness"],
            }
            for row in rows
        ]
    )


def graph_sections(page: dict[str, Any]) -> Iterator[tuple[str, Rows]]:
    """One graph in sections: what it is, targets, strongest features, how it was made."""
    names = (
        "id",
        "slug",
        "prompt",
        "answer",
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
    names = ("feature", "label", "transcoders", "model", "graphs", "fired", "image_share")
    yield "", [{"about": name, "value": _text(page[name])} for name in names if page[name] is not None]
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


def short(text: str, longest: int = _LONGEST) -> str:
    """One line of at most that many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _slim(rows: Rows) -> Rows:
    names = list(rows[0]) if rows else []
    kept = [name for name in names if any(row[name] is not None for row in rows)]
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
