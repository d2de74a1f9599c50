"""Commands about supernodes that go beyond one note: suggest, graph, score, and files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atlas.options import emit, home_of, home_option, output_options

if TYPE_CHECKING:
    from ingest.supernodes.suggest import Suggestion

_SET = "Transcoder set, by number or name, where several have it."
_FILE = click.Path(path_type=Path, dir_okay=False)
_PEOPLE = 24


@click.command("read")
@click.argument("file", type=_FILE)
@click.option("--set", "set_name", help=_SET)
@home_option
def read(home: Path | None, file: Path, set_name: str | None) -> None:
    """Add the supernodes of a JSON file, {"name": ["layer/index", ...]}; all of it, or nothing if anything is wrong.

    \b
    atlas supernode read groups.json
    """
    from atlas.artefact.notes import change_notes
    from atlas.domain.note import Note
    from ingest.load import load
    from ingest.supernodes.files import read_members

    place = home_of(home)
    members = read_members(place, file, set_name)
    changed = change_notes(place, lambda notes: dict.fromkeys(members, Note("hand")))
    load(place)
    names, same = len({member.supernode for member in members}), len(set(members)) - len(changed)
    click.echo(f"{names} supernodes: {len(changed)} features added" + (f", {same} as before" if same else ""), err=True)


@click.command("write")
@click.argument("file", type=_FILE)
@click.option("--set", "set_name", help=_SET)
@home_option
def write(home: Path | None, file: Path, set_name: str | None) -> None:
    """Write the supernodes to a JSON file that `atlas supernode read` takes, here or in another atlas.

    \b
    atlas supernode write groups.json
    """
    from ingest.supernodes.files import write_supernodes

    count = write_supernodes(home_of(home), file, set_name)
    click.echo(f"wrote {count} supernodes to {file}", err=True)


@click.command("suggest")
@click.argument("graphs", nargs=-1, required=True, metavar="GRAPH...")
@click.option(
    "--similarity",
    type=click.FloatRange(-1, 1),
    default=0.5,
    show_default=True,
    help="Least mean similarity of two groups that join; higher makes more and smaller groups.",
)
@click.option(
    "--decoder-weight",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Weight of what features write in their similarity; the rest is what they read and feed.",
)
@click.option("--smallest", type=click.IntRange(1), default=2, show_default=True, help="Fewest features of a group.")
@click.option("--top", type=click.IntRange(1), default=1000, show_default=True, help="Most influential features taken.")
@click.option("--add", is_flag=True, help="Make supernodes of them.")
@home_option
@output_options
def suggest(home: Path | None, graphs: tuple[str, ...], add: bool, form: str | None, **options: Any) -> None:
    """Suggest groups of features that play one part: they read and feed alike over these graphs, and write alike.

    Features that are in a supernode are left out. The groups are named after what their features have in common: where
    they fire, in which layers, and for which answer.

    \b
    atlas supernode suggest sum-3-4-a sum-3-4-b sum-3-4-c
    atlas supernode suggest sum-3-4-a sum-3-4-b sum-3-4-c --similarity 0.6 --add
    """
    from atlas.artefact.names import find_graph
    from ingest.supernodes.suggest import Settings
    from ingest.supernodes.suggest import suggest as run

    place = home_of(home)
    found = run(place, [find_graph(place, graph) for graph in graphs], Settings(**options))
    people = form is None
    emit(
        [_row(made, people) for made in found],
        form,
        empty="nothing new: what is that alike is in a supernode already; or lower --similarity",
    )
    if add:
        _accept(place, found)


def _row(made: "Suggestion", people: bool) -> dict[str, Any]:
    features = [str(feature) for feature in made.features]
    row = {
        "name": made.name,
        "n_features": len(features),
        "graphs": made.graphs,
        "influence": made.influence,
        "image_share": made.image_share,
        "similarity": made.similarity,
    }
    if people:
        return row | {"features": " ".join(features[:5]) + (" ..." if len(features) > 5 else "")}
    return row | {"features": features, "transcoders": made.transcoders}


def _accept(place: Any, found: "list[Suggestion]") -> None:
    from atlas.artefact.notes import change_notes
    from ingest.load import load
    from ingest.supernodes.suggest import as_notes

    changed = change_notes(place, lambda notes: as_notes(found, notes))
    load(place)
    click.echo(f"{len(found)} supernodes made, {len(changed)} features added", err=True)


@click.command("graph")
@click.argument("graph")
@click.option(
    "--rows",
    type=click.Choice(["links", "groups"]),
    default="links",
    show_default=True,
    help="What --json, --csv and --arrow print.",
)
@click.option("--limit", type=click.IntRange(1), help=f"Most links.  [default: {_PEOPLE} for people, else all]")
@click.option("--out", type=_FILE, help="Draw it, too: a .png or .svg file.")
@home_option
@output_options
def graph(home: Path | None, graph: str, rows: str, limit: int | None, out: Path | None, form: str | None) -> None:
    """Show a graph with its supernodes as nodes: the weights of all edges between two of them, added up.

    What is in no supernode is pooled: other features and errors by modality, image patches, tokens, biases; every
    output stays for itself. A share is part of a group's input, averaged over its nodes by influence; what a link
    carries is the influence on the outputs that runs through it.

    \b
    atlas supernode graph sum-3-4-a
    atlas supernode graph sum-3-4-a --out groups.png
    """
    from atlas.artefact.names import find_graph
    from atlas.figures import picture_format
    from ingest.supernodes.graph import group_rows, link_rows, supernode_graph
    from ingest.supernodes.picture import draw

    if out is not None:
        picture_format(out)
    place = home_of(home)
    made = supernode_graph(place, find_graph(place, graph))
    links = link_rows(made)
    if form is not None:
        emit(links[:limit] if rows == "links" else group_rows(made), form)
    else:
        emit(group_rows(made), None, title="Groups")
        click.echo()
        emit([_ends(link) for link in links[: limit or _PEOPLE]], None, title="Links")
        left = len(links) - (limit or _PEOPLE)
        if left > 0:
            click.echo(f"and {left} smaller ones; --limit shows more", err=True)
    if out is not None:
        click.echo(f"wrote {draw(made, out)}", err=True)


def _ends(link: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in link.items() if not name.endswith("_kind")}


@click.command("score")
@click.argument("graphs", nargs=-1, required=True, metavar="GRAPH...")
@home_option
@output_options
def score(home: Path | None, graphs: tuple[str, ...], form: str | None) -> None:
    """Say how much of a graph the circuit of its supernodes explains, and how much without each of them.

    Replacement is the influence that enters by tokens and pictures over all that enters, completeness the share of
    input that comes from inside the circuit; every feature outside counts as an error. Beside it stand the scores with
    all features that the graph keeps, and of the graph before pruning.

    \b
    atlas supernode score sum-3-4-a
    """
    from atlas.artefact.names import find_graph
    from ingest.supernodes.score import score_rows

    place = home_of(home)
    emit([row for graph in graphs for row in score_rows(place, find_graph(place, graph))], form)


COMMANDS = (suggest, graph, score, read, write)
