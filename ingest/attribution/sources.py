"""The sources of a graph, in one order: features, errors, tokens, biases.

Features are sorted by (layer, position, index), errors and biases by (layer, position), tokens by position; an image's
soft tokens are among the tokens. Biases come last because influence ignores them: what is ranked is a prefix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ingest.attribution.frozen import FrozenModel


@dataclass(frozen=True)
class Sources:
    """What each column of a row of edges stands for."""

    layers: Tensor
    """[C] int64 layer; -1 for tokens."""
    positions: Tensor
    """[C] int64 position."""
    indices: Tensor
    """[C] int64 feature index; 0 for errors and biases; token id for tokens."""
    activations: Tensor
    """[n_features] activation of each feature."""
    feature_starts: tuple[int, ...]
    """L + 1 column numbers: the features of layer l are columns feature_starts[l] up to feature_starts[l + 1]."""
    n_layers: int
    """L."""
    n_positions: int
    """T."""
    first_error: int
    """First position with an error source: 0, or 1 in circuit-tracer's convention."""
    n_biases: int
    """L * T, or 0 in circuit-tracer's convention."""

    @property
    def n_features(self) -> int:
        """Active features."""
        return self.feature_starts[-1]

    @property
    def n_errors(self) -> int:
        """Error sources."""
        return self.n_layers * (self.n_positions - self.first_error)

    @property
    def n_ranked(self) -> int:
        """Columns that carry influence: all but the biases."""
        return self.n_features + self.n_errors + self.n_positions

    @property
    def n_columns(self) -> int:
        """All columns, C."""
        return self.n_ranked + self.n_biases

    def features(self, layer: int) -> slice:
        """Columns of one layer's features."""
        return slice(self.feature_starts[layer], self.feature_starts[layer + 1])

    def errors(self, layer: int | None = None) -> slice:
        """Columns of one layer's errors, or of all."""
        per_layer = self.n_positions - self.first_error
        if layer is None:
            return slice(self.n_features, self.n_features + self.n_errors)
        start = self.n_features + layer * per_layer
        return slice(start, start + per_layer)

    def tokens(self) -> slice:
        """Columns of the tokens."""
        return slice(self.n_features + self.n_errors, self.n_ranked)

    def biases(self, layer: int | None = None) -> slice:
        """Columns of one layer's decoder bias, or of all."""
        if layer is None:
            return slice(self.n_ranked, self.n_columns)
        start = self.n_ranked + layer * self.n_positions
        return slice(start, start + self.n_positions)


def sources_of(frozen: FrozenModel, token_ids: Tensor, exact: bool = True) -> Sources:
    """List the sources of a frozen run."""
    device, positions = frozen.embeddings.device, frozen.n_positions
    n_layers = len(frozen.layers)
    first_error = 0 if exact else 1
    actives = [layer.active for layer in frozen.layers]
    starts = [0]
    for active in actives:
        starts.append(starts[-1] + len(active))
    every = torch.arange(positions, device=device)
    later = every[first_error:]
    feature_layers = [torch.full_like(active.positions, layer) for layer, active in enumerate(actives)]
    parts = [
        (torch.cat(feature_layers), torch.cat([a.positions for a in actives]), torch.cat([a.indices for a in actives])),
        _everywhere(later, n_layers),
        (torch.full_like(every, -1), every, token_ids.to(every)),
    ]
    if exact:
        parts.append(_everywhere(every, n_layers))
    return Sources(
        layers=torch.cat([part[0] for part in parts]),
        positions=torch.cat([part[1] for part in parts]),
        indices=torch.cat([part[2] for part in parts]),
        activations=torch.cat([active.values for active in actives]).to(frozen.embeddings.dtype),
        feature_starts=tuple(starts),
        n_layers=n_layers,
        n_positions=positions,
        first_error=first_error,
        n_biases=n_layers * positions if exact else 0,
    )


def _everywhere(positions: Tensor, n_layers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Layers, positions and indices of one source per layer and position."""
    layers = torch.arange(n_layers, device=positions.device).repeat_interleave(len(positions))
    return layers, positions.repeat(n_layers), torch.zeros_like(layers)
