"""Training text from a prompts file: lines of {"prompt": ..., "images": [...]}, through the model's own processor."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from atlas.errors import InputError
from ingest.model.images import open_image
from ingest.model.inputs import prepare
from ingest.model.model import Model
from ingest.training.data import Batches


def prompt_batches(prompts_file: Path) -> Batches:
    """Batches of one prompt each, in the file's order. Image paths are relative to the file.

    Raises InputError, when iterated, for a line that is not such a prompt or a picture that cannot be opened.
    """

    def batches(model: Model) -> Iterator[Mapping[str, Tensor]]:
        try:
            lines = prompts_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{prompts_file} cannot be read ({error})", "a text file of JSON lines") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                record = _record(line, f"{prompts_file.name} line {number}")
                pictures = [open_image(prompts_file.parent / name) for name in record.get("images", [])]
                yield prepare(model, record["prompt"], pictures, raw=bool(record.get("raw", False))).batch

    return batches


def _record(line: str, place: str) -> dict[str, Any]:
    expected = '{"prompt": TEXT, "images": [FILE, ...]}'
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place} is not JSON ({error})", expected) from error
    if not isinstance(record, dict) or not isinstance(record.get("prompt"), str):
        raise InputError(f"{place} has no prompt", expected)
    images = record.get("images", [])
    if not isinstance(images, list) or not all(isinstance(name, str) for name in images):
        raise InputError(f"{place} has images that are not a list of file names", expected)
    return record
