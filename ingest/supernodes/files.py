"""Supernodes as a file: {name: ["layer/index", ...]}, the supernodes of one transcoder set."""

import json
from pathlib import Path
from typing import Any

from atlas.artefact.notes import read_notes
from atlas.config import Home
from atlas.domain.note import Member
from atlas.errors import InputError, NotFoundError
from atlas.interop.aside import write_aside
from ingest.notes import known_features, one_set, supernode_name

_EXPECTED = '{"name": ["layer/index", ...], ...}'


def read_members(home: Home, path: Path, set_name: str | None) -> list[Member]:
    """Keys of all features of the supernodes in a file. Raises InputError for what is no such file, NotFoundError for
    a feature that no graph saw; then nothing of the file counts."""
    named = _read(path)
    texts = [text for features in named.values() for text in features]
    transcoders, features = known_features(home, texts, set_name)
    found = dict(zip(texts, features, strict=True))
    return [Member(transcoders, name.strip(), found[text]) for name, own in named.items() for text in own]


def write_supernodes(home: Home, path: Path, set_name: str | None) -> int:
    """Write the supernodes of one transcoder set to a file, replacing what is there; how many.

    Raises NotFoundError if there is none, or if several sets have some and none is named.
    """
    there = read_notes(home).supernodes()
    if not there:
        raise NotFoundError("there is no supernode", "one at least", "Make some: see `atlas supernode --help`")
    transcoders = one_set(home, sorted({node.transcoders for node in there}), set_name, "supernodes")
    own = {node.name: [str(f) for f in node.features] for node in there if node.transcoders == transcoders}
    write_aside(path, (json.dumps(own, ensure_ascii=False, indent=1) + "\n").encode())
    return len(own)


def _read(path: Path) -> dict[str, list[str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", "a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON of supernodes ({_first_line(error)})", _EXPECTED) from error
    if not isinstance(found, dict) or not found:
        raise InputError(f"{path} holds {_kind(found)}", _EXPECTED)
    for name, features in found.items():
        _check_name(path, name)
        if not isinstance(features, list) or not features or not all(isinstance(text, str) for text in features):
            raise InputError(
                f"{path}: supernode {name!r} holds {_kind(features)}", 'features, as in ["3/1042", "3/77"]'
            )
    return found


def _check_name(path: Path, name: str) -> None:
    try:
        supernode_name(name)
    except InputError as error:
        raise InputError(f"{path} has {error.found}", error.expected) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ, blanks around them aside."""
    names = [name.strip() for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is there twice")
    return dict(pairs)


def _kind(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"{len(value)} entries" if value else "nothing"
    return repr(value)[:40]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
