"""The tables of a transcoder set, computed again from prompts: what is left unexplained, what is dead, and how often
the model still gives the same token when every MLP is replaced."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingest.model.model import Model, load_model
from ingest.training.data import Batches, Progress, collect, model_inputs
from ingest.training.measure import measure_layer
from ingest.training.replace import check_sites, imitate, replaced_mlps
from ingest.transcoders.bank import load_bank


def evaluate_set(
    model: str | Path,
    transcoders: str | Path,
    batches: Batches,
    max_tokens: int = 12_000,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Rows layer, group ('all', 'image', 'last', 'text'), tokens, fvu, dead, squared_error, squared_spread.

    Raises InputError if the prompts have fewer positions than ``max_tokens``.
    """
    loaded = load_model(str(model), device)
    bank = load_bank(str(transcoders), loaded)
    check_sites(bank)
    tokens = collect(loaded.hf, batches(loaded), range(bank.n_layers), max_tokens, progress)
    rows: list[dict[str, Any]] = []
    for layer in range(bank.n_layers):
        of_layer = measure_layer(partial(imitate, bank, layer), bank.widths[layer], layer, tokens)
        rows += of_layer
        if progress is not None:
            progress(layer + 1, bank.n_layers, f"layer={layer} fvu={of_layer[0]['fvu']}")
    return rows


def replaced_agreement(
    model: str | Path, transcoders: str | Path, batches: Batches, max_prompts: int, device: str = "cpu"
) -> dict[str, Any]:
    """How often the most likely next token stays the same with all MLPs replaced: prompts, same, agreement."""
    loaded = load_model(str(model), device)
    bank = load_bank(str(transcoders), loaded)
    prompts = same = 0
    for batch in batches(loaded):
        plain = _next_tokens(loaded, batch)
        with replaced_mlps(loaded, bank):
            replaced = _next_tokens(loaded, batch)
        same += int((plain == replaced).sum())
        prompts += len(plain)
        if prompts >= max_prompts:
            break
    return {"prompts": prompts, "same": same, "agreement": same / max(1, prompts)}


def _next_tokens(model: Model, batch: Mapping[str, Tensor]) -> Tensor:
    """Most likely token after each prompt; prompts are padded on the left."""
    with torch.inference_mode():
        logits: Tensor = model.hf(**model_inputs(batch, model.device), logits_to_keep=1).logits
    return logits[:, -1].argmax(-1).cpu()
