"""The one record that decides a trained transcoder set."""

from dataclasses import dataclass

from atlas.errors import InputError


@dataclass(frozen=True)
class TranscoderConfig:
    """How a transcoder set is trained. The defaults suit a small model; a large one needs more tokens and steps."""

    model: str
    """Folder or repository of the model whose MLPs are imitated."""
    out: str
    """Folder of the finished set; it appears only when every layer is done."""
    revision: str | None = None
    """Commit of the repository; None for a folder or the newest."""
    model_name: str | None = None
    """Name written into the set; None writes the last part of ``model``."""
    layers: tuple[int, ...] | None = None
    """Layers to train; None trains all."""
    layers_at_once: int | None = None
    """Layers whose activations are in memory at a time; None takes all. Fewer layers need one more pass each."""
    expansion: int = 16
    """Latents per dimension of the model."""
    top_k: int = 16
    """Latents that may be active at a position: ReLU first, then the k largest."""
    steps: int = 1000
    """Optimiser steps per layer."""
    batch_tokens: int = 1024
    """Tokens per step."""
    learning_rate: float = 3e-3
    """Peak learning rate of Adam."""
    warmup_steps: int = 20
    """Steps over which the learning rate rises."""
    decay_share: float = 0.4
    """Last share of the steps, over which the learning rate falls to zero."""
    dead_after: int = 60
    """A latent that has not fired for this many steps is dead."""
    auxiliary_k: int = 32
    """Dead latents per position that try to explain what is left over."""
    auxiliary_weight: float = 1 / 16
    """Weight of that attempt in the loss."""
    auxiliary_every: int = 2
    """Steps between such attempts."""
    balance_groups: bool = True
    """Sample image positions, last prompt positions and other text 5 : 2 : 3, whatever their numbers; template tokens,
    nearly the same in every prompt, would dominate otherwise."""
    max_tokens: int = 120_000
    """Positions to collect for training."""
    held_out_tokens: int = 12_000
    """Positions collected after those, from later prompts, for evaluation only."""
    seed: int = 0
    """Seed of initial weights and batches."""
    device: str = "cpu"
    """Where the model runs and the set is trained."""

    def check(self) -> None:
        """Raise InputError for values that cannot work."""
        for name in ("expansion", "top_k", "steps", "batch_tokens", "max_tokens", "held_out_tokens"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(found=f"{name} is {value}", expected="at least 1", do=f"set {name} to a larger number")
        if not 0.0 < self.decay_share <= 1.0:
            raise InputError(found=f"decay_share is {self.decay_share}", expected="above 0, at most 1", do="set it so")
