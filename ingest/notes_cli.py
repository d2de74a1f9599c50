"""Commands that note what people say of features and nodes: supernode, label, pin. The file first, then the stores."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atlas.options import emit, home_of, home_option, output_options
from ingest.supernode_cli import COMMANDS

if TYPE_CHECKING:
    from atlas.config import Home
    from atlas.domain.note import Note

_SET = "Transcoder set of the feature, by number or name, where several have it."


@click.group()
def supernode() -> None:
    """Group features under a name: they count as one, over all graphs of their transcoder set.

    \b
    atlas supernode add "digit three" 2/1042 3/77
    atlas supernode suggest sum-3-4-a sum-3-4-b --add
    """


for _command in COMMANDS:
    supernode.add_command(_command)


@supernode.command("add")
@click.argument("name")
@click.argument("features", nargs=-1, required=True, metavar="FEATURE...")
@click.option("--set", "set_name", help=_SET)
@home_option
def supernode_add(home: Path | None, name: str, features: tuple[str, ...], set_name: str | None) -> None:
    """Put features into a supernode; it is made if there is none of that name.

    \b
    atlas supernode add "digit three" 2/1042 3/77
    """
    from atlas.domain.note import Note
    from ingest.notes import new_members

    place = home_of(home)
    keys = new_members(place, name, features, set_name)
    _say(place, dict.fromkeys(keys, Note("hand")), f"supernode {keys[0].supernode!r}", "added")


@supernode.command("remove")
@click.argument("name")
@click.argument("features", nargs=-1, metavar="[FEATURE...]")
@click.option("--set", "set_name", help="Transcoder set of the supernode, by number or name, where several have it.")
@home_option
def supernode_remove(home: Path | None, name: str, features: tuple[str, ...], set_name: str | None) -> None:
    """Take features out of a supernode, or all of them; a supernode without features is gone.

    \b
    atlas supernode remove "digit three" 3/77
    """
    from ingest.notes import members_of

    place = home_of(home)
    keys = members_of(place, name, features, set_name)
    _say(place, dict.fromkeys(keys), f"supernode {keys[0].supernode!r}", "removed")


@supernode.command("list")
@home_option
@output_options
def supernode_list(home: Path | None, form: str | None) -> None:
    """List the supernodes with their features.

    \b
    atlas supernode list --json
    """
    from ingest.notes import supernode_rows

    emit(
        supernode_rows(home_of(home)), form, title="Supernodes", empty="no supernode; see `atlas supernode add --help`"
    )


@click.command()
@click.argument("feature", required=False)
@click.argument("text", required=False)
@click.option("--remove", is_flag=True, help="Take the label given here back; that of the graphs shows again.")
@click.option("--set", "set_name", help=_SET)
@home_option
@output_options
def label(
    home: Path | None, feature: str | None, text: str | None, remove: bool, set_name: str | None, form: str | None
) -> None:
    """Give a feature a label, which wins over those that came with graphs; without FEATURE list the labels given.

    \b
    atlas label 3/1042 "reads the second digit"
    atlas label --json
    """
    from atlas.domain.note import Labelled, Note
    from atlas.errors import InputError
    from ingest.notes import given_label, known_features, label_rows

    place = home_of(home)
    if feature is None:
        if remove:
            raise InputError("--remove without FEATURE", "the feature whose label goes", "See them with `atlas label`")
        emit(label_rows(place), form, title="Labels", empty="no label was given here; see `atlas label --help`")
        return
    if (text is not None) == remove:
        found = "TEXT beside --remove" if remove else f"no text for feature {feature}"
        raise InputError(found, "atlas label FEATURE TEXT, or atlas label FEATURE --remove")
    if text is None:
        _say(place, {given_label(place, feature, set_name): None}, f"label of {feature}", "removed")
        return
    transcoders, features = known_features(place, (feature,), set_name)
    _say(place, {Labelled(transcoders, features[0]): Note("hand", text.strip())}, f"label of {feature}", "given")


@click.command()
@click.argument("graph", required=False)
@click.argument("nodes", nargs=-1, metavar="[NODE...]")
@click.option("--remove", is_flag=True, help="Take the pins back.")
@home_option
@output_options
def pin(home: Path | None, graph: str | None, nodes: tuple[str, ...], remove: bool, form: str | None) -> None:
    """Pin nodes of a graph; without NODE list the pins, of one graph or of all.

    GRAPH is an id, a unique prefix of one, or a slug. NODE is kind:layer/index@position, as `atlas show GRAPH` has it.

    \b
    atlas pin 3f2a91 feature:3/1042@17
    atlas pin --json
    """
    from atlas.artefact.names import find_graph
    from atlas.domain.note import Note
    from atlas.errors import InputError
    from ingest.notes import known_nodes, pin_rows

    place = home_of(home)
    if not nodes:
        if remove:
            raise InputError("--remove without NODE", "the nodes whose pins go", "See them with `atlas pin GRAPH`")
        only = None if graph is None else find_graph(place, graph)
        emit(pin_rows(place, only), form, title="Pins", empty="no node is pinned; see `atlas pin --help`")
        return
    assert graph is not None
    keys = known_nodes(place, graph, nodes)
    said = None if remove else Note("hand")
    _say(place, dict.fromkeys(keys, said), f"pins of {keys[0].graph[:12]}", "removed" if remove else "added")


def _say(place: "Home", said: "Mapping[Any, Note | None]", what: str, verb: str) -> None:
    """Write it down, load it, and tell how much of it was new."""
    from atlas.artefact.notes import change_notes
    from ingest.load import load

    changed = change_notes(place, lambda notes: said)
    load(place)
    same = len(said) - len(changed)
    click.echo(f"{what}: {len(changed)} {verb}" + (f", {same} as before" if same else ""), err=True)
