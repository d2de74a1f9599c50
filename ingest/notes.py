"""What a person names on the command line, as keys of notes: checked against the graphs and notes there are."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from atlas.artefact.format import graph_folder
from atlas.artefact.ledger import Ledger
from atlas.artefact.names import find_graph
from atlas.artefact.notes import read_notes
from atlas.artefact.read import read_description, read_table
from atlas.config import Home
from atlas.domain.circuit import Nodes
from atlas.domain.note import Labelled, Member, Pinned
from atlas.errors import ArtefactError, InputError, NotFoundError
from atlas.ids import FeatureId, NodeId
from atlas.stores.duck import Duck
from atlas.stores.names import feature_in, listed, set_in

_FEATURE = re.compile(r"(feature:)?[0-9]+/[0-9]+(@.*)?$")


def known_features(home: Home, texts: Sequence[str], set_name: str | None) -> tuple[str, list[FeatureId]]:
    """(transcoder set, features) meant by layer/index, all of one set and seen in some graph.

    Raises InputError for what is no feature, NotFoundError for one that no graph saw or that several sets have.
    """
    with Duck(home).reading() as connection:
        store = _Opened(connection)
        set_number = None if set_name is None else set_in(store, set_name)
        found = [feature_in(store, text, set_number) for text in texts]
    sets = sorted({feature.set_number for feature in found})
    if len(sets) > 1:
        raise NotFoundError(
            f"the features are of {len(sets)} transcoder sets: {', '.join(map(str, sets))}",
            "features of one set",
            "Say which with --set, by number or name",
        )
    return _identity(home, sets[0]), [FeatureId(feature.layer, feature.index) for feature in found]


def new_members(home: Home, name: str, texts: Sequence[str], set_name: str | None) -> list[Member]:
    """Keys of features that join a supernode. Raises InputError for a blank name, and as known_features."""
    name = supernode_name(name)
    transcoders, features = known_features(home, texts, set_name)
    return [Member(transcoders, name, feature) for feature in features]


def supernode_name(text: str) -> str:
    """The name of a supernode without blanks around it. Raises InputError for one that could not be typed as such."""
    name = text.strip()
    if not name:
        raise InputError("a supernode without a name", "a name that is not blank")
    if not name.isprintable() or _FEATURE.match(name):
        raise InputError(f"a supernode named {name!r}", "one line of text that does not look like a feature")
    return name


def known_nodes(home: Home, graph: str, texts: Sequence[str]) -> list[Pinned]:
    """Keys of pins for nodes of a graph. Raises InputError for what is no node, NotFoundError for one not there."""
    graph_id = find_graph(home, graph)
    wanted = [NodeId.parse(text) for text in texts]
    nodes = read_table(home, graph_id, Nodes)
    columns = (nodes.kind.tolist(), nodes.layer.tolist(), nodes.index.tolist(), nodes.position.tolist())
    present = set(zip(*columns, strict=True))
    for node in wanted:
        if (node.kind, node.layer, node.index, node.position) not in present:
            raise NotFoundError(
                f"graph {graph_id[:12]} has no node {node}",
                "one of its nodes, kind:layer/index@position",
                f"See `atlas show {graph_id[:12]}`",
            )
    return [Pinned(graph_id, node) for node in wanted]


def members_of(home: Home, name: str, texts: Sequence[str], set_name: str | None) -> list[Member]:
    """Keys of the features of a supernode: those named, else all. Raises NotFoundError for what is not there."""
    name = name.strip()
    there = read_notes(home).supernodes()
    fits = [supernode for supernode in there if supernode.name == name]
    if not fits:
        names = listed(sorted({supernode.name for supernode in there})) or "none"
        raise NotFoundError(f"no supernode is named {name!r}; there are: {names}", "the name of a supernode")
    transcoders = one_set(home, [supernode.transcoders for supernode in fits], set_name, f"supernode {name!r}")
    features = next(supernode.features for supernode in fits if supernode.transcoders == transcoders)
    wanted = [FeatureId.parse(text) for text in texts] or list(features)
    for feature in wanted:
        if feature not in features:
            raise NotFoundError(
                f"feature {feature} is not in supernode {name!r}", f"one of {listed([str(f) for f in features])}"
            )
    return [Member(transcoders, name, feature) for feature in wanted]


def given_label(home: Home, text: str, set_name: str | None) -> Labelled:
    """Key of the label given here to a feature. Raises InputError, NotFoundError."""
    feature = FeatureId.parse(text)
    sets = [key.transcoders for key in read_notes(home).labels() if key.feature == feature]
    if not sets:
        raise NotFoundError(f"no label was given here to {feature}", "a feature with one", "See `atlas label`")
    return Labelled(one_set(home, sets, set_name, f"the label of {feature}"), feature)


def supernode_rows(home: Home) -> list[dict[str, Any]]:
    """The supernodes, by set and name."""
    return [
        {
            "name": supernode.name,
            "features": [str(feature) for feature in supernode.features],
            "source": supernode.source,
            "transcoders": supernode.transcoders,
        }
        for supernode in read_notes(home).supernodes()
    ]


def label_rows(home: Home) -> list[dict[str, Any]]:
    """The labels given here, by set and feature."""
    return [
        {"feature": str(key.feature), "label": note.text, "source": note.source, "transcoders": key.transcoders}
        for key, note in read_notes(home).labels().items()
    ]


def pin_rows(home: Home, graph_id: str | None) -> list[dict[str, Any]]:
    """The pins of one graph, or of all, also of graphs that are not there any more."""
    return [
        {"graph": key.graph, "slug": _slug(home, key.graph), "node": str(key.node), "source": note.source}
        for key, note in read_notes(home).pins().items()
        if graph_id is None or key.graph == graph_id
    ]


class _Opened:
    """A store that is opened once for many look-ups."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def arrow(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Run a text and return all rows."""
        return self._connection.execute(sql, parameters).to_arrow_table()


def one_set(home: Home, sets: Sequence[str], set_name: str | None, what: str) -> str:
    """The transcoder set meant, of those that have a thing. Raises NotFoundError where it is not one."""
    if set_name is not None:
        wanted = _identity(home, set_in(Duck(home), set_name))
        if wanted in sets:
            return wanted
        raise NotFoundError(f"{what} is not in set {wanted}", f"one of {listed(list(sets))}")
    if len(sets) > 1:
        raise NotFoundError(
            f"{what} exists in {len(sets)} transcoder sets: {listed(list(sets))}",
            "one set",
            "Say which with --set, by number or name",
        )
    return sets[0]


def _identity(home: Home, set_number: int) -> str:
    """Identity of the transcoder set of this number."""
    return next(name for name, number in Ledger(home).numbers("set").items() if number == set_number)


def _slug(home: Home, graph_id: str) -> str | None:
    if not graph_folder(home, graph_id).exists():
        return None
    try:
        return read_description(home, graph_id).slug
    except ArtefactError:
        return None
