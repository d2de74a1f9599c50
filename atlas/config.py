"""Where an atlas lives on disk: the home folder and the names inside it.

HOME/
  atlas.json          version of the home; written once
  ledger.jsonl        numbers of graphs and transcoder sets; append-only
  artefacts/graph/ab/abcd.../   one immutable folder per graph (the truth)
  artefacts/description/ab/abcd....json   what only describes a graph; may be replaced
  artefacts/failures.jsonl      inputs that could not be traced; append-only
  stores/             projections; `atlas rebuild` makes them again
  log/atlas.log
  tmp/                half-written things; emptied by the next writer
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from atlas.errors import HomeError

HOME_VERSION = 1
HOME_VARIABLE = "ATLAS_HOME"
DEFAULT_HOME = "atlas-home"


@dataclass(frozen=True)
class Home:
    """The folder that holds one atlas, and the paths in it."""

    root: Path
    """Absolute path of the home."""

    @property
    def marker(self) -> Path:
        return self.root / "atlas.json"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger.jsonl"

    @property
    def artefacts(self) -> Path:
        return self.root / "artefacts"

    @property
    def stores(self) -> Path:
        return self.root / "stores"

    @property
    def duckdb(self) -> Path:
        return self.stores / "atlas.duckdb"

    @property
    def vectors(self) -> Path:
        return self.stores / "vectors"

    @property
    def log(self) -> Path:
        return self.root / "log" / "atlas.log"

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"


def home_path(path: str | Path | None = None) -> Path:
    """The home meant: the path given, else ATLAS_HOME, else ./atlas-home."""
    return Path(path or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).absolute()


def open_home(path: str | Path | None = None, create: bool = False) -> Home:
    """Open a home, and make it first if `create`. Raises HomeError."""
    home = Home(home_path(path))
    if not home.marker.exists():
        if not create:
            raise HomeError(
                f"{home.root} holds no atlas",
                "a folder that `atlas ingest`, `atlas import` or `atlas demo` made",
                "Name it with --home DIR or ATLAS_HOME, or make one with `atlas demo`",
            )
        _create(home)
    _check_version(home)
    return home


def _create(home: Home) -> None:
    try:
        _make(home)
    except OSError as error:
        raise HomeError(
            f"{home.root} cannot be made ({error.strerror})",
            "a folder that may be written",
            "Name another with --home DIR",
        ) from error


def _make(home: Home) -> None:
    if home.root.exists() and not home.root.is_dir():
        raise HomeError(f"{home.root} is a file", "a folder", "Name another one with --home DIR")
    strangers = sorted(p.name for p in home.root.iterdir()) if home.root.exists() else []
    known = {"tmp", "log", "artefacts", "stores", "ledger.jsonl"}
    if set(strangers) - known:
        raise HomeError(
            f"{home.root} is not empty and holds no atlas (found {strangers[0]})",
            "an empty or a new folder",
            "Name another one with --home DIR",
        )
    for folder in (home.artefacts, home.stores, home.log.parent, home.tmp):
        folder.mkdir(parents=True, exist_ok=True)
    aside = home.tmp / f"atlas.json.{os.getpid()}"
    aside.write_text(json.dumps({"home_version": HOME_VERSION}) + "\n")
    os.replace(aside, home.marker)


def _check_version(home: Home) -> None:
    try:
        version = json.loads(home.marker.read_text())["home_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HomeError(f"{home.marker} cannot be read ({error})", 'a line {"home_version": 1}') from error
    if not isinstance(version, int) or version > HOME_VERSION:
        raise HomeError(
            f"{home.root} is an atlas home of version {version}",
            f"version {HOME_VERSION} or older",
            "Update circuit-atlas (pip install -U circuit-atlas), or name another home with --home DIR",
        )
