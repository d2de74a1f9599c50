"""Making the shipped assets from nothing: the model, its transcoders, and a report of how good both are.

    folder/circuit-atlas-demo/           the Hugging Face folder
    folder/circuit-atlas-demo-plt-16x/   its transcoders: config.yaml and one file per layer
    folder/report.json                   tables, settings, versions, processor seconds

Killed at any moment, the same call goes on where it stopped.
"""

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ingest.demo.evaluate import accuracy, world_batches
from ingest.demo.facts import MODEL_NAME, TRANSCODERS_NAME
from ingest.demo.recipe import RecipeConfig, train_demo
from ingest.training.config import TranscoderConfig
from ingest.training.evaluate import evaluate_set
from ingest.training.layout import read_config
from ingest.training.trainer import train_transcoders

Progress = Callable[[int, int, str], None]

TRANSCODER_PROMPTS = 8_000
"""Questions offered to the transcoders' training; enough for max_tokens and held_out_tokens."""
TRANSCODER_DATA_SEED = 7
EVALUATION_SEED = 20_001
"""Seed of the reported tables; used for no decision before them."""
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pillow")


def transcoder_config(folder: Path) -> TranscoderConfig:
    """How the demo's transcoders are trained."""
    return TranscoderConfig(
        model=str(folder / MODEL_NAME),
        out=str(folder / TRANSCODERS_NAME),
        model_name=MODEL_NAME,
        steps=1500,
        batch_tokens=1024,
        expansion=16,
        top_k=16,
        max_tokens=120_000,
        held_out_tokens=12_000,
    )


def build_assets(
    folder: Path, work: Path, recipe: RecipeConfig | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Train model and transcoders into ``folder`` and write the report; return it. ``work`` keeps the checkpoint."""
    recipe = recipe or RecipeConfig()
    trained = train_demo(recipe, folder / MODEL_NAME, work, progress)
    config = transcoder_config(folder)
    train_transcoders(config, world_batches(TRANSCODER_PROMPTS, TRANSCODER_DATA_SEED), progress)
    return write_report(folder, recipe, trained.cpu_seconds, progress=progress)


def measure_assets(
    folder: Path, per_task: int = 500, seed: int = EVALUATION_SEED, progress: Progress | None = None
) -> dict[str, Any]:
    """The tables, on new renderings: accuracy, accuracy with all MLPs replaced (at most 200 a task, it is slower), and
    per layer and group what the transcoders leave unexplained."""
    model, transcoders = folder / MODEL_NAME, folder / TRANSCODERS_NAME
    layers = evaluate_set(model, transcoders, world_batches(1_000, seed), max_tokens=12_000, progress=progress)
    return {
        "seed": seed,
        "accuracy": accuracy(model, per_task, seed, progress=progress),
        "accuracy_all_mlps_replaced": accuracy(model, min(per_task, 200), seed, transcoders, progress),
        "transcoders": [{name: row[name] for name in ("layer", "group", "tokens", "fvu", "dead")} for row in layers],
    }


def write_report(
    folder: Path, recipe: RecipeConfig, cpu_seconds: float, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure the assets and write report.json beside them; return it."""
    made = read_config(folder / TRANSCODERS_NAME)["training"]
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": f"{platform.machine()}, one thread",
        "model_cpu_seconds": round(cpu_seconds),
        "transcoder_cpu_seconds": round(made["cpu_seconds"]),
        "recipe": asdict(recipe),
        **measure_assets(folder, progress=progress),
    }
    aside = folder / f".report.json.{os.getpid()}"
    aside.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(aside, folder / "report.json")
    return report
