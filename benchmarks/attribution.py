"""Seconds of one attribution in closed form, and its ratio to batched autograd through the same frozen model.

    python benchmarks/attribution.py                              a tiny model's shape, on the CPU
    python benchmarks/attribution.py --shape 4b --device cuda --features 7500 --baseline 512

Weights and activations are random: the work is that of a trained model. Both ways answer the same targets in the same
run, in batches of the same size sorted by layer, and read the same tables; their rows are compared as well.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ingest.attribution.features import attribute
from ingest.attribution.frozen import FoldedWeights, FrozenModel, fold, freeze
from ingest.attribution.prune import prune
from ingest.attribution.settings import AttributionSettings
from ingest.attribution.sources import Sources, sources_of
from ingest.attribution.sweep import Starts, sweep
from ingest.attribution.targets import TargetSpec, Vocabulary, resolve
from ingest.model.records import FrozenWeights, LayerRun, LayerWeights, Run
from ingest.transcoders.records import Active, Encoded, InputSite, LayerEncoding, OutputSite


@dataclass(frozen=True)
class Shape:
    """Sizes of a model and a prompt."""

    layers: int
    positions: int
    image: int
    """Soft tokens among the positions; they lie after the first six."""
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    active: int
    """Active features per layer and position."""


SHAPES = {
    "tiny": Shape(6, 34, 16, 96, 4, 2, 24, 174, 16),
    "4b": Shape(34, 280, 256, 2560, 8, 4, 256, 262208, 48),
}


class RandomBank:
    """Random transcoder rows; a latent's row is one of a small table, so that no set has to be held."""

    def __init__(self, shape: Shape, noise: Callable[..., Tensor], rows: int = 4096) -> None:
        self._encoder = noise(rows, shape.width) / shape.width**0.5
        self._decoder = noise(rows, shape.width) / shape.width**0.5
        self._bias = noise(rows) / 10

    def decoder_rows(self, layer: int, indices: Tensor) -> Tensor:
        return self._decoder[indices % len(self._decoder)]

    def encoder_rows(self, layer: int, indices: Tensor) -> Tensor:
        return self._encoder[indices % len(self._encoder)]

    def encoder_bias(self, layer: int, indices: Tensor) -> Tensor:
        return self._bias[indices % len(self._bias)]

    def decoder_bias(self, layer: int) -> Tensor:
        return self._decoder[layer]

    def skip(self, layer: int) -> Tensor | None:
        return None


@dataclass(frozen=True)
class World:
    """One random run of a shape."""

    run: Run
    weights: FrozenWeights
    bank: RandomBank
    encoded: Encoded


def random_world(shape: Shape, device: str, dtype: torch.dtype) -> World:
    """Random weights and activations; patterns are causal, with one image block that sees all of itself."""
    generator = torch.Generator(device=device).manual_seed(0)

    def noise(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, device=device, dtype=dtype)

    length, width = shape.positions, shape.width
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    seen[6 : 6 + shape.image, 6 : 6 + shape.image] = True
    scale, gain = noise(length).abs() / 4 + 0.5, noise(width) / 10 + 0.5
    layers, weights, encodings = [], [], []
    for _ in range(shape.layers):
        pattern = noise(shape.heads, length, length).masked_fill(~seen, -torch.inf).softmax(dim=-1)
        stream = noise(length, width)
        layers.append(LayerRun(pattern, scale, scale, scale, scale, stream, stream, stream, stream))
        value = noise(shape.kv_heads * shape.head_dim, width) / width**0.5
        output = noise(width, shape.heads * shape.head_dim) / width**0.5
        weights.append(LayerWeights(value, output, gain, gain, gain, gain))
        count = length * shape.active
        places = torch.arange(length, device=device).repeat_interleave(shape.active)
        latents = torch.arange(shape.active, device=device).repeat(length) + 97 * places
        encodings.append(LayerEncoding(Active(places, latents, noise(count).abs()), stream, noise(length, width)))
    run = Run(
        torch.arange(length, device=device), noise(length, width), layers, scale, noise(length, width),
        noise(length, shape.vocabulary),
    )  # fmt: skip
    maps = FrozenWeights(
        weights, shape.heads, shape.kv_heads, shape.head_dim, gain, noise(shape.vocabulary, width) / width**0.5
    )
    return World(run, maps, RandomBank(shape, noise), Encoded(encodings, InputSite.MLP_IN, OutputSite.MLP_RAW))


def starts_of(frozen: FrozenModel, sources: Sources, bank: RandomBank, count: int) -> Starts:
    """`count` features spread over all layers and positions, the highest layer first."""
    chosen = torch.linspace(sources.n_features - 1, 0, count).long().unique().flip(0).to(sources.layers.device)
    layers, positions, indices = (t[chosen] for t in (sources.layers, sources.positions, sources.indices))
    rows = [
        bank.encoder_rows(layer, index[None])[0] * frozen.layers[layer].read_scale[position]
        for layer, position, index in zip(layers.tolist(), positions.tolist(), indices, strict=True)
    ]
    return Starts(layers.tolist(), positions.tolist(), torch.stack(rows))


def by_closed_form(frozen: FrozenModel, sources: Sources, starts: Starts, batch: int) -> Tensor:
    """[n, C] rows."""
    rows = starts.vectors.new_zeros(len(starts.layers), sources.n_columns)
    for begin in range(0, len(starts.layers), batch):
        part = slice(begin, begin + batch)
        sweep(frozen, sources, Starts(starts.layers[part], starts.positions[part], starts.vectors[part]), rows[part])
    return rows


def by_autograd(world: World, frozen: FrozenModel, sources: Sources, starts: Starts, batch: int) -> Tensor:
    """[n, C] the same rows by batched backward passes through the frozen model; its graph is built once."""
    stream = embeddings = world.run.embeddings.clone().requires_grad_()
    writes = [torch.zeros_like(stream, requires_grad=True) for _ in frozen.layers]
    middles = []
    for layer, weights, write in zip(world.run.layers, world.weights.layers, writes, strict=True):
        normed = stream * layer.attention_scale[:, None] * weights.attention_gain
        values = (normed @ weights.W_V.T).unflatten(1, (world.weights.n_kv_heads, -1))
        values = values.repeat_interleave(world.weights.n_heads // world.weights.n_kv_heads, dim=1)
        mixed = torch.einsum("hqk,khx->qhx", layer.pattern, values).flatten(1)
        stream = stream + mixed @ weights.W_O.T * layer.attention_post_scale[:, None] * weights.attention_post_gain
        middles.append(stream)
        stream = stream + write
    rows = starts.vectors.new_zeros(len(starts.layers), sources.n_columns)
    for begin in range(0, len(starts.layers), batch):
        part = slice(begin, begin + batch)
        top = starts.layers[begin]
        at = [
            middles[layer][position]
            for layer, position in zip(starts.layers[part], starts.positions[part], strict=True)
        ]
        values = (torch.stack(at) * starts.vectors[part]).sum(dim=1)
        leaves = [embeddings, *writes[:top]]
        eye = torch.eye(len(values), device=values.device, dtype=values.dtype)
        gradients = torch.autograd.grad(
            values, leaves, eye, is_grads_batched=True, retain_graph=True, materialize_grads=True
        )
        _read(frozen, sources, gradients, rows[part])
    return rows


def _read(frozen: FrozenModel, sources: Sources, gradients: tuple[Tensor, ...], rows: Tensor) -> None:
    rows[:, sources.tokens()] = (gradients[0] * frozen.embeddings).sum(dim=-1)
    for layer, gradient in enumerate(gradients[1:]):
        block = frozen.layers[layer]
        effects = torch.einsum("btd,tds->bts", gradient, block.sources)
        rows[:, sources.features(layer)] = effects.flatten(1)[:, block.slots]
        rows[:, sources.errors(layer)] = effects[:, :, -2]
        rows[:, sources.biases(layer)] = effects[:, :, -1]


def seconds(work: Callable[[], Any], device: str, repeat: int) -> tuple[float, Any]:
    """Best of `repeat` runs after one to warm up, and what the last returned."""
    times, result = [], work()
    for _ in range(repeat):
        result = None
        _wait(device)
        begin = time.perf_counter()
        result = work()
        _wait(device)
        times.append(time.perf_counter() - begin)
    return min(times), result


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Build one random world and time both ways on it."""
    shape, device = SHAPES[arguments.shape], arguments.device
    world = random_world(shape, device, getattr(torch, arguments.dtype))
    settings = AttributionSettings(max_features=arguments.features, batch_size=arguments.batch_size)
    folded: FoldedWeights = fold(world.weights)
    freezing, frozen = seconds(lambda: freeze(world.run, folded, world.bank, world.encoded), device, arguments.repeat)
    sources = sources_of(frozen, world.run.token_ids)
    starts = starts_of(frozen, sources, world.bank, min(arguments.baseline, sources.n_features))
    batch = arguments.batch_size
    closed, rows = seconds(lambda: by_closed_form(frozen, sources, starts, batch), device, arguments.repeat)
    graded, reference = seconds(lambda: by_autograd(world, frozen, sources, starts, batch), device, arguments.repeat)
    difference = float(((rows - reference).abs() / reference.abs().amax(dim=1, keepdim=True)).max())
    del rows, reference
    targets = resolve(TargetSpec(), world.run, world.weights, Vocabulary(lambda text: [], str))
    whole, graph = seconds(
        lambda: attribute(frozen, world.run.token_ids, world.bank, targets, settings), device, arguments.repeat
    )
    pruning, _ = seconds(lambda: prune(graph, settings), device, arguments.repeat)
    return {
        "shape": arguments.shape,
        "device": device,
        "dtype": arguments.dtype,
        "targets": len(starts.layers),
        "closed_form_seconds": round(closed, 4),
        "autograd_seconds": round(graded, 4),
        "ratio": round(graded / closed, 2),
        "largest_relative_difference": difference,
        "freeze_seconds": round(freezing, 4),
        "attribute_seconds": round(whole, 4),
        "attributed": len(graph.features),
        "prune_seconds": round(pruning, 4),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if device.startswith("cuda") else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument(
        "--features", type=int, default=AttributionSettings.max_features, help="feature rows of a graph"
    )
    parser.add_argument("--baseline", type=int, default=1024, help="targets that both ways answer")
    parser.add_argument("--batch-size", type=int, default=AttributionSettings.batch_size)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tf32", action="store_true", help="round the factors of products on a GPU")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    print(json.dumps(measure(arguments), indent=1))


if __name__ == "__main__":
    main()
