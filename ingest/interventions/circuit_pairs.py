"""Which pairs of graphs are asked about, and all of them looked at one after the other."""

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from atlas.artefact.names import find_graph
from atlas.artefact.read import graph_ids, read_description, read_manifest
from atlas.config import Home
from atlas.errors import ArtefactError, InputError, NotFoundError
from ingest.interventions.case import Laboratory
from ingest.interventions.circuit import Report, circuit_of
from ingest.interventions.circuit_search import Search
from ingest.interventions.faithfulness import unlike_lengths
from ingest.progress import bar

Ids = tuple[str, str]
"""Ids of a graph and of its counterfactual."""


def chosen_pairs(home: Home, graphs: Sequence[str], file: Path | None, pair: str | None) -> list[Ids]:
    """The pairs named by two graphs, by the lines of a file, or by a pair's name; exactly one of the three.

    Raises InputError for anything else, for lines that are no pair and for graphs that answer alike, NotFoundError for
    graphs and pairs that are not there.
    """
    if bool(graphs) + (file is not None) + (pair is not None) != 1:
        raise InputError("no pair of graphs, or named in several ways", "GRAPH OTHER, --pairs FILE, or --pair NAME")
    if pair is not None:
        return _named(home, pair)
    if file is not None:
        named = _lines(file)
    elif len(graphs) == 2:
        named = [(graphs[0], graphs[1])]
    else:
        raise InputError(f"{len(graphs)} graphs", "two: GRAPH and OTHER", "Several pairs go with --pairs FILE")
    found = [(find_graph(home, one), find_graph(home, two)) for one, two in named]
    for ids in found:
        _check(home, ids)
    return found


def circuits(
    home: Home, laboratory: Laboratory, pairs: Sequence[Ids], search: Search, controls: int, seed: int
) -> list[Report]:
    """The circuits of all pairs. Raises what Laboratory.ready does before any model runs."""
    for graph in dict.fromkeys(graph for ids in pairs for graph in ids):
        laboratory.ready(graph)
    for ids in pairs:
        _check_lengths(home, ids)
    reports = []
    with bar("circuit", len(pairs), "pairs") as watch:
        for ids in pairs:
            watch.start(" ".join(read_description(home, graph).slug for graph in ids))
            reports.append(
                circuit_of(home, laboratory, ids, search, controls, seed, lambda doing: watch.phase(doing, 0, 1))
            )
            watch.finish("found")
    return reports


def _lines(file: Path) -> list[tuple[str, str]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read ({error})", "a file of JSON lines") from error
    found = [_line(file, number, text) for number, text in enumerate(lines, start=1) if text.strip()]
    if not found:
        raise InputError(f"{file} names no pair", 'lines as {"graph": "sum-3-4-a", "other": "sum-6-2-a"}')
    return found


def _line(file: Path, number: int, text: str) -> tuple[str, str]:
    try:
        record: Any = json.loads(text)
    except ValueError:
        record = None
    graph, other = (record.get("graph"), record.get("other")) if isinstance(record, dict) else (None, None)
    if not isinstance(graph, str) or not isinstance(other, str):
        raise InputError(f"{file}, line {number}: {text[:60]}", '{"graph": "sum-3-4-a", "other": "sum-6-2-a"}')
    return graph, other


def _named(home: Home, pair: str) -> list[Ids]:
    """Every two traced graphs of a pair that answer unlike, both ways round."""
    graphs = [graph for graph in graph_ids(home) if _pair_of(home, graph) == pair]
    if not graphs:
        raise NotFoundError(
            f"no graph that was traced here has the pair {pair!r}", 'a name from "pair" in prompt lines'
        )
    answers = {graph: read_manifest(home, graph).answer for graph in graphs}
    found = [(one, two) for one, two in permutations(graphs, 2) if answers[one] != answers[two]]
    if not found:
        raise InputError(
            f"the {len(graphs)} graphs of pair {pair!r} all answer {answers[graphs[0]]!r}", "unlike answers"
        )
    return found


def _pair_of(home: Home, graph: str) -> str | None:
    try:
        return read_description(home, graph).pair if read_manifest(home, graph).source == "trace" else None
    except ArtefactError:
        return None


def _check(home: Home, ids: Ids) -> None:
    """What can be told of a pair from its graphs alone."""
    one, two = (read_manifest(home, graph) for graph in ids)
    names = " and ".join(read_description(home, graph).slug for graph in ids)
    if (one.model, one.transcoders) != (two.model, two.transcoders):
        raise InputError(f"{names} are of unlike models or transcoder sets", "two graphs of one model and one set")
    if one.answer == two.answer:
        raise InputError(
            f"{names} both answer {one.answer.strip()!r}",
            "two graphs with unlike answers: their difference is what a circuit keeps",
        )


def _check_lengths(home: Home, ids: Ids) -> None:
    lengths = [len(read_manifest(home, graph).identity["token_ids"]) for graph in ids]
    if lengths[0] != lengths[1]:
        raise unlike_lengths(*lengths)
