"""Training a transcoder set for any model of the architecture table, layer by layer.

    collect   MLP inputs and outputs of the layers at hand (data.py)
    fit       one layer: TopK encoder and decoder under Adam, dead latents helped by an auxiliary loss
    measure   the layer on positions of later prompts (measure.py)
    write     the layer into a folder beside the target; config.yaml last; then one rename

A run killed at any moment is continued by the same call: finished layers are read from the folder aside.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from atlas.errors import InputError
from ingest.model.model import load_model
from ingest.training.config import TranscoderConfig
from ingest.training.data import GROUPS, Batches, MlpTokens, Progress, collect
from ingest.training.layout import CONFIG, LayerWeights, read_config, write_config, write_layer
from ingest.training.measure import measure_layer

GROUP_SHARES = {"image": 0.5, "last": 0.2, "text": 0.3}
"""Shares of a balanced batch."""


@dataclass(frozen=True)
class FittedLayer:
    """A trained layer and what it cost."""

    weights: LayerWeights
    """Ready to write: standardisation is folded in."""
    loss: float
    """Share of the training target's variance left over, averaged over the last 50 steps' batches."""
    cpu_seconds: float
    """Processor time of the fit."""


def train_transcoders(
    config: TranscoderConfig, batches: Batches, progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Train and write a set; return one row per layer and group: layer, group, tokens, fvu, dead, and sums."""
    config.check()
    out = Path(config.out)
    if (out / CONFIG).exists():
        rows: list[dict[str, Any]] = read_config(out)["training"]["held_out"]
        return rows
    aside = out.with_name(f".{out.name}.training")
    _begin(aside, config)
    model = load_model(config.model, config.device, revision=config.revision)
    n_layers = model.facts.n_layers
    layers = tuple(range(n_layers)) if config.layers is None else config.layers
    if not set(layers) <= set(range(n_layers)):
        raise InputError(found=f"layers {layers}", expected=f"layers from 0 to {n_layers - 1}", do="name those")
    missing = [layer for layer in layers if not _rows_file(aside, layer).exists()]
    together = config.layers_at_once or len(layers)
    for first in range(0, len(missing), together):
        part = missing[first : first + together]
        tokens = collect(model.hf, batches(model), part, config.max_tokens + config.held_out_tokens, progress)
        learn, held_out = tokens.split(config.max_tokens)
        for layer in part:
            fitted = fit_layer(config, layer, learn, progress)
            write_layer(aside, layer, fitted.weights, {"top_k": str(config.top_k)})
            imitate = partial(fitted.weights.imitate, top_k=config.top_k)
            rows = measure_layer(imitate, len(fitted.weights.b_enc), layer, held_out)
            record = {"rows": rows, "cpu_seconds": round(fitted.cpu_seconds, 1), "loss": round(fitted.loss, 5)}
            _write_text(_rows_file(aside, layer), json.dumps(record))
    return _finish(aside, out, config, layers, n_layers)


def fit_layer(config: TranscoderConfig, layer: int, tokens: MlpTokens, progress: Progress | None = None) -> FittedLayer:
    """Fit one layer. Inputs and targets are standardised for the fit, and the scales folded back afterwards."""
    started = time.process_time()
    device = torch.device(config.device)
    generator = torch.Generator().manual_seed(config.seed * 1000 + layer)
    scale_in, scale_out = _Scale.of(tokens.inputs[layer]), _Scale.of(tokens.targets[layer])
    inputs = tokens.inputs[layer].to(device) / scale_in.spread
    targets = (tokens.targets[layer].to(device) - scale_out.mean.to(device)) / scale_out.spread
    W_enc, W_dec, b_enc, b_dec = parameters = _initial(config, inputs, generator)
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, betas=(0.9, 0.99))
    pick = _sampler(config, tokens.groups, generator)
    quiet = torch.zeros(len(b_enc), dtype=torch.long, device=device)
    losses: list[float] = []
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _rate(config, step)
        chosen = pick().to(device)
        read, wanted = inputs[chosen], targets[chosen]
        scores = torch.relu(read @ W_enc.T + b_enc)
        values, indices = scores.topk(config.top_k, dim=-1)
        rest = wanted - embedding_bag(indices, W_dec, per_sample_weights=values, mode="sum") - b_dec
        loss = rest.square().mean()
        losses.append(loss.item() / wanted.var().item())
        quiet += 1
        quiet[indices[values > 0]] = 0
        dead = (quiet > config.dead_after).nonzero().squeeze(-1)
        if len(dead) and step % config.auxiliary_every == 0:
            loss = loss + config.auxiliary_weight * _auxiliary(config, scores[:, dead], W_dec[dead], rest.detach())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no annotation here
        optimiser.step()
        if progress is not None and (step + 1) % 50 == 0:
            mean = sum(losses[-50:]) / 50
            progress(step + 1, config.steps, f"layer={layer} left_over={mean:.4f} dead={len(dead) / len(quiet):.3f}")
    weights = LayerWeights(
        (W_enc / scale_in.spread).detach(),
        (W_dec * scale_out.spread).detach(),
        b_enc.detach(),
        (b_dec * scale_out.spread).detach() + scale_out.mean.to(device),
    ).to(torch.device("cpu"))
    return FittedLayer(weights, sum(losses[-50:]) / len(losses[-50:]), time.process_time() - started)


@dataclass(frozen=True)
class _Scale:
    """Mean per dimension and one spread for all, so that directions stay."""

    mean: Tensor
    spread: float

    @classmethod
    def of(cls, tensor: Tensor) -> "_Scale":
        mean = tensor.mean(0)
        return cls(mean, max(float((tensor - mean).square().mean().sqrt()), 1e-8))


def _initial(config: TranscoderConfig, inputs: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Unit-norm random encoder rows, a decoder along them, an encoder bias that centres the inputs."""
    width = inputs.shape[1]
    rows = torch.randn(config.expansion * width, width, generator=generator)
    rows = (rows / rows.norm(dim=-1, keepdim=True)).to(inputs.device)
    start = [rows, 0.3 * rows, -rows @ inputs.mean(0), torch.zeros(width, device=inputs.device)]
    return [tensor.clone().requires_grad_(True) for tensor in start]


def _auxiliary(config: TranscoderConfig, scores: Tensor, decoder: Tensor, rest: Tensor) -> Tensor:
    """How badly the dead latents explain what the living left over, relative to its variance."""
    values, indices = scores.topk(min(config.auxiliary_k, scores.shape[1]), dim=-1)
    attempt = embedding_bag(indices, decoder, per_sample_weights=values, mode="sum")
    return (rest - attempt).square().mean() / rest.var().clamp_min(1e-8)


def _sampler(config: TranscoderConfig, groups: Tensor, generator: torch.Generator) -> Callable[[], Tensor]:
    """Makes batches of positions: by group shares, or as they come."""
    if not config.balance_groups:
        return lambda: torch.randint(len(groups), (config.batch_tokens,), generator=generator)
    members = [(groups == index).nonzero().squeeze(-1) for index in range(len(GROUPS))]
    present = [(found, GROUP_SHARES[name]) for name, found in zip(GROUPS, members, strict=True) if len(found)]
    whole = sum(share for _, share in present)

    def pick() -> Tensor:
        parts = []
        for found, share in present:
            count = max(1, round(config.batch_tokens * share / whole))
            parts.append(found[torch.randint(len(found), (count,), generator=generator)])
        return torch.cat(parts)

    return pick


def _rate(config: TranscoderConfig, step: int) -> float:
    """Linear rise, flat, linear fall over the last share."""
    rise = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return rise * min(1.0, (config.steps - step) / max(1.0, config.steps * config.decay_share))


def _begin(aside: Path, config: TranscoderConfig) -> None:
    """Make the folder aside, or check that what lies there belongs to the same configuration."""
    aside.mkdir(parents=True, exist_ok=True)
    note = aside / "run.json"
    content = json.dumps(asdict(config), sort_keys=True)
    begun = any(aside.glob("layer_*"))  # without a layer nothing is lost by other settings
    if begun and note.exists() and note.read_text() != content:
        raise InputError(
            found=f"an unfinished set with other settings in {aside}",
            expected="the same settings",
            do=f"train with the old settings, or delete {aside}",
        )
    _write_text(note, content)


def _finish(
    aside: Path, out: Path, config: TranscoderConfig, layers: tuple[int, ...], n_layers: int
) -> list[dict[str, Any]]:
    """Write config.yaml from the layers' records, drop the records, and rename the folder into place."""
    records = [json.loads(_rows_file(aside, layer).read_text()) for layer in layers]
    rows = [row for record in records for row in record["rows"]]
    elsewhere = ("model", "revision", "out", "model_name", "device")
    settings = {name: value for name, value in asdict(config).items() if name not in elsewhere}
    settings["layers"] = list(layers)
    training = {**settings, "cpu_seconds": sum(record["cpu_seconds"] for record in records), "held_out": rows}
    name = config.model_name or Path(config.model).name
    write_config(aside, name, config.top_k, layers, n_layers, training)
    for layer in layers:
        _rows_file(aside, layer).unlink()
    (aside / "run.json").unlink()
    os.replace(aside, out)
    return rows


def _rows_file(aside: Path, layer: int) -> Path:
    """The record that says a layer is finished; written after its weights."""
    return aside / f"layer_{layer}.json"


def _write_text(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text)
    os.replace(aside, path)
