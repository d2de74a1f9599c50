"""Samples to tensors, without the processor's overhead and with exactly its result.

Prompts are padded on the left, as the processor does. With answers, the answer and the end of its turn follow the
prompt and are the only labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ingest.demo.architecture import SOFT_TOKENS, vocabulary
from ingest.demo.world import PixelSample

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Inputs of one forward pass."""

    input_ids: torch.Tensor
    """Int64 [batch, pos]."""
    attention_mask: torch.Tensor
    """Int64 [batch, pos]; 0 on padding."""
    token_type_ids: torch.Tensor
    """Int64 [batch, pos]; 1 on soft image tokens. Leaving it out makes the image block causal, silently."""
    pixel_values: torch.Tensor | None
    """Float32 [image, 3, 112, 112]; None where no sample has a picture."""
    labels: torch.Tensor | None
    """Int64 [batch, pos]: the answer's tokens, -100 elsewhere; None without answers."""

    def inputs(self) -> dict[str, torch.Tensor]:
        """Keyword arguments of the model, without the labels."""
        named = {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "token_type_ids": self.token_type_ids,
            "pixel_values": self.pixel_values,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def answered(self) -> torch.Tensor:
        """The labels of a batch that was made with answers."""
        assert self.labels is not None
        return self.labels

    def with_labels(self) -> dict[str, torch.Tensor]:
        """The inputs and the labels by name."""
        return {**self.inputs(), "labels": self.answered()}

    def answer_span(self) -> int:
        """Positions from the last prompt token on, in the longest answer: as many logits are needed."""
        return int((self.answered() >= 0).int().sum(-1).max()) + 1


def collate(samples: Sequence[PixelSample], answers: bool) -> Batch:
    """Make one batch; ``answers`` appends the right answers and labels them."""
    ids = _ids()
    prompts = [prompt_ids(sample.question, sample.pixels is not None) for sample in samples]
    ends = [answer_ids(sample.answer) if answers else () for sample in samples]
    length = max(len(prompt) + len(end) for prompt, end in zip(prompts, ends, strict=True))
    shape = (len(samples), length)
    tokens = np.full(shape, ids["<pad>"], dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    labels = np.full(shape, IGNORED, dtype=np.int64)
    for row, (prompt, end) in enumerate(zip(prompts, ends, strict=True)):
        start = length - len(prompt) - len(end)
        tokens[row, start:] = prompt + end
        mask[row, start:] = 1
        if end:
            labels[row, -len(end) :] = end
    pictures = [sample.pixels for sample in samples if sample.pixels is not None]
    return Batch(
        input_ids=torch.from_numpy(tokens),
        attention_mask=torch.from_numpy(mask),
        token_type_ids=torch.from_numpy((tokens == ids["<image_soft_token>"]).astype(np.int64)),
        pixel_values=pixel_values(pictures) if pictures else None,
        labels=torch.from_numpy(labels) if answers else None,
    )


def pixel_values(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """Uint8 pictures [112, 112, 3] to float32 [image, 3, 112, 112] in [-1, 1], as the image processor does."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return stacked.float() / 127.5 - 1.0


@lru_cache(maxsize=1 << 14)
def prompt_ids(question: str, picture: bool) -> tuple[int, ...]:
    """Token ids of one user turn with its generation prompt."""
    ids = _ids()
    image = ("\n\n", "<start_of_image>", *["<image_soft_token>"] * SOFT_TOKENS, "<end_of_image>", "\n\n")
    words = question.replace("?", " ?").replace(".", " .").split()
    start: tuple[str, ...] = ("<bos>", "<start_of_turn>", "user", "\n")
    if picture:  # the template's line break and the image's blank line meet: "\n\n\n" splits as "\n\n", "\n"
        start = ("<bos>", "<start_of_turn>", "user", "\n\n", "\n")
    tokens = (*start, *(image[1:] if picture else ()), *words)
    return tuple(ids[token] for token in (*tokens, "<end_of_turn>", "\n", "<start_of_turn>", "model", "\n"))


@lru_cache(maxsize=1 << 10)
def answer_ids(answer: str) -> tuple[int, ...]:
    """Token ids of an answer and the end of its turn."""
    ids = _ids()
    return (*(ids[word] for word in answer.split()), ids["<end_of_turn>"])


@lru_cache(maxsize=1)
def _ids() -> dict[str, int]:
    return vocabulary()
