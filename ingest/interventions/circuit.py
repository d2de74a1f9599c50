"""The smallest circuit of a pair of graphs as a report: its size, what it is made of, and what chance would keep.

A component is one place in the run: a feature or an error at a position, or the embedding of a position. Only those
that differ between the two runs count.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atlas.artefact.read import read_description, read_table
from atlas.config import Home
from atlas.domain.circuit import Nodes
from atlas.ids import EMBEDDING_LAYER, Kind, NodeId
from ingest.interventions.case import Laboratory
from ingest.interventions.circuit_search import Progress, Search, find, kept_by
from ingest.interventions.faithfulness import KINDS, Components, Pair, make_pair
from ingest.interventions.statistics import bootstrap

_FEWEST = 5  # pairs for an interval


@dataclass(frozen=True)
class Part:
    """The components of one kind in one layer on one kind of position."""

    kind: str
    """feature, error or embedding."""
    layer: int
    """Layer; -1 for embeddings."""
    modality: str
    """image or text."""
    kept: int
    """How many are in the circuit."""
    of: int
    """How many there are."""


@dataclass(frozen=True)
class Report:
    """The circuit of one pair."""

    graph: str
    """Id of the graph whose answer is kept."""
    slug: str
    """Its slug."""
    other: str
    """Id of the counterfactual graph."""
    other_slug: str
    """Its slug."""
    answer: str
    """Token that the graph's run says first."""
    rival: str
    """Token that the counterfactual run says first."""
    clean: float
    """Logit of the answer minus logit of its rival, with nothing replaced."""
    replaced: float
    """The same with everything replaced."""
    keep: float
    """Share that was to be kept."""
    kept: float
    """Share that the circuit keeps."""
    components: int
    """What there is to keep or replace."""
    prefix: int
    """Size of the best beginning of the ranking, before it was pruned."""
    nodes: tuple[NodeId, ...]
    """The circuit, sorted; an embedding is a token or an image position."""
    parts: tuple[Part, ...]
    """Its make-up, by kind, layer and modality."""
    graph_size: int
    """How many of the components the pruned graph has as nodes."""
    graph_kept: float
    """What the circuit of those nodes keeps."""
    features_kept: float
    """What all features and embeddings keep, with every error replaced."""
    errors_kept: float
    """What all errors and embeddings keep, with every feature replaced."""
    random: tuple[float, ...]
    """What circuits of the same make-up, drawn at random, keep."""
    curve: tuple[tuple[int, float], ...]
    """(size, kept) of beginnings of the ranking, by size."""

    @property
    def share(self) -> float:
        """Part of all components that is in the circuit."""
        return len(self.nodes) / self.components

    def row(self) -> dict[str, Any]:
        """One object for programs."""
        count: dict[str, int] = dict.fromkeys(KINDS, 0)
        for part in self.parts:
            count[part.kind] += part.kept
        return {
            "graph": self.graph,
            "slug": self.slug,
            "other": self.other,
            "other_slug": self.other_slug,
            "answer": self.answer,
            "rival": self.rival,
            "clean": self.clean,
            "replaced": self.replaced,
            "keep": self.keep,
            "kept": self.kept,
            "size": len(self.nodes),
            "components": self.components,
            "share": self.share,
            "features": count["feature"],
            "errors": count["error"],
            "embeddings": count["embedding"],
            "prefix": self.prefix,
            "graph_size": self.graph_size,
            "graph_kept": self.graph_kept,
            "features_kept": self.features_kept,
            "errors_kept": self.errors_kept,
            "random_kept": sum(self.random) / len(self.random) if self.random else None,
            "random_most": max(self.random, default=None),
            "parts": [vars(part) for part in self.parts],
            "nodes": [str(node) for node in self.nodes],
        }


def circuit_of(
    home: Home,
    laboratory: Laboratory,
    graphs: tuple[str, str],
    search: Search,
    controls: int,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Report:
    """The smallest circuit found that keeps the first graph's answer, with `controls` random ones beside it.

    `graphs` are ids. Raises InputError if the two cannot be a pair, and what Laboratory.case does.
    """
    progress("running both")
    case, other = (laboratory.case(graph) for graph in graphs)
    pair = make_pair(case, other)
    found = find(pair, search, progress)
    progress("random circuits")
    chance = random_circuits(pair, found.members, controls, seed)
    own, kinds = of_nodes(pair, read_table(home, graphs[0], Nodes)), pair.components.kinds
    whole = kept_by(pair, torch.stack([own, kinds != KINDS.index("error"), kinds != KINDS.index("feature")])).tolist()
    words = [case.model.tokenizer.decode([token]).strip() for token in (pair.answer, pair.rival)]
    clean, replaced = pair.bounds
    slugs = [read_description(home, graph).slug for graph in graphs]
    return Report(
        graph=graphs[0],
        slug=slugs[0],
        other=graphs[1],
        other_slug=slugs[1],
        answer=words[0],
        rival=words[1],
        clean=clean,
        replaced=replaced,
        keep=search.keep,
        kept=found.kept,
        components=len(pair.components),
        prefix=found.prefix,
        nodes=tuple(sorted(_nodes(pair, found.members))),
        graph_size=int(own.sum()),
        graph_kept=whole[0],
        features_kept=whole[1],
        errors_kept=whole[2],
        parts=tuple(make_up(pair, found.members)),
        random=tuple(kept_by(pair, chance).tolist()) if controls else (),
        curve=tuple(found.curve),
    )


def random_circuits(pair: Pair, members: Tensor, count: int, seed: int) -> Tensor:
    """[count, C] bool: circuits with as many components of each kind, layer and modality, drawn among all of those."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros(count, len(members), dtype=torch.bool)
    for numbers in _strata(pair).values():
        wanted = int(members[numbers].sum())
        for row in range(count):
            drawn[row, numbers.cpu()[torch.randperm(len(numbers), generator=generator)[:wanted]]] = True
    return drawn.to(members.device)


def of_nodes(pair: Pair, nodes: Nodes) -> Tensor:
    """[C] bool: the components that are nodes of a graph."""
    columns = (nodes.kind.tolist(), nodes.layer.tolist(), nodes.index.tolist(), nodes.position.tolist())
    there = set(map(NodeId, *columns))
    everything = torch.ones_like(pair.components.kinds, dtype=torch.bool)
    return torch.tensor([node in there for node in _nodes(pair, everything)], device=everything.device)


def make_up(pair: Pair, members: Tensor) -> Iterator[Part]:
    """How many components of each kind, layer and modality are in a circuit, and how many there are."""
    for (kind, layer, modality), numbers in _strata(pair).items():
        yield Part(kind, layer, modality, int(members[numbers].sum()), len(numbers))


def summary(reports: Sequence[Report]) -> dict[str, Any]:
    """Means over pairs with 95 % bootstrap intervals; none below five pairs, of which they would say little."""
    values: dict[str, list[float]] = {
        "size": [len(report.nodes) for report in reports],
        "share": [report.share for report in reports],
        "kept": [report.kept for report in reports],
        "graph_kept": [report.graph_kept for report in reports],
        "features_kept": [report.features_kept for report in reports],
        "errors_kept": [report.errors_kept for report in reports],
        "random_kept": [sum(report.random) / len(report.random) for report in reports if report.random],
    }
    row: dict[str, Any] = {"pairs": len(reports), "keep": reports[0].keep}
    for name, numbers in values.items():
        if numbers:
            low, high = bootstrap(numbers) if len(numbers) >= _FEWEST else (None, None)
            row |= {name: sum(numbers) / len(numbers), f"{name}_low": low, f"{name}_high": high}
    return row


def _strata(pair: Pair) -> dict[tuple[str, int, str], Tensor]:
    """(kind, layer, modality) -> numbers of the components, in their order."""
    parts = pair.components
    picture = torch.tensor(
        [place.modality == "image" for place in pair.case.inputs.positions], device=parts.kinds.device
    )
    code = (parts.kinds * (pair.case.model.facts.n_layers + 1) + parts.layers + 1) * 2 + picture[parts.positions]
    found: dict[tuple[str, int, str], Tensor] = {}
    for value in torch.unique(code).tolist():
        numbers = (code == value).nonzero()[:, 0]
        first = numbers[0]
        modality = "image" if value % 2 else "text"
        found[KINDS[int(parts.kinds[first])], int(parts.layers[first]), modality] = numbers
    return found


def _nodes(pair: Pair, members: Tensor) -> Iterator[NodeId]:
    parts: Components = pair.components
    for number in members.nonzero()[:, 0].tolist():
        layer, position = int(parts.layers[number]), int(parts.positions[number])
        kind = KINDS[int(parts.kinds[number])]
        if kind == "embedding":
            place = pair.case.inputs.positions[position]
            own: Kind = "image" if place.modality == "image" else "token"
            yield NodeId(own, EMBEDDING_LAYER, place.token_id, position)
        else:
            yield NodeId(kind, layer, int(parts.indices[number]), position)
