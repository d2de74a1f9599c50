"""Commands that train: transcoders for any supported model, the demo model from scratch, and how good they are."""

from pathlib import Path
from typing import Any

import click

from atlas.options import emit, output_options

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def train() -> None:
    """Train transcoders, or the demo model from scratch.

    \b
    atlas train transcoders prompts.jsonl --model google/gemma-3-4b-it --out my-set --device cuda
    atlas train demo --out demo-assets
    atlas train report
    """


@train.command()
@click.argument("prompts", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--model", required=True, help="Folder or Hugging Face id of the model; `demo` is the shipped one.")
@click.option("--out", required=True, type=_FOLDER, help="Folder of the finished set.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--expansion", type=click.IntRange(1), help="Latents per dimension of the model.")
@click.option("--top-k", type=click.IntRange(1), help="Latents active at a position.")
@click.option("--steps", type=click.IntRange(1), help="Optimiser steps per layer.")
@click.option("--batch-tokens", type=click.IntRange(1), help="Tokens per step.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Peak learning rate of Adam.")
@click.option("--max-tokens", type=click.IntRange(1), help="Positions to train on.")
@click.option("--held-out-tokens", type=click.IntRange(1), help="Positions to evaluate on.")
@click.option("--layers-at-once", type=click.IntRange(1), help="Layers whose activations are held at a time.")
@click.option("--layer", "layers", type=click.IntRange(0), multiple=True, help="Train this layer; repeat for several.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights and batches.")
@output_options
def transcoders(prompts: Path, model: str, out: Path, layers: tuple[int, ...], form: str | None, **given: Any) -> None:
    """Train a TopK transcoder for every MLP of a model, on the prompts of a file.

    PROMPTS is a file of JSON lines as `atlas ingest` takes it. The set is written in the published per-layer layout;
    run again after an interruption, layers that are done are not trained again. Prints FVU and dead share per layer
    and group on held-out positions.

    \b
    atlas train transcoders prompts.jsonl --model demo --out my-set --steps 500
    """
    from ingest.demo.shipped import opened_place
    from ingest.progress import bar
    from ingest.training.config import TranscoderConfig
    from ingest.training.prompts import prompt_batches
    from ingest.training.trainer import train_transcoders

    options = {name: value for name, value in given.items() if value is not None}
    config = TranscoderConfig(model=opened_place("model", model), out=str(out), layers=layers or None, **options)
    with bar("train", unit="steps") as watch:
        rows = train_transcoders(config, prompt_batches(prompts), watch.count)
    emit(_plain(rows), form, title="Held-out positions")


@train.command("demo")
@click.option("--out", required=True, type=_FOLDER, help="Folder for model, transcoders and report.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights and pictures.")
@output_options
def demo_model(out: Path, seed: int, form: str | None) -> None:
    """Train the demo model and its transcoders from nothing: about half an hour on two cores.

    Run again after an interruption: it goes on from the last checkpoint.

    \b
    atlas train demo --out demo-assets
    """
    from ingest.demo.build import build_assets
    from ingest.demo.recipe import RecipeConfig
    from ingest.progress import bar

    out.mkdir(parents=True, exist_ok=True)
    with bar("train", unit="steps") as watch:
        report = build_assets(out, out / "work", RecipeConfig(seed=seed), watch.count)
    _print_report(report, form)


@train.command()
@click.option("--assets", type=_FOLDER, help="Folder that `atlas train demo` made.  [default: the shipped one]")
@click.option("--per-task", type=click.IntRange(1), default=200, show_default=True, help="New renderings per task.")
@click.option("--seed", type=int, default=20_001, show_default=True, help="Seed of the renderings.")
@output_options
def report(assets: Path | None, per_task: int, seed: int, form: str | None) -> None:
    """Measure the demo model and its transcoders again, on renderings neither has seen.

    The second accuracy column has every MLP replaced by its transcoder, without error terms. Rows of kind held_out are
    (planet, attribute) pairs that training showed as text only.

    \b
    atlas train report
    """
    from ingest.demo.build import measure_assets
    from ingest.demo.shipped import shipped_assets
    from ingest.progress import bar

    with bar("report", unit="steps") as watch:
        tables = measure_assets(assets or shipped_assets(), per_task, seed, watch.count)
    _print_report(tables, form)


def _print_report(tables: dict[str, Any], form: str | None) -> None:
    replaced = {row["task"]: row["accuracy"] for row in tables["accuracy_all_mlps_replaced"]}
    right = [
        {name: row[name] for name in ("kind", "task", "n", "accuracy", "stderr")}
        | {"all MLPs replaced": replaced.get(row["task"])}
        for row in tables["accuracy"]
    ]
    layers = _plain(tables["transcoders"])
    if form is not None:
        emit([*right, *layers], form)
        return
    emit(right, None, title="Accuracy on held-out renderings")
    click.echo()
    emit(layers, None, title="Transcoders on held-out positions: fraction of variance unexplained, dead share")


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: row[name] for name in ("layer", "group", "tokens", "fvu", "dead")} for row in rows]
