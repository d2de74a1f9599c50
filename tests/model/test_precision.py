"""bf16 halves the weights and nothing else: the stream is float32, sums close, and the model is left as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from atlas.errors import ModelError
from ingest.attribution.features import attribute, check_closure
from ingest.attribution.frozen import fold, freeze
from ingest.attribution.settings import RESIDUE_LIMITS, AttributionSettings
from ingest.attribution.targets import TargetSpec, Vocabulary, resolve
from ingest.demo.facts import PICTURE_TASKS, TEXT_TASKS
from ingest.demo.shipped import shipped
from ingest.demo.world import draw
from ingest.model.capture import run
from ingest.model.generation import greedy_answer
from ingest.model.inputs import Inputs, prepare
from ingest.model.model import Model, load_model
from ingest.model.precision import precision_of, resolve_precision
from ingest.transcoders.bank import Bank, load_bank
from tests.tiny import picture, tiny_model, write_transcoders

LONG = "what is the sum of red + blue + green + one + two + three ?"
PICTURES = [0, 1, 2]


def asked(model: Model, pictures: int) -> Inputs:
    return prepare(model, LONG, [picture(n) for n in range(pictures)])


def plain_logits(model: Model, inputs: Inputs) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.hf(**inputs.batch).logits[0].float()
    return found


def worst_residue(model: Model, bank: Bank, inputs: Inputs, features: int = 10**6) -> float:
    settings = AttributionSettings(max_features=features)
    with torch.no_grad(), precision_of(model):
        record = run(model, inputs)
        frozen = freeze(record, fold(model.weights()), bank, bank.encode(record))
        targets = resolve(TargetSpec(), record, model.weights(), Vocabulary.of(model.tokenizer))
        rows = attribute(frozen, record.token_ids, bank, targets, settings)
    check_closure(rows, model.precision)
    return rows.worst_residue


@pytest.fixture(scope="module")
def demo() -> tuple[Model, Model]:
    return load_model(shipped("model"), precision="bf16"), load_model(shipped("model"))


@pytest.mark.parametrize("pictures", PICTURES)
def test_sums_of_a_random_bf16_model_close(pictures: int, tmp_path) -> None:
    model = tiny_model("bf16", seed=3)
    bank = load_bank(str(write_transcoders(tmp_path / "set")), model)

    worst = worst_residue(model, bank, asked(model, pictures))

    assert worst < 1e-4 < RESIDUE_LIMITS["bf16"], "what rounds is float32, not bf16"


@pytest.mark.parametrize("task", ["sum", "count", "moons", "text_sum"])
def test_sums_of_the_demo_model_close_and_its_answers_stay(task: str, demo: tuple[Model, Model]) -> None:
    half, whole = demo
    sample = draw(task, np.random.default_rng(7))
    pictures = [] if sample.image is None else [sample.image]
    inputs, same = prepare(half, sample.question, pictures), prepare(whole, sample.question, pictures)

    assert worst_residue(half, load_bank(shipped("transcoders"), half), inputs, 300) < 1e-4
    assert greedy_answer(half, inputs, 4) == greedy_answer(whole, same, 4)


def test_logits_come_closer_to_float32_than_hugging_faces_bf16(demo: tuple[Model, Model]) -> None:
    half, whole = demo
    ours, theirs = [], []
    for task in (*PICTURE_TASKS, *TEXT_TASKS):
        sample = draw(task, np.random.default_rng(5))
        pictures = [] if sample.image is None else [sample.image]
        inputs = prepare(half, sample.question, pictures)
        exact = plain_logits(whole, prepare(whole, sample.question, pictures))

        found, rounded = run(half, inputs).logits, plain_logits(half, half_pixels(inputs))

        assert found[-1].argmax() == exact[-1].argmax(), task
        ours.append(float((found - exact).pow(2).mean().sqrt()))
        theirs.append(float((rounded - exact).pow(2).mean().sqrt()))
    assert np.mean(ours) < np.mean(theirs)


@pytest.mark.parametrize("vision", [True, False])
def test_the_stream_adds_up_in_float32(vision: bool) -> None:
    model = tiny_model("bf16", vision=vision)
    inputs = asked(model, 1 if vision else 0)

    found = run(model, inputs)

    stream = [layer.resid_mid for layer in found.layers]
    assert {value.dtype for value in [*stream, found.embeddings, found.final_residual, found.logits]} == {torch.float32}
    after = found.layers[-1].resid_mid + found.layers[-1].mlp_write
    assert (after - found.final_residual).abs().max() < 1e-5
    assert not torch.equal(after, after.bfloat16().float()), "float32 holds more than bf16 could"


def test_soft_tokens_and_words_are_hugging_faces_own() -> None:
    model = tiny_model("bf16")
    inputs = half_pixels(asked(model, 2))
    words, soft = inputs.batch["token_type_ids"][0] == 0, inputs.batch["token_type_ids"][0] == 1
    with torch.no_grad():
        seen = model.hf.model.get_image_features(inputs.batch["pixel_values"]).pooler_output
        read = model.part(model.sites.embedding)(inputs.token_ids)

    found = run(model, inputs).embeddings

    assert torch.equal(found[soft], seen.flatten(0, 1).float())
    assert torch.equal(found[words], read[words].float())


def test_the_model_is_left_as_it_was_even_after_an_error() -> None:
    model = tiny_model("bf16")
    inputs = half_pixels(asked(model, 1))
    broken = Inputs({**inputs.batch, "pixel_values": torch.zeros(1, 3, 5, 5)}, inputs.positions)
    before, hooks = plain_logits(model, inputs), _hooks(model)

    with precision_of(model), precision_of(model):
        within = plain_logits(model, inputs)
        with precision_of(model):
            pass
        assert torch.equal(plain_logits(model, inputs), within), "an inner block that ended takes nothing along"
    with pytest.raises(RuntimeError):
        run(model, broken)

    assert _hooks(model) == hooks
    assert torch.equal(plain_logits(model, inputs), before)
    assert not torch.equal(within, before)
    with pytest.raises(RuntimeError, match="dtype"):
        torch.nn.functional.linear(torch.ones(1, 2), torch.ones(3, 2, dtype=torch.bfloat16))


def test_weights_are_held_once_and_in_half_the_memory() -> None:
    sizes = {}
    for precision in ("fp32", "bf16"):
        model = tiny_model(precision)
        sizes[precision] = sum(parameter.nbytes for parameter in model.hf.parameters())
        weights = model.weights()
        assert weights.unembedding.data_ptr() == model.part(model.sites.unembedding).weight.data_ptr()
        value = model.layers[2].get_submodule(model.sites.value).weight
        assert weights.layers[2].W_V.data_ptr() == value.data_ptr()
        assert weights.layers[2].mlp_gain.dtype == torch.float32
        assert fold(weights).layers[2].out_of_heads.dtype == torch.float32
    assert sizes["fp32"] == 2 * sizes["bf16"]


@pytest.mark.parametrize("rows", [1, 5, 16_384, 16_385, 40_000])
def test_the_mean_of_the_unembedding_is_the_mean(rows: int) -> None:
    matrix = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    weights = replace(tiny_model().weights(), unembedding=matrix)

    assert torch.allclose(weights.unembedding_mean, matrix.double().mean(0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("rows", [3, 16_384, 20_000])
def test_a_bf16_weight_is_widened_not_rounded(rows: int) -> None:
    generator = torch.Generator().manual_seed(1)
    given, weight = torch.randn(2, 5, 4, generator=generator), torch.randn(rows, 4, generator=generator).bfloat16()
    bias = torch.randn(rows, generator=generator).bfloat16()
    linear = torch.nn.functional.linear

    with precision_of(tiny_model("bf16")):
        found, shifted = linear(given, weight), linear(given, weight, bias)

    assert (found.dtype, shifted.dtype) == (torch.float32, torch.float32)
    assert torch.allclose(found, linear(given, weight.float()), atol=1e-6)
    assert torch.allclose(shifted, linear(given, weight.float(), bias.float()), atol=1e-6)


def test_the_device_decides_where_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_precision(None, "cpu") == "fp32"
    assert resolve_precision("bf16", "cpu") == "bf16"
    for precision, device, words in (
        ("tf32", "cpu", "precision tf32 on cpu"),
        ("fp8", "cpu", "precision 'fp8'"),
        (None, "warp", "device 'warp'"),
        (None, "cuda:99", "PyTorch sees"),
    ):
        with pytest.raises(ModelError, match=words):
            resolve_precision(precision, device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # this machine may have none
    assert resolve_precision(None, torch.device("cuda")) == "tf32"
    assert resolve_precision("fp32", "cuda:0") == "fp32"


def half_pixels(inputs: Inputs) -> Inputs:
    """The same inputs with pixels in bf16, as Hugging Face's own bf16 model is given them."""
    batch = {name: value.bfloat16() if value.is_floating_point() else value for name, value in inputs.batch.items()}
    return Inputs(batch, inputs.positions)


def _hooks(model: Model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.hf.modules())
