"""One line of a prompts file: what to ask, about which pictures, and what describes it.

    {"prompt", "images": [...], "task", "concept", "pair", "expected", "targets", "slug"}

Only `prompt` is required; unknown keys are kept; image paths are relative to the file.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas.errors import InputError

_TEXT_KEYS = ("task", "concept", "pair", "expected", "slug")


@dataclass(frozen=True)
class Example:
    """A prompt with its pictures."""

    prompt: str
    """The text, with or without image markers and turn tokens."""
    images: tuple[Path, ...] = ()
    """Picture files, in the order of their markers."""
    task: str | None = None
    """Group of prompts that ask the same."""
    concept: str | None = None
    """What it is about."""
    pair: str | None = None
    """Name shared by prompts to be compared."""
    expected: str | None = None
    """The right answer."""
    targets: Any = None
    """Which logits to explain (see ingest/attribution/targets.py); None means the job's setting."""
    slug: str | None = None
    """Readable name of the graph; made from the prompt if missing."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Unknown keys, kept."""

    @classmethod
    def from_json(cls, line: str, folder: Path) -> "Example":
        """Parse one line. Raises InputError saying what is wrong with it."""
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"not JSON ({error})", 'one object a line, as in {"prompt": "what is this ?"}') from error
        _refuse_half_characters(record)
        if not isinstance(record, dict):
            raise InputError(f"a JSON {type(record).__name__}", 'an object with "prompt"')
        prompt = record.pop("prompt", None)
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError(f'"prompt" is {prompt!r}', "a text that is not empty")
        images = record.pop("images", None) or []
        if not isinstance(images, list) or not all(isinstance(path, str) for path in images):
            raise InputError(f'"images" is {images!r}', 'a list of file names, as in ["images/a.png"]')
        texts: dict[str, Any] = {}
        for key in _TEXT_KEYS:
            value = record.pop(key, None)
            if isinstance(value, int | float) and not isinstance(value, bool):
                value = str(value)
            if value is not None and not isinstance(value, str):
                raise InputError(f'"{key}" is {value!r}', "a text")
            texts[key] = value
        targets = record.pop("targets", None)
        return cls(prompt, tuple(folder / path for path in images), targets=targets, extra=record, **texts)


@dataclass(frozen=True)
class Line:
    """A line of a prompts file: an example, or the reason why it is none."""

    number: int
    """Line number, from 1."""
    example: Example | None
    """The example, if the line can be read."""
    error: InputError | None
    """Otherwise why not."""


def read_prompts(path: Path) -> Iterator[Line]:
    """Read a prompts file line by line; a broken line is an entry, not an end. Raises InputError without a file."""
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}", "a prompts file (JSON lines)", "See `atlas ingest --help`"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield Line(number, Example.from_json(line.decode(), path.parent), None)
        except UnicodeDecodeError as error:
            yield Line(number, None, InputError(f"not UTF-8 ({error.reason} at byte {error.start})", "UTF-8 text"))
        except InputError as error:
            yield Line(number, None, error)


def _refuse_half_characters(value: Any) -> None:
    """JSON can write half of a surrogate pair, which is no character and has no bytes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"half a character ({error.object[error.start]!r})", "whole Unicode characters") from error
