"""Groups of features that play one part: they read and feed alike, over graphs, and write alike.

    1. profiles   what each feature reads and feeds, without positions, added up over the graphs     profiles.py
    2. clusters   average linkage of the profiles' cosine and the cosine of what is written         clusters.py
    3. names      from what the members have in common                                              naming.py

Features that are in a supernode already stay where they are. Equal graphs and settings give equal suggestions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atlas.artefact.notes import read_notes
from atlas.artefact.read import read_manifest, read_table, read_vectors
from atlas.config import Home
from atlas.domain.circuit import Edges, Nodes, Positions
from atlas.domain.note import Key, Member, Note, Notes
from atlas.errors import InputError
from atlas.ids import FeatureId
from ingest.supernodes.clusters import clusters
from ingest.supernodes.naming import Facts, free_name, image_share, learn, name_of
from ingest.supernodes.profiles import Profiles, Traced, profiles


@dataclass(frozen=True)
class Settings:
    """How alike features must be."""

    similarity: float = 0.5
    """Least mean similarity of two groups that join, in -1..1."""
    decoder_weight: float = 0.5
    """How much of the similarity is the cosine of what features write; the rest is that of their edges."""
    smallest: int = 2
    """Fewest features of a group."""
    top: int = 1000
    """How many of the most influential features are looked at."""


@dataclass(frozen=True)
class Suggestion:
    """A group that might be a supernode."""

    name: str
    """Made from what its features have in common; new in its transcoder set."""
    transcoders: str
    """Identity of the transcoder set."""
    features: tuple[FeatureId, ...]
    """Its features, sorted."""
    similarity: float
    """Mean similarity of pairs of its features."""
    influence: float
    """Share of a graph's influence that its features have, on average over the graphs."""
    image_share: float
    """Share of that influence on pictures."""
    graphs: int
    """Graphs that keep at least one of its features."""


def suggest(home: Home, graph_ids: Sequence[str], settings: Settings) -> list[Suggestion]:
    """Groups over these graphs, the most influential first. Raises InputError for graphs of several sets."""
    transcoders = _one_set(home, graph_ids)
    notes = read_notes(home)
    grouped = {f for node in notes.supernodes() if node.transcoders == transcoders for f in node.features}
    graphs: list[Traced] = []
    facts: dict[FeatureId, Facts] = {}
    labels: dict[FeatureId, str] = {}
    for graph_id in dict.fromkeys(graph_ids):
        nodes, edges = read_table(home, graph_id, Nodes), read_table(home, graph_id, Edges)
        learn(facts, nodes, edges, read_table(home, graph_id, Positions))
        labels |= _labels(nodes)
        graphs.append(Traced(nodes, edges, read_vectors(home, graph_id)))
    labels |= {key.feature: note.text for key, note in notes.labels().items() if key.transcoders == transcoders}
    found = profiles(graphs, settings.top, leave_out=grouped)
    alike = found.similarity(settings.decoder_weight)
    groups = [group for group in clusters(alike, settings.similarity) if len(group) >= settings.smallest]
    groups.sort(key=lambda group: (-found.influence[group].sum(), group))
    taken = {node.name for node in notes.supernodes() if node.transcoders == transcoders}
    suggestions = []
    for group in groups:
        members = [found.features[at] for at in group]
        strongest = max(group, key=lambda at: (found.influence[at], -at))
        name = free_name(name_of(members, facts, labels), found.features[strongest], taken)
        taken.add(name)
        suggestions.append(_suggestion(name, transcoders, group, found, alike, facts, graphs))
    return suggestions


def as_notes(suggestions: Sequence[Suggestion], notes: Notes) -> dict[Key, Note | None]:
    """What is said to accept suggestions; what somebody took back before is not said again."""
    members = (Member(made.transcoders, made.name, feature) for made in suggestions for feature in made.features)
    return {member: Note("suggestion") for member in members if member not in notes.said}


def _suggestion(
    name: str,
    transcoders: str,
    group: list[int],
    found: Profiles,
    alike: np.ndarray,
    facts: dict[FeatureId, Facts],
    graphs: Sequence[Traced],
) -> Suggestion:
    members = tuple(found.features[at] for at in group)
    inside = alike[np.ix_(group, group)]
    return Suggestion(
        name=name,
        transcoders=transcoders,
        features=members,
        similarity=float(inside[np.triu_indices(len(group), 1)].mean()) if len(group) > 1 else 1.0,
        influence=float(found.influence[group].sum()),
        image_share=image_share(members, facts),
        graphs=sum(bool(set(members) & _features(graph.nodes)) for graph in graphs),
    )


def _features(nodes: Nodes) -> set[FeatureId]:
    kept = nodes.take(nodes.kind == "feature")
    return {FeatureId(*pair) for pair in zip(kept.layer.tolist(), kept.index.tolist(), strict=True)}


def _labels(nodes: Nodes) -> dict[FeatureId, str]:
    """Labels that came with an imported graph."""
    named = [row for row in np.flatnonzero(nodes.kind == "feature").tolist() if nodes.label[row]]
    return {FeatureId(int(nodes.layer[row]), int(nodes.index[row])): nodes.label[row] for row in named}


def _one_set(home: Home, graph_ids: Sequence[str]) -> str:
    sets = sorted({read_manifest(home, graph_id).transcoders for graph_id in graph_ids})
    if len(sets) > 1:
        raise InputError(
            f"the graphs are of {len(sets)} transcoder sets: {', '.join(sets)}", "graphs of one set: a feature has one"
        )
    return sets[0]
