"""Our attribution and the published one, side by side on one captured run: seconds, edges, share of the peak.

    python benchmarks/attribution_baseline.py --shape tiny            the shipped model and transcoders, a drawn picture
    python benchmarks/attribution_baseline.py --shape tiny --json     one line; `ratio` and `worst_edge_difference` last
    python benchmarks/attribution_baseline.py --shape mid             random weights, features chosen by influence
    python benchmarks/attribution_baseline.py --shape gemma-3-4b --device cuda --precision tf32

Both ways begin at the same captured and encoded run and end with the rows of equally many features: of all active ones
where the cap allows it (tiny), else of those that each way's ranking chooses. Ours is `freeze` and `attribute` in
circuit-tracer's convention (no biases, and of position 0 only its embedding), so that both have the same sources; the
gains are folded once per model, which is not timed. The other is benchmarks/published.py at several batch sizes, of
which the best counts. `ratio` is its CPU-seconds over ours (on a GPU: seconds), the least of `--repeat` runs each,
after one to warm up if more than one is asked for. `faster_reads_ratio` is against the published way with its read-outs
rewritten, for what that would be worth. From rows to what is kept is timed apart (benchmarks/published_pruning.py).

Edges are compared on all rows that both ways hold, relative to the largest of the row.

FLOPs are counted alike for both (`closed_form_flops`): what these targets need, over all positions. `executed_gflop` is
what the published way runs, counted the same: each copy of a batch, whatever its target, crosses all layers from the
highest one present. Shares are of the rate of one large product in this process.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.measuring import Timed, best_of, closed_form_flops, matmul_rate, wait
from benchmarks.published import Columns, Parts, PublishedRows, published_rows
from benchmarks.published_pruning import published_pruning, square
from benchmarks.shapes import SHAPES, fewer_layers, random_bank, random_example, random_model
from ingest.attribution.features import Rows, attribute
from ingest.attribution.frozen import FoldedWeights, fold, freeze
from ingest.attribution.prune import Pruned, prune
from ingest.attribution.settings import AttributionSettings
from ingest.attribution.targets import Targets, TargetSpec, Vocabulary, resolve
from ingest.demo.shipped import shipped
from ingest.demo.world import draw
from ingest.model.capture import run as capture
from ingest.model.images import open_image
from ingest.model.inputs import prepare
from ingest.model.model import Model, load_model
from ingest.model.precision import precision_of
from ingest.model.records import Run
from ingest.transcoders.bank import Bank, load_bank
from ingest.transcoders.records import Encoded


@dataclass(frozen=True)
class Case:
    """What is compared at a shape."""

    features: int
    """Feature rows at most."""
    batches: tuple[int, ...]
    """Batch sizes of the published way."""


CASES = {
    "tiny": Case(7500, (8, 16, 32, 64, 128, 256)),
    "mid": Case(1500, (8, 16, 32)),
    "gemma-3-4b": Case(7500, (16, 32, 64)),
    "gemma-3-12b": Case(7500, (16, 32)),
}


@dataclass(frozen=True)
class World:
    """One captured and encoded run: where both ways begin."""

    model: Model
    run: Run
    folded: FoldedWeights
    bank: Bank
    encoded: Encoded
    targets: Targets

    @property
    def on_gpu(self) -> bool:
        """Whether seconds are counted, instead of CPU-seconds."""
        return self.model.device.type == "cuda"

    def cost(self, timed: Timed) -> float:
        """What is compared: CPU-seconds, or seconds on a GPU."""
        return timed.wall if self.on_gpu else timed.cpu


def shipped_world() -> World:
    """The demo's model and transcoders on one drawn picture."""
    model = load_model(shipped("model"), precision="fp32")
    sample = draw("sum", np.random.default_rng(0), a=3, b=4)
    assert sample.image is not None
    return world_of(model, load_bank(shipped("transcoders"), model), sample.question, [sample.image])


def random_world(name: str, device: str, precision: Any, layers: int | None = None) -> World:
    """A random model of a named shape, random transcoders, a picture of noise."""
    shape = fewer_layers(SHAPES[name], layers)
    model = random_model(shape, name, device, precision)
    with tempfile.TemporaryDirectory() as folder:
        example = random_example(shape, Path(folder))
        images = [open_image(path) for path in example.images]
    return world_of(model, random_bank(shape, model), example.prompt, images)


def world_of(model: Model, bank: Bank, prompt: str, images: list[Image.Image]) -> World:
    """Capture and encode one prompt."""
    with torch.no_grad(), precision_of(model):
        run = capture(model, prepare(model, prompt, images))
        targets = resolve(TargetSpec(), run, model.weights(), Vocabulary.of(model.tokenizer))
        return World(model, run, fold(model.weights()), bank, bank.encode(run), targets)


def our_rows(world: World, settings: AttributionSettings) -> Rows:
    """The closed form, from the captured run to the rows."""
    with torch.no_grad():
        frozen = freeze(world.run, world.folded, world.bank, world.encoded, settings.exact)
        return attribute(frozen, world.run.token_ids, world.bank, world.targets, settings)


def their_rows(
    world: World, features: int, batch_size: int, parts: Parts | None = None, faster_reads: bool = False
) -> PublishedRows:
    """The published way, from the captured run to the rows."""
    return published_rows(
        world.run,
        world.model.weights(),
        world.bank,
        world.encoded,
        world.targets,
        features,
        batch_size,
        parts,
        faster_reads,
    )


def needed_flops(world: World, columns: Columns, layers: Tensor, n_logits: int) -> float:
    """FLOPs that the closed form needs for feature targets of these layers and for logits."""
    active = [stop - start for start, stop in pairwise(columns.starts)]
    positions, width = world.run.embeddings.shape
    return closed_form_flops(world.model.weights(), positions, width, active, layers, n_logits)


def executed_flops(world: World, rows: PublishedRows, batch_size: int) -> float:
    """FLOPs of the products that the published way runs: whole batches, each from its highest layer."""
    layers = rows.columns.layers.cpu()[rows.features]
    tops = [int(batch.max()) for batch in torch.split(layers, batch_size) for _ in range(batch_size)]
    n_logits = -(-len(rows.probabilities) // batch_size) * batch_size
    return needed_flops(world, rows.columns, torch.tensor(tops), n_logits)


def worst_difference(ours: Rows, theirs: PublishedRows) -> tuple[float, int]:
    """The largest difference of an edge relative to its row's largest, and how many rows both hold."""
    n_targets = len(theirs.probabilities)
    our_row = {column: n_targets + row for row, column in enumerate(ours.features.tolist())}
    shared = [
        (our_row[column], n_targets + row) for row, column in enumerate(theirs.features.tolist()) if column in our_row
    ]
    pairs = torch.tensor([*((row, row) for row in range(n_targets)), *shared])
    at, worst = published_columns(ours, theirs), 0.0
    for part in torch.split(pairs, 256):
        reference = theirs.weights[part[:, 1]][:, at]
        found = ours.weights[part[:, 0].to(ours.weights.device)].to(reference)
        largest = reference.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        worst = max(worst, float(((found - reference).abs() / largest).max()))
    return worst, len(pairs)


def published_columns(ours: Rows, theirs: PublishedRows) -> Tensor:
    """[C] the published column of each of our columns, on the CPU."""
    sources, columns = ours.sources, theirs.columns
    mine = [values.cpu() for values in (sources.layers, sources.positions, sources.indices)]
    n_features = sources.n_features
    for values, others in zip(mine, (columns.layers, columns.positions, columns.indices), strict=True):
        assert torch.equal(values[:n_features], others.cpu()), "both list the same features in the same order"
    layers, positions = (values[n_features:] for values in mine[:2])
    place = torch.where(layers < 0, columns.n_layers, layers) * columns.n_positions + positions
    return torch.cat([torch.arange(n_features), n_features + place])


def compare(world: World, settings: AttributionSettings, batches: tuple[int, ...], repeat: int) -> dict[str, Any]:
    """Time both ways to the rows, and compare these."""
    device, features = world.model.device, settings.max_features
    rate = matmul_rate(device)
    peak = rate.per_second if world.on_gpu else rate.per_cpu_second
    ours = best_of(lambda: our_rows(world, settings), repeat, device)

    def quickest(faster_reads: bool) -> tuple[int, Timed, dict[int, float]]:
        best, costs = None, {}
        for batch in batches:
            timed = best_of(_their_work(world, features, batch, faster_reads), repeat, device, warm=repeat > 1)
            costs[batch] = world.cost(timed)
            print(f"published, batch {batch}{', faster reads' * faster_reads}: {costs[batch]:.3f} s", file=sys.stderr)
            if best is None or costs[batch] < costs[best[0]]:
                best = batch, timed
        assert best is not None
        return *best, costs

    batch, theirs, costs = quickest(faster_reads=False)
    faster_batch, faster, _ = quickest(faster_reads=True)
    parts = Parts(device)
    their_rows(world, features, batch, parts)
    rows: PublishedRows = theirs.result
    difference, shared = worst_difference(ours.result, rows)
    layers = rows.columns.layers[rows.features.to(rows.columns.layers.device)]
    useful = needed_flops(world, rows.columns, layers, len(world.targets))
    executed = executed_flops(world, rows, batch)
    return {
        "device": str(device),
        "precision": world.model.precision,
        "threads": torch.get_num_threads(),
        "positions": len(world.run.token_ids),
        "layers": len(world.run.layers),
        "active_features": rows.columns.n_features,
        "rows": len(rows.weights),
        "rows_both_hold": shared,
        "ours_cpu_seconds": round(ours.cpu, 4),
        "ours_seconds": round(ours.wall, 4),
        "published_cpu_seconds": round(theirs.cpu, 4),
        "published_seconds": round(theirs.wall, 4),
        "published_batch": batch,
        "published_by_batch": {str(size): round(cost, 4) for size, cost in costs.items()},
        "published_parts": {part: round(seconds, 4) for part, seconds in parts.seconds.items()},
        "useful_gflop": round(useful / 1e9, 2),
        "executed_gflop": round(executed / 1e9, 2),
        "matmul_gflop_per_second": round(peak / 1e9, 1),
        "ours_share_of_matmul": round(useful / world.cost(ours) / peak, 4),
        "published_share_of_matmul": round(useful / world.cost(theirs) / peak, 4),
        "published_executed_share_of_matmul": round(executed / world.cost(theirs) / peak, 4),
        **compare_pruning(world, ours.result, rows, settings, repeat),
        "faster_reads_batch": faster_batch,
        "faster_reads_cpu_seconds": round(faster.cpu, 4),
        "faster_reads_ratio": round(world.cost(faster) / world.cost(ours), 2),
        "ratio": round(world.cost(theirs) / world.cost(ours), 2),
        "worst_edge_difference": difference,
    }


def compare_pruning(
    world: World, ours: Rows, theirs: PublishedRows, settings: AttributionSettings, repeat: int
) -> dict[str, Any]:
    """Time both ways from the rows to what is kept, and count what both keep."""
    device = world.model.device

    def dense() -> tuple[Tensor, Tensor]:
        return published_pruning(square(theirs), theirs, settings.node_threshold, settings.edge_threshold)

    mine = best_of(lambda: prune(ours, settings), repeat, device)
    other = best_of(dense, 1, device, warm=False)
    pruned: Pruned = mine.result
    nodes, edges = other.result
    columns = theirs.columns
    held = torch.cat([theirs.features.sort().values, torch.arange(columns.n_features, columns.n_columns)])
    kept = torch.zeros(columns.n_columns, dtype=torch.bool)
    kept[held] = nodes[: len(held)]
    ours_kept, theirs_kept = pruned.nodes.cpu(), kept[published_columns(ours, theirs)]
    return {
        "ours_prune_cpu_seconds": round(mine.cpu, 4),
        "published_prune_cpu_seconds": round(other.cpu, 4),
        "nodes_both_keep": int((ours_kept & theirs_kept).sum()),
        "nodes_either_keeps": int((ours_kept | theirs_kept).sum()),
        "edges_ours": len(pruned.edge_rows),
        "edges_published": int(edges.sum()),
    }


def _their_work(world: World, features: int, batch: int, faster_reads: bool) -> Callable[[], PublishedRows]:
    return lambda: their_rows(world, features, batch, faster_reads=faster_reads)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main(given: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=CASES, default="tiny")
    parser.add_argument("--device", default="cpu", help="of a random model")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32", help="of a random model")
    parser.add_argument("--layers", type=int, help="fewer layers than the shape has")
    parser.add_argument("--features", type=int, help="feature rows at most")
    parser.add_argument("--batches", type=_numbers, help="batch sizes of the published way, as in 16,64,256")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the best counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    chosen = parser.parse_args(given)
    torch.set_num_threads(chosen.threads)
    case = CASES[chosen.shape]
    if chosen.shape == "tiny":
        world = shipped_world()
    else:
        world = random_world(chosen.shape, chosen.device, chosen.precision, chosen.layers)
    wait(world.model.device)
    settings = AttributionSettings(max_features=chosen.features or case.features, convention="circuit-tracer")
    with precision_of(world.model):
        found = {"shape": chosen.shape} | compare(world, settings, chosen.batches or case.batches, chosen.repeat)
    if chosen.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:<35} {value}")


if __name__ == "__main__":
    main()
