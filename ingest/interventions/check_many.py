"""Several graphs checked one after the other, what they say together, and their evidence put into the atlas."""

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from atlas.artefact.evidence import read_evidence
from atlas.artefact.names import find_graph
from atlas.artefact.read import graph_ids, read_description, read_manifest, read_table
from atlas.config import Home
from atlas.domain.circuit import Nodes
from atlas.domain.evidence import MODES, Mode
from atlas.errors import InputError, NotFoundError
from ingest.interventions.case import Laboratory
from ingest.interventions.check import Checked, Strength, check_features, check_graph
from ingest.interventions.predict import PREDICTIONS
from ingest.interventions.record import keep
from ingest.progress import bar


def chosen_graphs(home: Home, names: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """Ids of the graphs named, then of those of the tasks that were traced here and have features, each once.

    Raises InputError if nothing is named, NotFoundError for a name or task that is not there.
    """
    if not names and not tasks:
        raise InputError("no graph to check", "GRAPH..., or --task TASK", "`atlas list` names them")
    found = [find_graph(home, name) for name in names]
    for graph in found:
        check_features(graph, read_table(home, graph, Nodes))
    for task in tasks:
        own = [graph for graph in graph_ids(home) if _fits(home, graph, task)]
        if not own:
            raise NotFoundError(f"no graph of task {task!r} that was traced here", "a task of `atlas list`")
        found += own
    return list(dict.fromkeys(found))


def _fits(home: Home, graph: str, task: str) -> bool:
    if read_description(home, graph).task != task or read_manifest(home, graph).source != "trace":
        return False
    return bool((read_table(home, graph, Nodes).kind == "feature").any())


def check_graphs(
    home: Home,
    laboratory: Laboratory,
    graphs: Sequence[str],
    top: int,
    by: Strength,
    modes: tuple[Mode, ...],
    evidence: bool = True,
) -> tuple[list[Checked], int]:
    """Check every graph; what was found, and how many rows of evidence were new.

    Raises what Laboratory.ready and read_evidence do before any model runs. Evidence is kept at the end, for loading
    takes a moment; of an interrupted job that of the graphs done is kept too.
    """
    for graph in graphs:
        laboratory.ready(graph)
    if evidence:
        read_evidence(home)  # a damaged file is told before the work, not after it
    made: list[Checked] = []
    new = 0
    try:
        with bar("check", len(graphs)) as watch:
            for graph in graphs:
                watch.start(read_description(home, graph).slug)
                made.append(check_graph(home, laboratory, graph, top, by, modes))
                watch.finish("checked")
    finally:
        if evidence:
            new = keep(home, [row for checked in made for row in checked.evidence])
    return made, new


def summary_rows(made: Sequence[Checked], modes: Sequence[Mode] = MODES) -> Iterator[dict[str, Any]]:
    """Rank correlations by task and prediction, then over all: median and range over graphs, as text."""
    tasks = list(dict.fromkeys(checked.task for checked in made))
    groups = [(task or "-", [checked for checked in made if checked.task == task]) for task in tasks]
    if len(tasks) > 1:
        groups.append(("all", list(made)))
    for name, group in groups:
        for prediction in PREDICTIONS:
            row: dict[str, Any] = {"task": name, "graphs": len(group), "prediction": prediction}
            yield row | {mode: _spread([checked.correlation(prediction, mode) for checked in group]) for mode in modes}


def _spread(values: list[float]) -> str:
    known = [value for value in values if not math.isnan(value)]  # NaN: fewer than two features
    if not known:
        return "-"
    middle = f"{median(known):.3f}"
    return middle if len(known) == 1 else f"{middle} ({min(known):.3f} to {max(known):.3f})"
