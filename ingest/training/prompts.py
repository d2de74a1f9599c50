"""Training text from a prompts file, through the model's own processor."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from atlas.domain.example import read_prompts
from atlas.errors import InputError
from ingest.model.images import open_image
from ingest.model.inputs import prepare
from ingest.model.model import Model
from ingest.training.data import Batches


def prompt_batches(prompts_file: Path) -> Batches:
    """Batches of one prompt each, in the file's order; see atlas/domain/example.py for its lines.

    Raises InputError, when iterated, for a line that is no prompt or a picture that cannot be opened.
    """

    def batches(model: Model) -> Iterator[Mapping[str, Tensor]]:
        for line in read_prompts(prompts_file):
            if line.example is None:
                raise InputError(f"{prompts_file.name}, line {line.number}: {line.error}")
            pictures = [open_image(path) for path in line.example.images]
            yield prepare(model, line.example.prompt, pictures).batch

    return batches
