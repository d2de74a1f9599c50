"""What the model writes while it is changed: greedy, with a KV cache, on prompts with pictures and without.

The prompt's positions are changed when it is read, and whatever the cache keeps of them stays changed; positions after
the prompt are changed where an edit says GENERATED (the published tool cannot generate with a picture, and drops its
cache: specs of arXiv 2602.20330's code).
"""

from collections.abc import Sequence

import torch

from atlas.domain.evidence import Mode
from atlas.errors import InputError
from ingest.interventions.case import Case
from ingest.interventions.edits import Intervention
from ingest.interventions.engine import check_errors, tiled
from ingest.interventions.hooks import changed
from ingest.model.generation import continuations
from ingest.model.inputs import check_length
from ingest.model.precision import precision_of


def generate_changed(
    case: Case, interventions: Sequence[Intervention], *, most: int = 8, mode: Mode = "free"
) -> list[str]:
    """One text for every intervention, up to the end of the turn. In iterative mode the prompt's attention patterns
    stand still; those of the tokens written do not. Raises InputError in frozen mode: nothing of it is known after the
    prompt; and if prompt and text would be longer than the model allows."""
    if mode == "frozen":
        raise InputError("a text in frozen mode", "mode free or iterative: frozen knows the prompt's positions only")
    check_errors(case, interventions)
    check_length(case.model, case.n_positions, most)
    with torch.no_grad(), precision_of(case.model), changed(case, interventions, mode, keep_reads=False):
        found = continuations(case.model, tiled(case, len(interventions)), most)
    return [str(case.model.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in found]
