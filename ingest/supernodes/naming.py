"""Names for groups of features, from what they have in common: label, place, layers, and what they speak for."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from atlas.domain.circuit import Edges, Nodes, Positions
from atlas.domain.influence import influence_shares
from atlas.ids import FeatureId

_MOSTLY = 0.8
"""Share of the influence that makes a group one of pictures, or one of words."""
_COMMON = 0.6
"""Share of it that one word must hold to name the group."""
_LONGEST = 24
LAST = "last token"


@dataclass
class Facts:
    """What is known of one feature over some graphs."""

    on_pictures: float = 0.0
    """Influence at image positions."""
    on_words: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Influence at text positions, by token; the last position has a name of its own."""
    speaks: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Signed effect on each logit over all paths kept, in shares, by the logit's text."""


def learn(facts: dict[FeatureId, Facts], nodes: Nodes, edges: Edges, positions: Positions) -> None:
    """Add what one graph says of its features."""
    logits, effects = logit_effects(nodes, edges)
    last = int(positions.position.max(initial=0))
    shares = np.nan_to_num(influence_shares(nodes))
    place = {position: row for row, position in enumerate(positions.position.tolist())}
    for row in np.flatnonzero(nodes.kind == "feature").tolist():
        known = facts.setdefault(FeatureId(int(nodes.layer[row]), int(nodes.index[row])), Facts())
        at = place[int(nodes.position[row])]
        if positions.modality[at] == "image":
            known.on_pictures += float(shares[row])
        else:
            word = LAST if nodes.position[row] == last else quoted(positions.text[at])
            known.on_words[word] += float(shares[row])
        for logit, effect in zip(logits.tolist(), effects[row].tolist(), strict=True):
            known.speaks[quoted(nodes.text[logit] or str(nodes.index[logit]))] += effect


def logit_effects(nodes: Nodes, edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    """(ordinals of the logits [k], float64 [n_nodes, k] effect of each node on each), in signed shares.

    The products of the signed shares along a path, added up over all paths among the edges kept: from the top layer
    down, a node hands on to its sources what it has.
    """
    logits = np.flatnonzero(nodes.kind == "logit")
    effects = np.zeros((len(nodes), len(logits)))
    effects[logits, np.arange(len(logits))] = 1.0
    signed = np.nan_to_num(edges.share).astype(np.float64) * np.sign(edges.weight)
    layer = nodes.layer[edges.target]
    for at in np.unique(layer)[::-1]:
        rows = np.flatnonzero(layer == at)
        np.add.at(effects, edges.source[rows], signed[rows, None] * effects[edges.target[rows]])
    return logits, effects


def name_of(members: Collection[FeatureId], facts: Mapping[FeatureId, Facts], labels: Mapping[FeatureId, str]) -> str:
    """Label most members share, else where they fire; then layers, and the logit they speak for or against most."""
    given = Counter(labels[feature] for feature in members if feature in labels)
    label, count = given.most_common(1)[0] if given else ("", 0)
    lead = label if 2 * count >= len(members) else _place(members, facts)
    return f"{lead}, {layers_of(members)}{_speech(members, facts)}"


def layers_of(members: Collection[FeatureId]) -> str:
    """`layer 3`, or `layers 3-5`."""
    first, last = min(feature.layer for feature in members), max(feature.layer for feature in members)
    return f"layer {first}" if first == last else f"layers {first}-{last}"


def free_name(wanted: str, strongest: FeatureId, taken: Collection[str]) -> str:
    """The name; where it is taken with the group's strongest feature, and after that with a number."""
    name, number = wanted, 1
    while name in taken:
        name = f"{wanted}, as {strongest}" + (f" ({number})" if number > 1 else "")
        number += 1
    return name


def image_share(members: Collection[FeatureId], facts: Mapping[FeatureId, Facts]) -> float:
    """Share of the members' influence that lies on pictures."""
    pictures = sum(facts[feature].on_pictures for feature in members)
    whole = pictures + sum(sum(facts[feature].on_words.values()) for feature in members)
    return pictures / whole if whole > 0 else 0.0


def _place(members: Collection[FeatureId], facts: Mapping[FeatureId, Facts]) -> str:
    share = image_share(members, facts)
    if share >= _MOSTLY:
        return "picture"
    words = _added(facts[feature].on_words for feature in sorted(members))
    word, most = max(words.items(), key=lambda item: (item[1], item[0]), default=("", 0.0))
    text = word if words and most >= _COMMON * sum(words.values()) else "words"
    return text if share <= 1 - _MOSTLY else f"picture and {text}"


def _speech(members: Collection[FeatureId], facts: Mapping[FeatureId, Facts]) -> str:
    total = _added(facts[feature].speaks for feature in sorted(members))
    text, effect = max(total.items(), key=lambda item: (abs(item[1]), item[0]), default=("", 0.0))
    if abs(effect) <= _COMMON * sum(map(abs, total.values())):
        return ""
    return f", {'for' if effect > 0 else 'against'} {text}"


def _added(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = defaultdict(float)
    for part in parts:
        for text, value in part.items():
            total[text] += value
    return total


def quoted(text: str) -> str:
    """A token on one line, its blanks visible only if it is nothing else."""
    shown = text.strip() or text.encode("unicode_escape").decode()
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
