"""What is changed in a run: activations of features, and, for circuits and controls, writes, errors and embeddings.

Plain tensors, made from a plan (resolve.py) or by a search, and carried out by engine.py. Letters used in shapes:
n changed activations, m vectors, d width of the residual stream.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

GENERATED = -1
"""In place of a position: every position after the prompt."""


@dataclass(frozen=True, eq=False)
class Edits:
    """What becomes of activations: new = factor * current + offset. No feature is named twice at one position."""

    layers: Tensor
    """[n] int64 layer of the feature."""
    indices: Tensor
    """[n] int64 its index."""
    positions: Tensor
    """[n] int64 where, from 0; GENERATED for every position after the prompt."""
    factors: Tensor
    """[n] float64: 1 keeps the activation, 0 takes it away."""
    offsets: Tensor
    """[n] float64, in units of the activation."""

    @classmethod
    def of(
        cls,
        layers: Tensor | Sequence[int],
        indices: Tensor | Sequence[int],
        positions: Tensor | Sequence[int],
        factor: Tensor | Sequence[float] | float = 0.0,
        offset: Tensor | Sequence[float] | float = 0.0,
    ) -> Self:
        """Edits of the features named; one factor or offset may stand for all. Without either they are ablated."""
        places = [torch.as_tensor(values, dtype=torch.int64) for values in (layers, indices, positions)]
        numbers = [torch.as_tensor(value, dtype=torch.float64) for value in (factor, offset)]
        return cls(*places, *(number.expand(len(places[0])).contiguous() for number in numbers))

    @classmethod
    def none(cls) -> Self:
        """Nothing is changed."""
        return cls.of([], [], [])

    @classmethod
    def joined(cls, parts: Sequence["Edits"]) -> Self:
        """All of several, in order."""
        if not parts:
            return cls.none()
        columns = zip(*((p.layers, p.indices, p.positions, p.factors, p.offsets) for p in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, chosen: Tensor) -> "Edits":
        """Those that a mask or index [n] chooses."""
        return Edits(
            self.layers[chosen],
            self.indices[chosen],
            self.positions[chosen],
            self.factors[chosen],
            self.offsets[chosen],
        )


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors at places of the run; at most one a place."""

    layers: Tensor
    """[m] int64 layer."""
    positions: Tensor
    """[m] int64 position in the prompt, from 0."""
    vectors: Tensor
    """[m, d]"""

    def __len__(self) -> int:
        return len(self.layers)


@dataclass(frozen=True, eq=False)
class Intervention:
    """All that is changed in one run. Without anything it is a null intervention: alone in its batch it gives every bit
    of the model's logits, asked for at the same positions."""

    edits: Edits = field(default_factory=Edits.none)
    """Activations of features."""
    writes: Vectors | None = None
    """Added to what the MLP of a layer gives, at the site that the set's decoders reconstruct."""
    errors: Vectors | None = None
    """Values that the error takes: what the MLP gives minus what the transcoder makes of it."""
    embeddings: Vectors | None = None
    """Values that the input of block 0 takes; their layers do not count."""

    @property
    def is_null(self) -> bool:
        """Whether nothing is changed."""
        return not len(self.edits) and all(not part for part in (self.writes, self.errors, self.embeddings))
