"""The transcoder trainer: it learns, it survives being killed, and it writes the published layout."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from atlas.errors import InputError
from ingest.training.config import TranscoderConfig
from ingest.training.data import GROUPS, MlpTokens
from ingest.training.evaluate import evaluate_set, replaced_agreement
from ingest.training.measure import measure_layer
from ingest.training.prompts import prompt_batches
from ingest.training.replace import replaced_mlps
from ingest.training.trainer import fit_layer, train_transcoders
from ingest.transcoders.activation import TopK
from ingest.transcoders.bank import load_bank
from tests import tiny

LAYERS = 3


class KilledError(Exception):
    """Stands for a signal."""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A tiny random model and a file of prompts with pictures."""
    folder = tmp_path_factory.mktemp("world")
    tiny.write_model(folder / "model", layers=LAYERS)
    lines = []
    for number, word in enumerate(("red", "blue", "green", "one", "two", "three") * 2):
        tiny.picture(number).save(folder / f"{number}.png")
        images = f'"images": ["{number}.png"], ' if number % 3 else ""
        lines.append(f'{{{images}"prompt": "what is the {word} of a + {word} ?"}}')
    (folder / "prompts.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def config(world, tmp_path) -> TranscoderConfig:
    return TranscoderConfig(
        model=str(world / "model"),
        out=str(tmp_path / "set"),
        model_name="tiny",
        expansion=4,
        top_k=4,
        steps=60,
        batch_tokens=64,
        max_tokens=120,
        held_out_tokens=60,
        dead_after=10,
    )


def _rows(rows: list[dict], group: str) -> list[float]:
    return [row["fvu"] for row in rows if row["group"] == group]


def test_training_lowers_what_is_left_over(world, config, tmp_path):
    batches = prompt_batches(world / "prompts.jsonl")

    short = train_transcoders(replace(config, steps=1, out=str(tmp_path / "short")), batches)
    long = train_transcoders(config, batches)

    assert len(_rows(long, "all")) == LAYERS
    assert all(after < 0.7 * before for before, after in zip(_rows(short, "all"), _rows(long, "all"), strict=True))


def test_the_set_is_the_published_layout_and_opens_with_the_reader(world, config):
    train_transcoders(config, prompt_batches(world / "prompts.jsonl"))
    out = Path(config.out)

    bank = load_bank(str(out))
    tensors = load_file(out / "layer_1.safetensors")

    assert sorted(path.name for path in out.iterdir()) == ["config.yaml", *(f"layer_{n}.safetensors" for n in range(3))]
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "W_enc": (128, 32),
        "W_dec": (128, 32),
        "b_enc": (128,),
        "b_dec": (32,),
    }
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert (bank.n_layers, bank.rule(0)) == (LAYERS, TopK(4))
    assert (bank.input_site.value, bank.output_site.value) == ("mlp.hook_in", "mlp.hook_out")


@pytest.mark.parametrize("kill_in_layer", [0, 1])
def test_a_killed_run_ends_as_an_undisturbed_one(world, config, tmp_path, kill_in_layer):
    batches = prompt_batches(world / "prompts.jsonl")
    undisturbed = replace(config, out=str(tmp_path / "undisturbed"))
    expected = train_transcoders(undisturbed, batches)

    def kill(_done: int, _total: int, line: str) -> None:
        if line.startswith(f"layer={kill_in_layer}"):
            raise KilledError

    with pytest.raises(KilledError):
        train_transcoders(config, batches, kill)
    assert not Path(config.out).exists()
    fitted: set[str] = set()
    found = train_transcoders(config, batches, lambda _done, _total, line: fitted.add(line.split()[0]))

    assert found == expected
    assert {line for line in fitted if "=" in line} == {f"layer={layer}" for layer in range(kill_in_layer, LAYERS)}
    for layer in range(LAYERS):
        one, two = (load_file(Path(folder) / f"layer_{layer}.safetensors") for folder in (config.out, undisturbed.out))
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_fewer_layers_at_once_give_the_same_set(world, config, tmp_path):
    batches = prompt_batches(world / "prompts.jsonl")
    together = train_transcoders(config, batches)
    apart = train_transcoders(replace(config, layers_at_once=1, out=str(tmp_path / "apart")), batches)
    assert together == apart


def test_a_finished_set_is_not_trained_again(world, config):
    batches = prompt_batches(world / "prompts.jsonl")
    once = train_transcoders(config, batches)

    def never(_model: object) -> list:
        raise AssertionError("asked for data")

    assert train_transcoders(config, never) == once


def test_other_settings_do_not_continue_an_unfinished_set(world, config):
    batches = prompt_batches(world / "prompts.jsonl")

    def kill(_done: int, _total: int, line: str) -> None:
        if line.startswith("layer=1 "):
            raise KilledError

    with pytest.raises(KilledError):
        train_transcoders(config, batches, kill)
    with pytest.raises(InputError, match="other settings"):
        train_transcoders(replace(config, steps=61), batches)


@pytest.mark.parametrize(
    "change", [{"top_k": 0}, {"steps": 0}, {"decay_share": 0.0}, {"layers": (7,)}, {"max_tokens": 10**6}]
)
def test_settings_that_cannot_work_are_refused(world, config, change):
    with pytest.raises(InputError):
        train_transcoders(replace(config, **change), prompt_batches(world / "prompts.jsonl"))


def test_groups_add_up_to_all(world, config):
    batches = prompt_batches(world / "prompts.jsonl")
    train_transcoders(config, batches)

    rows = evaluate_set(config.model, config.out, batches, max_tokens=150)

    assert len(rows) == LAYERS * (1 + len(GROUPS))
    for layer in range(LAYERS):
        of_layer = {row["group"]: row for row in rows if row["layer"] == layer}
        whole = of_layer.pop("all")
        assert whole["tokens"] == sum(row["tokens"] for row in of_layer.values()) == 150
        assert whole["squared_error"] == pytest.approx(sum(row["squared_error"] for row in of_layer.values()))
        assert whole["squared_spread"] > sum(row["squared_spread"] for row in of_layer.values())
        assert whole["dead"] <= min(row["dead"] for row in of_layer.values())


def test_the_measured_share_is_the_share_of_variance():
    """Against the definition, on a transcoder that fires one latent and writes nothing."""
    inputs, targets = torch.randn(40, 8), torch.randn(40, 8) + 3.0
    groups = torch.arange(40) % 3
    tokens = MlpTokens({0: inputs}, {0: targets}, groups)

    def nothing(read: torch.Tensor):
        from ingest.training.layout import Imitation
        from ingest.transcoders.records import Active

        positions = torch.arange(len(read))
        active = Active(positions, torch.zeros_like(positions), read[:, 0])
        return Imitation(active, targets.mean(0).expand(len(read), 8))

    whole = measure_layer(nothing, 5, 0, tokens)[0]

    assert whole["fvu"] == pytest.approx(1.0, abs=1e-4)
    assert whole["dead"] == pytest.approx(0.8)


def test_folding_the_scales_back_changes_nothing():
    """A target far from zero and inputs far from unit size are imitated as well as standard ones."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(600, 8, generator=generator)
    targets = torch.tanh(inputs @ torch.randn(8, 8, generator=generator))
    config = TranscoderConfig("", "", expansion=8, top_k=8, steps=150, batch_tokens=128, balance_groups=False)
    groups = torch.zeros(600, dtype=torch.long)
    measure: Callable[..., list[dict]] = measure_layer

    shares = []
    for scale_in, scale_out, shift in ((1.0, 1.0, 0.0), (7.0, 40.0, 5.0)):
        tokens = MlpTokens({0: inputs * scale_in}, {0: targets * scale_out + shift}, groups)
        weights = fit_layer(config, 0, tokens).weights
        shares.append(measure(lambda read, w=weights: w.imitate(read, 8), 64, 0, tokens)[0]["fvu"])

    assert shares[0] < 0.35  # predicting the mean gives 1
    assert shares[1] == pytest.approx(shares[0], rel=0.05)


def test_replacing_mlps_ends_with_the_block(world, config):
    batches = prompt_batches(world / "prompts.jsonl")
    train_transcoders(config, batches)
    from ingest.model.model import load_model

    model = load_model(config.model)
    bank = load_bank(config.out, model)
    batch = next(iter(batches(model)))

    with torch.no_grad():
        before = model.hf(**batch).logits
        with replaced_mlps(model, bank):
            inside = model.hf(**batch).logits
        after = model.hf(**batch).logits

    assert torch.equal(before, after)
    assert not torch.allclose(before, inside, atol=1e-3)
    agreement = replaced_agreement(config.model, config.out, batches, max_prompts=12)
    assert agreement["prompts"] == 12
    assert agreement["agreement"] == agreement["same"] / 12
