"""The front door: a table of commands loaded by name, and the only place where an error becomes text and an exit code.

Exit codes: 0 done; 1 an error, said in one line; 2 wrong usage; 3 some inputs failed, the rest is in; 130 interrupted.
"""

import importlib
import sys
import traceback
from typing import NamedTuple

import click

from atlas.errors import AtlasError
from atlas.options import home_option

INTERRUPTED = 130


class Entry(NamedTuple):
    """A command that is not loaded yet."""

    group: str
    """Heading under which --help lists it."""
    module: str
    """Module that holds it."""
    name: str
    """Its name there."""
    line: str
    """Its one line of help."""


_TABLE = {
    "demo": Entry("Make", "ingest.cli", "demo", "See the whole house on the shipped tiny model, offline."),
    "ingest": Entry("Make", "ingest.cli", "ingest", "Trace prompts into attribution graphs and load them."),
    "plan": Entry("Make", "ingest.plan_cli", "plan", "Say how much memory a graph will take, before it is made."),
    "import": Entry("Make", "ingest.cli", "import_", "Read graph files of other tools, raw .pt graphs too."),
    "train": Entry("Make", "ingest.train_cli", "train", "Train transcoders, or the demo model from scratch."),
    "ask": Entry("Ask", "query.cli", "ask", "Answer a question of the library over all graphs."),
    "sql": Entry("Ask", "query.cli", "sql", "Run your own read-only SQL."),
    "cypher": Entry("Ask", "query.cli", "cypher", "Run your own read-only Cypher."),
    "list": Entry("Ask", "query.cli", "list_", "List the graphs."),
    "show": Entry("Ask", "query.cli", "show", "Show one graph or one feature."),
    "similar": Entry("Ask", "query.cli", "similar", "Find the nearest neighbours of a feature."),
    "duplicates": Entry("Ask", "query.cli", "duplicates", "List near-duplicate features."),
    "compare": Entry("Ask", "query.compare_cli", "compare", "Compare graphs: what they share, what only one has."),
    "export": Entry("Ask", "query.cli", "export", "Write a graph for other tools, or draw it."),
    "steer": Entry("Change", "ingest.steer_cli", "steer", "Change features while the model runs; see what it says."),
    "ablate": Entry("Change", "ingest.steer_cli", "ablate", "Take features away while the model runs."),
    "patch": Entry("Change", "ingest.patch_cli", "patch", "Copy a run's features into another, with controls."),
    "check": Entry("Change", "ingest.check_cli", "check", "Compare a graph's edges with what ablations do."),
    "circuit": Entry("Change", "ingest.circuit_cli", "circuit", "Find the smallest circuit that keeps an answer."),
    "supernode": Entry("Note", "ingest.notes_cli", "supernode", "Group features that count as one."),
    "label": Entry("Note", "ingest.notes_cli", "label", "Give a feature a label."),
    "pin": Entry("Note", "ingest.notes_cli", "pin", "Pin nodes of a graph."),
    "load": Entry("Keep", "ingest.cli", "load", "Bring the stores up to date with the artefacts."),
    "rebuild": Entry("Keep", "ingest.cli", "rebuild", "Make the stores again from the artefacts."),
    "verify": Entry("Keep", "ingest.cli", "verify", "Compare the stores with the artefacts, row by row."),
    "delete": Entry("Keep", "ingest.cli", "delete", "Delete a graph, everywhere."),
    "merge": Entry("Keep", "ingest.merge_cli", "merge", "Join another atlas into this one."),
    "gc": Entry("Keep", "ingest.cli", "gc", "Remove left-overs of interrupted jobs."),
    "neo4j": Entry("Keep", "atlas.neo4j_cli", "neo4j", "Run a Neo4j server of your own, without Docker or Java."),
    "status": Entry("Keep", "atlas.status", "status", "Say what is stored, pending and failed."),
    "doctor": Entry("Keep", "atlas.doctor", "doctor", "Check the installation, the home and the Neo4j server."),
    "migrate": Entry("Keep", "atlas.status", "migrate", "Bring the database schema up to date."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and lines without importing them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_TABLE)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        entry = _TABLE.get(name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _TABLE:
            import difflib

            near = difflib.get_close_matches(args[0], _TABLE, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else " See `atlas --help`."
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", context)
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for group in dict.fromkeys(entry.group for entry in _TABLE.values()):
            with formatter.section(group):
                formatter.write_dl([(name, entry.line) for name, entry in _TABLE.items() if entry.group == group])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@home_option
@click.version_option(package_name="circuit-atlas", prog_name="atlas")
def cli(home: object) -> None:
    """Circuit Atlas: why did a vision-language model answer that, over many prompts at once.

    \b
    atlas demo                                       everything once, in two minutes
    atlas ingest --prompt "what is the sum ?" --image sum.png --model DIR --transcoders DIR
    atlas ask recurring-features --task sum
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        code = cli.main(arguments, prog_name="atlas", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except AtlasError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:  # the front door: a fault of ours still ends in one line, with the traceback kept
        click.echo(f"internal error: {type(error).__name__}: {error}", err=True)
        click.echo(f"This is a fault of the atlas. {_keep_traceback()}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _keep_traceback() -> str:
    from atlas.log import log_file

    text, log = traceback.format_exc(), log_file()
    if log is None or not log.parent.is_dir():
        return text
    try:
        with log.open("a") as file:
            file.write(text)
    except OSError:
        return text
    return f"The traceback is in {log}; please report it."
