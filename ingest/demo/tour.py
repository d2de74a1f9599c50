"""`atlas demo`: two dozen pictures go through the whole house, and the questions a reader came for are answered.

Every answer is what the command beside it prints, told in fewer words; where things stand in a picture is known,
because the demo drew it. Questions are asked through `atlas.open`, as anybody would.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

import click

import atlas
from atlas.artefact.read import read_circuit
from atlas.config import Home
from atlas.errors import AtlasError
from atlas.interop import export_graph
from ingest.demo.scenes import Scene, write_scenes
from ingest.load import load
from ingest.pipeline import TraceSettings
from ingest.progress import bar
from ingest.session import Request, run_ingest, shipped

_SUM = "sum-3-4-a"
_MARS, _MARS_TOO, _EARTH = "moons-mars-a", "moons-mars-b", "moons-earth-a"
_ROWS = 3
_INDENT = "   "


def tour(home: Home, out: Path) -> None:
    """Draw, answer, trace, load and ask. Raises AtlasError if the graphs are not what they should be."""
    begin = perf_counter()
    prompts, drawn = write_scenes(out)
    report = run_ingest(home, _request(prompts))
    if report.failed:
        raise AtlasError(f"{len(report.failed)} of {len(drawn)} demo pictures failed: {report.failed[0][1]}")
    with bar("load") as watch:
        load(home, watch.count)
    door: Any = atlas.open(home.root)
    scenes = {scene.slug: scene for scene in drawn}
    sections: list[Callable[[Any, dict[str, Scene]], None]] = [_answers, _digits, _recurring, _planets, _duplicates]
    for section in sections:
        section(door, scenes)
    _drawing(home, door, out)
    click.echo(f"\nAll of it took {perf_counter() - begin:.0f} s. The atlas is in {_relative(home.root)}. Look further:")
    click.echo(f"{_INDENT}atlas list | atlas show {_MARS} | atlas ask --list | atlas sql 'SELECT ...'")


def _request(prompts: Path) -> Request:
    return Request(
        prompts=prompts, example=None, model=shipped("model"), transcoders=shipped("transcoders"), device="cpu",
        precision="fp32", seed=0, settings=TraceSettings(),
    )


def _answers(door: Any, scenes: dict[str, Scene]) -> None:
    names = ", ".join(f"'{slug}'" for slug in scenes)
    row = door.sql(
        "SELECT count(*) AS n, count(*) FILTER (correct) AS good, avg(n_nodes) AS nodes, avg(n_edges) AS edges,"
        " avg(replacement) AS replacement, avg(completeness) AS completeness, max(worst_residue) AS residue"
        f" FROM graph WHERE slug IN ({names})"  # noqa: S608  # our own slugs, in a read-only sandbox
    ).to_pylist()[0]
    _head("does it answer, and are the graphs right?", "atlas list")
    _say(f"{row['good']} of {row['n']} answers right. A graph has {row['nodes']:.0f} nodes and {row['edges']:.0f} edges.")
    _say(
        f"Replacement {row['replacement']:.2f}, completeness {row['completeness']:.2f};"
        f" every sum of edges closes to {'1e-04' if row['residue'] < 1e-4 else 'no better than 1e-04'}."
    )


def _digits(door: Any, scenes: dict[str, Scene]) -> None:
    _head("what carries the digits into the sum?", f"atlas ask image-to-logit --graph {_SUM}")
    rows = door.ask("image-to-logit", graph=_SUM).to_pylist()
    scene = scenes[_SUM]
    _table(
        ("feature", "fires on", "reads most from", "carried", "supports"),
        (
            (row["feature"], _place(scene, row), scene.thing_at(row["row"], row["col"]), f"{row['carried']:.3f}",
             f"{row['answer'].strip()}" if row["net"] > 0 else f"not {row['answer'].strip()}")
            for row in rows[:_ROWS]
        ),
    )


def _recurring(door: Any, scenes: dict[str, Scene]) -> None:
    _head("what recurs over renderings?", "atlas ask recurring-features --concept 3+4 --task sum")
    rows = door.ask("recurring-features", concept="3+4", task="sum").to_pylist()
    _table(
        ("feature", "in 3 + 4", "in all graphs", "fires on"),
        (
            (row["feature"], f"{row['graphs']} of {row['asked']}", f"{row['everywhere']} of {len(scenes)}",
             _where(door, scenes, row["feature"], "3+4"))
            for row in rows[:_ROWS]
        ),
    )


def _planets(door: Any, scenes: dict[str, Scene]) -> None:
    _head("what do two planets share?", f"atlas ask shared-features --a {_MARS} --b {_EARTH}")
    mars, same, other = (_alike(door, _MARS, slug) for slug in (_EARTH, _MARS_TOO, _SUM))
    _say(
        f"Mars and Earth share {mars['shared']} features of {mars['shared'] + mars['only_a'] + mars['only_b']}"
        f" (Jaccard {mars['jaccard']:.2f}); two pictures of Mars {same['jaccard']:.2f}; Mars and a sum {other['jaccard']:.2f}."
    )
    rows = door.ask("shared-features", a=_MARS, b=_EARTH).to_pylist()
    _table(
        ("feature", "in mars", "in earth", "fires on image"),
        (
            (row["feature"], f"{row['share_a']:.3f}", f"{row['share_b']:.3f}", f"{row['image_share']:.0%}")
            for row in rows[:_ROWS]
        ),
    )


def _duplicates(door: Any, scenes: dict[str, Scene]) -> None:
    _head("which visual features are near-duplicates?", "atlas duplicates --modality image --cosine 0.9")
    rows = door.duplicates(cosine=0.9, modality="image").to_pylist()
    _table(
        ("feature", "and", "cosine", "one fires on", "the other on"),
        (
            (row["a"], row["b"], f"{row['cosine']:.3f}", _where(door, scenes, row["a"]), _where(door, scenes, row["b"]))
            for row in rows[:_ROWS]
        ),
    )


def _drawing(home: Home, door: Any, out: Path) -> None:
    _head("what does one circuit look like?", f"atlas export {_SUM} --to png --out {_SUM}.png")
    circuit = door.graph(_SUM)
    circuit = read_circuit(home, circuit.id)
    for form in ("png", "svg"):
        export_graph(circuit, form, out / f"{_SUM}.{form}")
    _say(f"Drawn with its picture: {_relative(out / _SUM)}.png and .svg")


def _alike(door: Any, a: str, b: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = door.ask("graph-similarity", a=a, b=b).to_pylist()
    return rows[0]


def _place(scene: Scene, row: dict[str, Any]) -> str:
    """Where a carrying feature fires, in words."""
    return f"a patch at position {row['position']}" if row["modality"] == "image" else repr(row["token"])


def _where(door: Any, scenes: dict[str, Scene], feature: str, concept: str | None = None) -> str:
    """The things a feature fires on, most frequent first, over the demo's graphs (of one concept)."""
    seen: Counter[str] = Counter()
    for row in door.ask("feature-occurrences", feature=feature).to_pylist():
        if row["slug"] not in scenes or (concept is not None and row["concept"] != concept):
            continue
        image = row["modality"] == "image"
        seen[scenes[row["slug"]].thing_at(row["row"], row["col"]) if image else repr(row["token"])] += 1
    most = sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:2]
    return ", ".join(f"{thing} ({count})" for thing, count in most)


def _head(question: str, command: str) -> None:
    click.echo(f"\n$ {command}  # {question}")


def _say(text: str) -> None:
    click.echo(f"{_INDENT}{text}")


def _table(names: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    lines = [names, *rows]
    if len(lines) == 1:
        _say("none")
        return
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    for line in lines:
        _say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _relative(path: Path) -> str:
    return os.path.relpath(path)
