"""Law: rows are the gradients of the frozen model times what the sources write; circuit-tracer's convention drops
exactly what that tool drops and leaves the rest as it is."""

import pytest
import torch
from torch import Tensor

from ingest.attribution.features import Rows
from tests.science.frozen_hf import run_frozen
from tests.science.world import Case, case

BATCH = 64


def gradient_rows(made: Case, rows: Rows) -> Tensor:
    """[n, C] the same rows by autograd through Hugging Face's modules, one batch of targets per backward pass."""
    sources, run = rows.sources, made.run
    length, width = run.embeddings.shape
    found = []
    for part in torch.arange(len(rows.weights)).split(BATCH):
        embeddings = torch.zeros(len(part), length, width, requires_grad=True)
        writes = torch.zeros(len(part), len(run.layers), length, width, requires_grad=True)
        outcome = run_frozen(made, embeddings, writes)
        total = torch.zeros(())
        for number, row in enumerate(part.tolist()):
            if row < rows.n_targets:
                logits = outcome.logits[number, rows.targets.positions[row]]
                total = total + logits[rows.targets.ids[row]] - logits.mean()
            else:
                column = rows.features[row - rows.n_targets]
                layer, position, index = (int(t[column]) for t in (sources.layers, sources.positions, sources.indices))
                total = total + outcome.read[layer][number, position] @ made.bank.W_enc[layer, index]
        at_tokens, at_writes = torch.autograd.grad(total, (embeddings, writes), materialize_grads=True)
        found.append(_read(made, rows, at_tokens, at_writes))
    return torch.cat(found)


def _read(made: Case, rows: Rows, at_tokens: Tensor, at_writes: Tensor) -> Tensor:
    sources = rows.sources
    layers, positions, indices = sources.layers, sources.positions, sources.indices
    features, errors = slice(0, sources.n_features), sources.errors()
    decoders = made.bank.W_dec[layers[features], indices[features]] * sources.activations[:, None]
    error = torch.stack([layer.error for layer in made.encoded.layers])[layers[errors], positions[errors]]
    biases = made.bank.b_dec[layers[sources.biases()]]
    written = torch.cat([decoders, error])
    at = torch.cat([layers[: errors.stop], layers[sources.biases()]])
    where = torch.cat([positions[: errors.stop], positions[sources.biases()]])
    effects = torch.einsum("bnd,nd->bn", at_writes[:, at, where], torch.cat([written, biases]))
    tokens = (at_tokens * made.run.embeddings).sum(dim=-1)
    return torch.cat([effects[:, : errors.stop], tokens, effects[:, errors.stop :]], dim=1)


@pytest.mark.parametrize("name", ["topk", "jumprelu", "skip after the post-norm"])
def test_float32_rows_equal_autograd_rows(name: str) -> None:
    made = case(name, "fp32")
    rows = made.rows(convention="circuit-tracer")
    reference = gradient_rows(made, rows)
    largest = reference.abs().amax(dim=1, keepdim=True)
    assert ((rows.weights - reference).abs() / largest).max() < 1e-5


def test_circuit_tracer_drops_position_0_and_biases_and_nothing_else() -> None:
    made = case()
    exact, published = made.rows(), made.rows(convention="circuit-tracer")
    ours = exact.sources
    dropped = (ours.positions == 0) & (ours.layers >= 0)
    dropped[ours.biases()] = True
    kept = torch.where(~dropped)[0]
    for name in ("layers", "positions", "indices"):
        assert torch.equal(getattr(published.sources, name), getattr(ours, name)[kept])
    assert published.sources.n_errors == ours.n_layers * (ours.n_positions - 1)
    wanted = torch.isin(exact.features, kept[: published.sources.n_features])
    wanted_rows = torch.cat([torch.ones(exact.n_targets, dtype=torch.bool), wanted])
    assert (published.weights - exact.weights[wanted_rows][:, kept]).abs().max() < 1e-12
    assert exact.weights[:, dropped].abs().max() > 1e-3, "what is dropped was not nothing"
    assert published.worst_residue > 1e-3, "so its sums do not close"
