"""What a transcoder set says about one run: active features, reconstructions, and what they leave over.

Letters used in shapes: T positions, d width of the residual stream, F latents of one layer, n active features.
"""

from dataclasses import dataclass
from enum import Enum

from torch import Tensor


class InputSite(Enum):
    """The tensor an encoder reads, under the name published sets give it."""

    MLP_IN = "mlp.hook_in"
    """Output of the norm before the MLP, gain included: mlp_gain * (x_mid * mlp_scale)."""
    NORMALIZED = "ln2.hook_normalized"
    """The same before the gain: x_mid * mlp_scale."""
    RESID_MID = "hook_resid_mid"
    """The residual stream between attention and MLP: x_mid."""


class OutputSite(Enum):
    """The tensor a decoder reconstructs, under the name published sets give it."""

    MLP_RAW = "mlp.hook_out"
    """What the MLP returns, before any post-norm: a write is scaled by mlp_post_scale and mlp_post_gain."""
    MLP_WRITE = "hook_mlp_out"
    """What the MLP adds to the residual stream, after any post-norm: a write is added as it is."""


@dataclass(frozen=True)
class Active:
    """The active features of one layer, sorted by (position, index)."""

    positions: Tensor
    """[n] int64 position of each."""
    indices: Tensor
    """[n] int64 latent of each."""
    values: Tensor
    """[n] activation of each; equal to its pre-activation, since every rule here passes a kept value unchanged."""

    def __len__(self) -> int:
        return int(self.positions.shape[0])


@dataclass(frozen=True)
class LayerEncoding:
    """One layer's transcoder on one run."""

    active: Active
    """The features that fire."""
    reconstruction: Tensor
    """[T, d] decoder rows weighted by activation, plus decoder bias, plus skip, at the set's output site."""
    error: Tensor
    """[T, d] true tensor at the output site minus the reconstruction, at every position including the first."""


@dataclass(frozen=True)
class Encoded:
    """A whole transcoder set on one run."""

    layers: list[LayerEncoding]
    """One record per layer, in order."""
    input_site: InputSite
    """Where the encoders read."""
    output_site: OutputSite
    """What the decoders reconstruct."""
