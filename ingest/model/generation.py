"""What comes after the prompt: tokens appended to it, and the model's own answer."""

from dataclasses import replace

import torch
from torch import Tensor

from ingest.model.inputs import Inputs, Position, greedy
from ingest.model.model import Model


def append_tokens(model: Model, inputs: Inputs, tokens: tuple[int, ...]) -> Inputs:
    """The same prompt with text tokens after it; unchanged without tokens."""
    if not tokens:
        return inputs
    ids = inputs.batch["input_ids"]
    longer = torch.cat([ids, torch.tensor([tokens], device=ids.device)], dim=1)
    batch: dict[str, Tensor] = {**inputs.batch, "input_ids": longer, "attention_mask": torch.ones_like(longer)}
    if "token_type_ids" in batch:
        batch["token_type_ids"] = torch.nn.functional.pad(batch["token_type_ids"], (0, len(tokens)))
    start = len(inputs.positions)
    texts = [str(model.tokenizer.decode([token])) for token in tokens]
    added = [
        Position(start + n, token, text, "text") for n, (token, text) in enumerate(zip(tokens, texts, strict=True))
    ]
    return replace(inputs, batch=batch, positions=[*inputs.positions, *added])


def greedy_answer(model: Model, inputs: Inputs, most: int) -> str:
    """The model's answer to the prompt as text: what stands after it already, then greedy tokens, up to the end of its
    turn, `most` in all."""
    start, length = inputs.prompt_length, inputs.token_ids.shape[0]
    room = min(start + most, model.facts.max_positions) - length
    ids = greedy(model, inputs.batch, room) if room > 0 else inputs.batch["input_ids"]
    return str(model.tokenizer.decode(ids[0, start:].tolist(), skip_special_tokens=True)).strip()
