"""The auxiliary loss that teaches the vision tower: each soft token should point at the word it shows.

The classifier is the language model's own embedding table (words of the world, and colour words), with one extra
vector for "nothing", which is thrown away after training. So a picture of Mars and the word "mars" meet near one
direction before any question is asked.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ingest.demo.architecture import HIDDEN, vocabulary
from ingest.demo.mosaic import SEEN_COLOURS, SEEN_WORDS, Labels

OCCUPIED_WEIGHT = 5.0
"""Weight of a cell with an object against an empty one."""
COLOUR_WEIGHT = 0.5
"""Weight of naming the colour against naming the thing."""


@dataclass(frozen=True)
class SightLoss:
    """Loss and accuracy of one set of pictures."""

    loss: torch.Tensor
    """Scalar to minimise."""
    accuracy: float
    """Share of occupied cells whose word is right."""


class SightHead(nn.Module):
    """What the auxiliary loss needs beside the embedding table: scale, bias and the direction of nothing."""

    word_ids: torch.Tensor
    colour_ids: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        ids = vocabulary()
        self.nothing = nn.Parameter(torch.randn(1, HIDDEN) * HIDDEN**-0.5)
        self.scale = nn.Parameter(torch.ones(2))
        self.bias = nn.Parameter(torch.zeros(1 + len(SEEN_WORDS)))
        self.register_buffer("word_ids", torch.tensor([ids[word] for word in SEEN_WORDS]), persistent=False)
        self.register_buffer("colour_ids", torch.tensor([ids[word] for word in SEEN_COLOURS]), persistent=False)

    def forward(self, soft_tokens: torch.Tensor, embedding: torch.Tensor, labels: list[Labels]) -> SightLoss:
        """Score soft tokens [picture, 16, d_model] against the embedding table [d_vocab, d_model]."""
        words = torch.from_numpy(np.stack([label.word for label in labels])).flatten()
        colours = torch.from_numpy(np.stack([label.colour for label in labels])).flatten()
        tokens = soft_tokens.flatten(0, 1)
        table = torch.cat([self.nothing, embedding[self.word_ids]])
        scores = self.scale[0] * tokens @ table.T + self.bias
        weights = 1.0 + (OCCUPIED_WEIGHT - 1.0) * (words > 0).float()
        each = functional.cross_entropy(scores, words, reduction="none")
        occupied = colours >= 0
        tints = self.scale[1] * tokens[occupied] @ embedding[self.colour_ids].T
        loss = (each * weights).sum() / weights.sum()
        loss = loss + COLOUR_WEIGHT * functional.cross_entropy(tints, colours[occupied])
        right = (scores.argmax(-1) == words)[occupied].float().mean()
        return SightLoss(loss, float(right))
