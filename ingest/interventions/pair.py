"""Two runs between which activations are copied: the donor's go into the recipient's, position by position.

Letters used in shapes: T positions of the recipient, n occurrences, d width of the residual stream.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from atlas.errors import InputError
from ingest.interventions.align import align
from ingest.interventions.case import Case
from ingest.interventions.edits import Edits

_SAME = 1e-3
"""Activations that differ by less than this share of the larger one are the same."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A donor and a recipient, aligned."""

    donor: Case
    """Whose activations are copied."""
    recipient: Case
    """Whose run is changed."""
    partner: Tensor
    """[T] int64 the donor's position for each of the recipient's; -1 where there is none."""

    @classmethod
    def of(cls, donor: Case, recipient: Case) -> Self:
        """Align two cases. Raises InputError for other models or sets, and for prompts that do not correspond."""
        if donor.model.identity.key != recipient.model.identity.key:
            raise InputError("runs of two models", "two runs of one model")
        if donor.bank.identity.key != recipient.bank.identity.key:
            raise InputError("runs encoded by two transcoder sets", "two runs of one set")
        found = align(donor.inputs.positions, recipient.inputs.positions)
        if found[recipient.answer_position] != donor.answer_position:
            raise InputError(
                f"the prompts cannot be aligned: position {recipient.answer_position}, where one answer is read, does"
                f" not stand for position {donor.answer_position}, where the other is",
                "prompts that end alike",
            )
        return cls(donor, recipient, torch.tensor([-1 if place is None else place for place in found]))

    @property
    def wanted(self) -> int:
        """Token the donor answers with."""
        return _answer(self.donor)

    @property
    def given(self) -> int:
        """Token the recipient answers with."""
        return _answer(self.recipient)


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Features at positions of the recipient, what they are there and what they are in the donor; on the CPU."""

    layers: Tensor
    """[n] int64 layer."""
    indices: Tensor
    """[n] int64 index."""
    positions: Tensor
    """[n] int64 position in the recipient."""
    before: Tensor
    """[n] float64 activation in the recipient's clean run; 0 where it does not fire."""
    donated: Tensor
    """[n] float64 activation in the donor's."""

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, chosen: Tensor | slice) -> "Occurrences":
        """Those that a mask, an index [n] or a slice chooses."""
        return Occurrences(*(column[chosen] for column in vars(self).values()))

    @property
    def edits(self) -> Edits:
        """Each becomes what it is in the donor."""
        return Edits.of(self.layers, self.indices, self.positions, 0.0, self.donated)

    @property
    def keys(self) -> Tensor:
        """[n] int64, one number for each layer, position and index."""
        return (self.layers << 54) | (self.positions << 32) | self.indices


def active_in_either(
    pair: Pair, positions: Collection[int] | None = None, layers: Collection[int] | None = None
) -> Occurrences:
    """All features that fire in one run or the other, where positions correspond; sorted by layer, position, index.

    `positions`, of the recipient, and `layers` leave out the others.
    """
    back = torch.full((pair.donor.n_positions,), -1, dtype=torch.int64)
    known = (pair.partner >= 0).nonzero()[:, 0]
    back[pair.partner[known]] = known
    parts = []
    for layer in range(pair.recipient.bank.n_layers) if layers is None else sorted(layers):
        own, other = (case.encoded.layers[layer].active for case in (pair.recipient, pair.donor))
        places = torch.cat([own.positions.cpu(), back[other.positions.cpu()]])
        indices = torch.cat([own.indices, other.indices.to(own.indices.device)]).cpu()
        there = places >= 0
        there &= pair.partner[places.clamp_min(0)] >= 0
        if positions is not None:
            there &= torch.isin(places, torch.tensor(sorted(positions), dtype=torch.int64))
        both = torch.unique(torch.stack([places[there], indices[there]], dim=1), dim=0)
        parts.append(occurrences(pair, torch.full((len(both),), layer), both[:, 1], both[:, 0]))
    return _joined(parts)


def occurrences(pair: Pair, layers: Tensor, indices: Tensor, positions: Tensor) -> Occurrences:
    """Features [n] at positions of the recipient [n], all of which the donor has, with what they are in both runs."""
    before = _activations(pair.recipient, layers, indices, positions)
    donated = _activations(pair.donor, layers, indices, pair.partner[positions])
    return Occurrences(layers, indices, positions, before, donated)


def differing(found: Occurrences) -> Tensor:
    """[n] bool, true where the two runs differ by more than rounding."""
    gap = (found.donated - found.before).abs()
    return gap > _SAME * torch.maximum(found.donated.abs(), found.before.abs())


def _joined(parts: Sequence[Occurrences]) -> Occurrences:
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Occurrences(*(torch.cat(column) for column in columns))


def _activations(case: Case, layers: Tensor, indices: Tensor, positions: Tensor) -> Tensor:
    found = torch.zeros(len(layers), dtype=torch.float64)
    for layer in torch.unique(layers).tolist():
        own, device = layers == layer, case.model.device
        found[own] = case.activations(layer, indices[own].to(device), positions[own].to(device)).double().cpu()
    return found


def _answer(case: Case) -> int:
    return int(case.run.logits[case.answer_position].argmax())
