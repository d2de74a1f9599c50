"""What comes after the prompt: tokens appended to it, tokens the model writes, and its answer."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ingest.model.inputs import Inputs, Position, check_length
from ingest.model.model import Model
from ingest.model.precision import precision_of


def append_tokens(model: Model, inputs: Inputs, tokens: tuple[int, ...]) -> Inputs:
    """The same prompt with text tokens after it; unchanged without tokens. Raises InputError if it becomes too long."""
    if not tokens:
        return inputs
    ids = inputs.batch["input_ids"]
    check_length(model, ids.shape[1], len(tokens))
    longer = torch.cat([ids, torch.tensor([tokens], device=ids.device)], dim=1)
    batch: dict[str, Tensor] = {**inputs.batch, "input_ids": longer, "attention_mask": torch.ones_like(longer)}
    if "token_type_ids" in batch:
        batch["token_type_ids"] = torch.nn.functional.pad(batch["token_type_ids"], (0, len(tokens)))
    start = len(inputs.positions)
    keep: dict[str, Any] = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    texts = [str(model.tokenizer.decode([token], **keep)) for token in tokens]
    added = [
        Position(start + n, token, text, "text") for n, (token, text) in enumerate(zip(tokens, texts, strict=True))
    ]
    return replace(inputs, batch=batch, positions=[*inputs.positions, *added])


def generate(model: Model, inputs: Inputs, count: int) -> Inputs:
    """The prompt with up to `count` greedy tokens after it, fewer if the model ends its turn; the end is left out.

    Raises InputError if prompt and tokens are longer than the model allows.
    """
    if not count:
        return inputs
    check_length(model, inputs.token_ids.shape[0], count)
    return append_tokens(model, inputs, tuple(continuations(model, inputs.batch, count)[0]))


def greedy_answer(model: Model, inputs: Inputs, most: int) -> str:
    """The model's answer as text: up to `most` greedy tokens, up to the end of its turn."""
    room = min(most, model.facts.max_positions - inputs.token_ids.shape[0])
    ids = continuations(model, inputs.batch, room)[0] if room > 0 else []
    return str(model.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def continuations(model: Model, batch: dict[str, Tensor], count: int) -> list[list[int]]:
    """Up to `count` greedy tokens after each of equally long prompts; the end of the turn is left out."""
    from transformers import GenerationConfig

    own = model.hf.generation_config
    ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers has no types here
        max_new_tokens=count,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=own.eos_token_id,
        bos_token_id=own.bos_token_id,
        pad_token_id=own.pad_token_id if own.pad_token_id is not None else 0,
        # a soft token without a picture behind it would break the next forward pass
        suppress_tokens=None if model.facts.placeholder is None else [model.facts.placeholder],
    )
    with torch.no_grad(), precision_of(model):
        ids = model.hf.generate(**batch, generation_config=config)
    return [_until(found, ends) for found in ids[:, batch["input_ids"].shape[1] :].tolist()]


def _until(tokens: list[int], ends: list[int]) -> list[int]:
    """The tokens before the first that ends the turn; what a finished text of a batch is padded with comes after it."""
    return next((tokens[:place] for place, token in enumerate(tokens) if token in ends), tokens)
