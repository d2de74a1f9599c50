"""`atlas demo`: two dozen pictures go through the whole house, and the questions a reader came for are answered.

Every answer is what the command beside it prints, told in fewer words; where things stand in a picture is known,
because the demo drew it. Questions are asked through `atlas.open`, as anybody would.
"""

import math
import os
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

import click

import atlas
from atlas.config import Home
from atlas.errors import AtlasError
from atlas.interop import export_graph
from ingest.bookkeeping import JobReport
from ingest.demo.causes import TOP, ablations, swap
from ingest.demo.cypher import CYPHER, QUESTIONS, ask_twice, server
from ingest.demo.scenes import Scene, write_scenes
from ingest.demo.shipped import shipped
from ingest.interventions.case import Laboratory
from ingest.load import load
from ingest.pipeline import TraceSettings
from ingest.progress import bar
from ingest.session import Request, open_tracer, run_ingest

_SUM = "sum-3-4-a"
_MARS, _MARS_TOO, _EARTH = "moons-mars-a", "moons-mars-b", "moons-earth-a"
_COSINE = 0.75
_ROWS = 3
_INDENT = "   "


class Asked:
    """The demo's atlas, and the truth about its pictures."""

    def __init__(self, door: Any, scenes: dict[str, Scene], ids: set[str]) -> None:
        self.door = door
        self.scenes = scenes
        columns = "id, slug, correct, n_nodes, n_edges, n_positions, replacement, completeness, worst_residue"
        rows = door.sql(f"SELECT {columns} FROM graph WHERE source = 'trace' ORDER BY gid").to_pylist()  # noqa: S608
        self.graphs: dict[str, dict[str, Any]] = {row["slug"]: row for row in rows if row["id"] in ids}

    def alike(self, a: str, b: str) -> float:
        """Jaccard of two graphs' features."""
        return float(self.door.ask("graph-similarity", a=a, b=b).to_pylist()[0]["jaccard"])

    def place(self, row: dict[str, Any], slug: str) -> str:
        """What stands where a feature fires: a thing of the picture, the last token, or a word."""
        if row["modality"] == "image":
            return f"the {self.scenes[slug].thing_at(row['row'], row['col'])}"
        last = row["position"] == self.graphs[slug]["n_positions"] - 1
        return "the last token" if last else f"the word {row['token'].strip()!r}"

    def places(self, feature: str, concept: str | None = None) -> str:
        """The two places a feature fires on most over the demo's graphs (of one concept), with counts."""
        seen: Counter[str] = Counter(
            self.place(row, row["slug"])
            for row in self.door.ask("feature-occurrences", feature=feature).to_pylist()
            if row["slug"] in self.scenes and concept in (None, row["concept"])
        )
        most = sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:2]
        return ", ".join(f"{thing} ({count})" for thing, count in most)


def tour(home: Home, out: Path) -> None:
    """Draw, answer, trace, load and ask. Raises AtlasError if the graphs are not what they should be."""
    begin = perf_counter()
    prompts, drawn = write_scenes(out)
    report = _ingest(home, prompts)
    if report.failed:
        raise AtlasError(f"{len(report.failed)} of {len(drawn)} demo pictures failed: {report.failed[0][1]}")
    with bar("load") as watch:
        load(home, watch.count)
    asked = Asked(atlas.open(home.root), {scene.slug: scene for scene in drawn}, set(report.traced + report.present))
    for section in (_answers, _digits, _recurring, _planets, _duplicates):
        section(asked)
    _causes(home)
    _drawing(asked, out)
    _cypher(asked, home)
    click.echo(
        f"\nAll of it took {perf_counter() - begin:.0f} s. The atlas is in {_relative(home.root)}. Look further:"
    )
    click.echo(f"{_INDENT}atlas list | atlas show {_MARS} | atlas ask --list | atlas sql 'SELECT ...'")


def _ingest(home: Home, prompts: Path) -> JobReport:
    request = Request(
        prompts=prompts,
        example=None,
        model=shipped("model"),
        transcoders=shipped("transcoders"),
        device="cpu",
        precision="fp32",
        seed=0,
        settings=TraceSettings(),
    )
    return run_ingest(home, request, open_tracer(request))


def _answers(asked: Asked) -> None:
    _head("Does it answer, and are the graphs right?", "atlas list")
    rows = asked.graphs.values()
    right = sum(bool(row["correct"]) for row in rows)
    nodes, edges = _mean(rows, "n_nodes"), _mean(rows, "n_edges")
    _say(f"{right} of {len(rows)} answers are right. A graph has {nodes:.0f} nodes and {edges:.0f} edges;")
    _say(f"replacement {_mean(rows, 'replacement'):.2f}, completeness {_mean(rows, 'completeness'):.2f};")
    _say(f"every node's edges add up to it within {_power(max(row['worst_residue'] for row in rows))}.")


def _digits(asked: Asked) -> None:
    _head("What carries the digits into the sum?", f"atlas ask image-to-logit --graph {_SUM}")
    scene = asked.scenes[_SUM]
    _table(
        ("feature", "fires on", "reads most from", "share carried", "speaks for"),
        (
            (
                row["feature"],
                asked.place(row, _SUM),
                f"the {scene.thing_at(row['row'], row['col'])}",
                f"{row['carried']:.4f}",
                row["answer"].strip() if row["net"] > 0 else f"not {row['answer'].strip()}",
            )
            for row in asked.door.ask("image-to-logit", graph=_SUM).to_pylist()[:_ROWS]
        ),
    )


def _recurring(asked: Asked) -> None:
    _head("What recurs over renderings?", "atlas ask recurring-features --task sum --concept 3+4 --modality image")
    rows = asked.door.ask("recurring-features", task="sum", concept="3+4", modality="image").to_pylist()
    _table(
        ("feature", "in 3 + 4", "in all graphs", "fires on"),
        (
            (
                row["feature"],
                f"{row['graphs']} of {row['asked']}",
                f"{row['everywhere']} of {len(asked.graphs)}",
                asked.places(row["feature"], "3+4"),
            )
            for row in rows[:_ROWS]
        ),
    )


def _planets(asked: Asked) -> None:
    _head("What do two planets share?", f"atlas ask shared-features --a {_MARS} --b {_EARTH}")
    pair, same, other = (asked.alike(_MARS, slug) for slug in (_EARTH, _MARS_TOO, _SUM))
    rows = asked.door.ask("shared-features", a=_MARS, b=_EARTH).to_pylist()
    seen = sum(row["image_share"] > 0 for row in rows)
    _say(
        f"Mars and Earth share {len(rows)} features (Jaccard {pair:.2f}), {seen} of them on the picture:"
        " asked alike, not drawn alike."
    )
    _say(f"Two pictures of Mars: Jaccard {same:.2f}. Mars and a sum: {other:.2f}.")


def _duplicates(asked: Asked) -> None:
    _head("Which visual features are near-duplicates?", f"atlas duplicates --modality image --cosine {_COSINE}")
    _table(
        ("feature", "and", "cosine", "one fires on", "the other on"),
        (
            (
                row["feature_a"],
                row["feature_b"],
                f"{row['cosine']:.2f}",
                asked.places(row["feature_a"]),
                asked.places(row["feature_b"]),
            )
            for row in asked.door.duplicates(cosine=_COSINE, modality="image").to_pylist()[:_ROWS]
        ),
    )


def _causes(home: Home) -> None:
    laboratory = Laboratory(home)
    seen = ablations(home, laboratory, _SUM)
    with bar("patch"):
        moved = swap(home, laboratory, _EARTH, _MARS)
    _head("Do the edges hold when things change?", f"atlas check {_SUM} --top {TOP}")
    _say(f"{TOP} features taken away one by one; rank correlation of what was predicted with what happened:")
    _table(("predicted by", "all else frozen", "the free model"), seen)
    _head("Do features carry what a picture shows?", f"atlas patch {_EARTH} {_MARS}")
    for line in moved:
        _say(line)


def _drawing(asked: Asked, out: Path) -> None:
    _head("What does one circuit look like?", f"atlas export {_SUM} --to png --out {_SUM}.png")
    for form in ("png", "svg"):
        export_graph(asked.door.graph(_SUM), form, out / f"{_SUM}.{form}")
    _say(f"Drawn with its picture: {_relative(out / _SUM)}.png and .svg")


def _cypher(asked: Asked, home: Home) -> None:
    _head("Does Cypher on Neo4j say the same as SQL on DuckDB?", "atlas neo4j start; atlas load; atlas ask ...")
    try:
        with server(home):
            rows = [ask_twice(asked.door, name, given) for name, given in QUESTIONS]
            graphs = asked.door.cypher(CYPHER).to_pylist()
    except AtlasError as error:
        _say(f"No Neo4j here: {error}")
        return
    _table(("question", "rows", "DuckDB", "Neo4j", ""), rows)
    _say(f'And freely: atlas cypher "{CYPHER}"')
    _say(f"gives {', '.join(row['feature'] for row in graphs)}.")


def _head(question: str, command: str) -> None:
    click.echo(f"\n{question}  ({command})")


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


def _mean(rows: Collection[dict[str, Any]], name: str) -> float:
    return sum(float(row[name]) for row in rows) / len(rows)


def _power(value: float) -> str:
    """The power of ten at or above a small number."""
    return f"1e{math.ceil(math.log10(max(value, 1e-300)))}"


def _relative(path: Path) -> str:
    return os.path.relpath(path)
