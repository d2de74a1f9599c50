"""How well one layer's transcoder imitates its MLP, over all positions and per group.

FVU is the fraction of variance unexplained: the squared error over the squared distance from the mean, the mean of the
rows measured, so a group is judged against its own mean. Dead is the share of latents that never fire on those rows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ingest.training.data import GROUPS, MlpTokens
from ingest.training.layout import Imitation

CHUNK = 2048
"""Positions encoded at a time."""


def measure_layer(
    imitate: Callable[[Tensor], Imitation], features: int, layer: int, tokens: MlpTokens
) -> list[dict[str, Any]]:
    """Rows for 'all' and the groups present: layer, group, tokens, fvu, dead, squared_error, squared_spread.

    ``imitate`` is the layer's transcoder, with this many features.
    """
    return _Measurement(imitate, features, layer, tokens).rows()


class _Measurement:
    """Squared errors and firing latents of one layer at every position."""

    def __init__(self, imitate: Callable[[Tensor], Imitation], features: int, layer: int, tokens: MlpTokens) -> None:
        self.layer, self.features, self.groups = layer, features, tokens.groups
        self.targets = tokens.targets[layer]
        errors, fired = [], torch.zeros(len(GROUPS), features, dtype=torch.bool)
        for first in range(0, len(tokens), CHUNK):
            part = slice(first, first + CHUNK)
            found = imitate(tokens.inputs[layer][part])
            errors.append((self.targets[part] - found.reconstruction.cpu()).double().square().sum(-1))
            fired[self.groups[part][found.active.positions.cpu()], found.active.indices.cpu()] = True
        self.errors, self.fired = torch.cat(errors), fired

    def rows(self) -> list[dict[str, Any]]:
        everywhere = torch.ones_like(self.groups, dtype=torch.bool)
        rows = [self._row("all", everywhere, self.fired.any(0))]
        for index, name in enumerate(GROUPS):
            chosen = self.groups == index
            if chosen.any():
                rows.append(self._row(name, chosen, self.fired[index]))
        return rows

    def _row(self, group: str, chosen: Tensor, fired: Tensor) -> dict[str, Any]:
        targets = self.targets[chosen].double()
        error = float(self.errors[chosen].sum())
        spread = float((targets - targets.mean(0)).square().sum())
        return {
            "layer": self.layer,
            "group": group,
            "tokens": int(chosen.sum()),
            "fvu": round(error / spread, 5) if spread > 0 else None,
            "dead": round(1.0 - int(fired.sum()) / self.features, 4),
            "squared_error": error,
            "squared_spread": spread,
        }
