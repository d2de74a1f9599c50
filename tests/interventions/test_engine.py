"""Laws of changed runs, on the random world of tests/science: every rule, site and kind of transcoder."""

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from atlas.domain.evidence import MODES, Mode
from atlas.errors import InputError, TranscoderError
from ingest.interventions.case import Case, make_case
from ingest.interventions.edits import Edits, Intervention, Vectors
from ingest.interventions.engine import intervene, pre_activations
from ingest.model.inputs import prepare
from ingest.model.model import Precision
from ingest.model.precision import precision_of
from ingest.transcoders.activation import active_features
from ingest.transcoders.records import OutputSite
from tests.interventions.worlds import clean
from tests.science.world import CASES, case
from tests.tiny import picture, tiny_model

PER_LAYER = [name for name in CASES if "cross-layer" not in name]


def everything(made: Case, layer: int) -> Edits:
    """All active features of a layer, ablated."""
    active = made.encoded.layers[layer].active
    return Edits.of([layer] * len(active), active.indices, active.positions)


def logits(made: Case, items: list[Intervention], mode: Mode) -> Tensor:
    return intervene(made, items, mode, at=range(made.n_positions)).logits


@pytest.mark.parametrize("name", CASES)
def test_frozen_ablation_is_the_edge(name: str) -> None:
    made, rows = clean(name), case(name).rows()
    sources = rows.sources
    chosen = range(0, sources.n_features, 11)
    ablations = [
        Intervention(Edits.of(*([int(column[n])] for column in (sources.layers, sources.indices, sources.positions))))
        for n in chosen
    ]
    places = rows.targets.positions.tolist()
    outcome = intervene(made, [Intervention(), *ablations], "frozen", at=places, keep_reads=True)
    centred = outcome.logits - outcome.logits.mean(-1, keepdim=True)
    seen = torch.stack([centred[:, n, token] for n, token in enumerate(rows.targets.ids.tolist())], dim=1)
    watched = (column[rows.features] for column in (sources.layers, sources.indices, sources.positions))
    seen = torch.cat([seen, pre_activations(made, outcome, *watched)], dim=1)
    change = seen[1:] - seen[:1]
    assert (change.T + rows.weights[:, list(chosen)]).abs().max() < 1e-8
    assert change.abs().max() > 0.1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_what_changes_nothing_changes_nothing(name: str, mode: Mode) -> None:
    made = clean(name)
    active = made.encoded.layers[2].active
    same = Edits.of([2] * len(active), active.indices, active.positions, 0.0, active.values)
    kept = Edits.of([2] * len(active), active.indices, active.positions, 1.0)
    found = logits(made, [Intervention(), Intervention(kept), Intervention(same)], mode)
    assert torch.equal(found[0], found[1])
    assert (found - made.run.logits).abs().max() < 1e-10


@pytest.mark.parametrize("mode", MODES)
def test_a_null_intervention_changes_no_bit(mode: Mode) -> None:
    made = clean()
    with torch.no_grad(), precision_of(made.model):
        plain = made.model.hf(**made.inputs.batch, use_cache=False).logits
    found = logits(made, [Intervention()], mode)
    assert torch.equal(found, plain) if mode == "free" else (found - plain).abs().max() < 1e-10


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_null_intervention_changes_no_bit_of_other_precisions(precision: Precision) -> None:
    model = tiny_model(precision)
    inputs = prepare(model, "what is the sum of red and blue ?", [picture(0)])
    bank = case("topk", "fp32").bank
    made = make_case(model, bank, inputs)  # type: ignore[arg-type]  # written down once more for the laws
    place = torch.tensor([made.answer_position])
    with torch.no_grad(), precision_of(model):
        plain = model.hf(**inputs.batch, use_cache=False, logits_to_keep=place).logits
    assert torch.equal(intervene(made, [Intervention()], "free").logits, plain)


@pytest.mark.parametrize("name", ["topk", "skip after the post-norm", "cross-layer"])
@pytest.mark.parametrize("mode", MODES)
def test_more_than_a_norm_can_square_is_refused(name: str, mode: Mode) -> None:
    made = clean(name)
    with pytest.raises(InputError, match="Change less"):
        intervene(made, [Intervention(), Intervention(Edits.of([2], [7], [4], 0.0, 1e160))], mode)
    large = intervene(made, [Intervention(Edits.of([2], [7], [4], 0.0, 1e100))], mode)
    assert large.logits.isfinite().all()


@pytest.mark.parametrize("name", CASES)
def test_a_layer_without_its_features_writes_the_rest(name: str) -> None:
    """Free: ablating all features of a layer leaves bias, skip and error, put in here by hand."""
    made, layer = clean(name), 3
    active = made.encoded.layers[layer].active
    written = torch.zeros(len(made.bank.writes_to(layer)), *made.run.embeddings.shape, dtype=torch.float64)
    for number, to in enumerate(made.bank.writes_to(layer)):
        rows = made.bank.decoder_rows(layer, active.indices, to) * active.values[:, None]
        written[number].index_add_(0, active.positions, rows)
    by_hand = _with_less(made, {to: written[n] for n, to in enumerate(made.bank.writes_to(layer))})
    found = logits(made, [Intervention(everything(made, layer))], "free")[0]
    assert (found - by_hand).abs().max() < 1e-9
    assert (found - made.run.logits).abs().max() > 0.01


@pytest.mark.parametrize("name", ["topk", "skip after the post-norm"])
def test_iterative_runs_with_the_clean_patterns(name: str) -> None:
    """The same run with softmax made to give the clean patterns, in the order the layers ask for them."""
    made = clean(name)
    items = [Intervention(everything(made, 1))]
    patterns = iter([layer.pattern[None] for layer in made.run.layers])
    with patch("torch.nn.functional.softmax", lambda *_, **__: next(patterns)):
        by_hand = logits(made, items, "free")
    iterative, free = logits(made, items, "iterative"), logits(made, items, "free")
    assert (iterative - by_hand).abs().max() < 1e-9
    assert (iterative - free).abs().max() > 1e-3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_runs_of_a_batch_do_not_know_of_each_other(name: str, mode: Mode) -> None:
    made = clean(name)
    items = [Intervention(everything(made, layer)) for layer in (0, 4, 7)] + [Intervention()]
    together = logits(made, items, mode)
    alone = torch.cat([logits(made, [item], mode) for item in items])
    assert (together - alone).abs().max() < 1e-10
    split = intervene(made, items, mode, batch_size=2, keep_reads=True)
    whole = intervene(made, items, mode, keep_reads=True)
    assert (split.logits - whole.logits).abs().max() < 1e-10
    assert split.reads is not None
    assert whole.reads is not None
    assert all((a - b).abs().max() < 1e-9 for a, b in zip(split.reads, whole.reads, strict=True))


@pytest.mark.parametrize("name", PER_LAYER)
def test_all_of_another_run_is_that_run(name: str) -> None:
    """Embeddings, features and errors of a run with other embeddings: its logits."""
    made = clean(name)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(made.run.embeddings.shape, generator=generator, dtype=torch.float64)
    places = torch.arange(made.n_positions)
    moved = Vectors(torch.zeros_like(places), places, made.run.embeddings + noise / 4)
    other = intervene(made, [Intervention(embeddings=moved)], "free", at=range(made.n_positions), keep_reads=True)
    assert other.reads is not None
    errors, edits = _explained(made, Intervention(embeddings=moved), other.reads)
    rest = Intervention(edits=edits, errors=errors)
    found = logits(made, [rest], "free")[0]
    carried = logits(made, [Intervention(edits, errors=errors, embeddings=moved)], "free")[0]
    assert (carried - other.logits[0]).abs().max() < 1e-9, "all of it"
    assert (found - other.logits[0]).abs().max() > 1e-3, "without the embeddings"


def test_places_encoded_in_parts_are_encoded_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    made = clean()
    errors, edits = _explained(made, Intervention(), _reads(made))
    half = edits[edits.layers % 2 == 0]
    items = [Intervention(everything(made, 2)), Intervention(half, errors=errors)]
    whole = logits(made, items, "free")
    monkeypatch.setattr("ingest.interventions.hooks._ENCODED", 3 * made.bank.widths[0])
    assert (logits(made, items, "free") - whole).abs().max() < 1e-10


def test_errors_belong_to_sets_of_single_layers() -> None:
    made = clean("cross-layer")
    there = torch.tensor([0])
    error = Vectors(there, there, made.run.embeddings[:1])
    with pytest.raises(TranscoderError, match="cross-layer"):
        intervene(made, [Intervention(errors=error)], "free")


@pytest.mark.parametrize("mode", MODES)
def test_no_hook_stays(mode: Mode) -> None:
    made = clean()
    wrong = Intervention(Edits.of([0], [10**6], [0]))
    intervene(made, [Intervention(everything(made, 1))], mode)
    with pytest.raises(IndexError):
        intervene(made, [wrong], "free")
    hooks = [
        hook
        for module in made.model.hf.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    assert not hooks


@pytest.mark.parametrize("name", ["topk", "skip after the post-norm"])
def test_writes_are_added_where_decoders_write(name: str) -> None:
    """A feature's row as a write does what adding to the feature does."""
    made = clean(name)
    row = made.bank.decoder_rows(3, torch.tensor([5]))
    add = Intervention(Edits.of([3], [5], [4], 1.0, 2.0))
    write = Intervention(writes=Vectors(torch.tensor([3]), torch.tensor([4]), 2 * row))
    for mode in MODES:
        found = logits(made, [add, write], mode)
        assert (found[0] - found[1]).abs().max() < 1e-10
        assert (found[0] - made.run.logits).abs().max() > 1e-3


def _reads(made: Case) -> list[Tensor]:
    found = intervene(made, [Intervention()], "free", keep_reads=True).reads
    assert found is not None
    return found


def _with_less(made: Case, less: dict[int, Tensor]) -> Tensor:
    """[T, V] logits of the model when [T, d] less is written at some layers."""
    sites, after_norm = made.model.sites, made.bank.output_site is OutputSite.MLP_WRITE
    path = sites.mlp_post_norm if after_norm else sites.mlp
    assert path is not None

    def taking(amount: Tensor) -> Callable[..., Tensor]:
        return lambda _module, _args, output: output - amount

    with ExitStack() as stack, torch.no_grad(), precision_of(made.model):
        for layer, amount in less.items():
            handle = made.model.layers[layer].get_submodule(path).register_forward_hook(taking(amount))
            stack.callback(handle.remove)
        found: Tensor = made.model.hf(**made.inputs.batch, use_cache=False).logits[0]
    return found


def _explained(made: Case, item: Intervention, reads: list[Tensor]) -> tuple[Vectors, Edits]:
    """What the transcoders say of a changed run: its errors, and edits that set all features to what they are there."""
    sites, outputs = made.model.sites, list[Tensor]()
    path = sites.mlp if made.bank.output_site is OutputSite.MLP_RAW else sites.mlp_post_norm
    assert path is not None

    @contextmanager
    def watching() -> Any:
        handles = [
            block.get_submodule(path).register_forward_hook(lambda _module, _args, output: outputs.append(output[0]))
            for block in made.model.layers
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    with watching():
        intervene(made, [item], "free")
    layers, positions, vectors, edits = [], [], [], []
    places = torch.arange(made.n_positions)
    for layer, read in enumerate(reads):
        values = made.bank.activations(layer, read[0])
        every = torch.cartesian_prod(places, torch.arange(values.shape[1]))
        edits.append(Edits.of([layer] * len(every), every[:, 1], every[:, 0], 0.0, values[every[:, 0], every[:, 1]]))
        vectors.append(outputs[layer] - made.bank.decode(layer, active_features(values), read[0]))
        layers.append(torch.full_like(places, layer))
        positions.append(places)
    return Vectors(torch.cat(layers), torch.cat(positions), torch.cat(vectors)), Edits.joined(edits)
