"""Encoding and decoding equal a plain dense transcoder; nothing is read before it is needed."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from ingest.model.capture import run
from ingest.model.inputs import prepare
from ingest.model.records import Run
from ingest.transcoders import bank as bank_module
from ingest.transcoders.activation import JumpReLU, ReLU, TopK
from ingest.transcoders.bank import Bank, load_bank
from ingest.transcoders.records import Encoded, InputSite, OutputSite
from tests.tiny import picture, tiny_model, write_transcoders

UNEQUAL = (40, 7, 64, 1, 40, 33, 90, 12)
SETS = {
    "topk": {"activation": "topk"},
    "topk-skip": {"activation": "topk", "skip": True},
    "topk-unequal": {"activation": "topk", "widths": UNEQUAL, "k": 9},
    "relu": {"activation": "relu"},
    "relu-skip-unequal": {"activation": "relu", "skip": True, "widths": UNEQUAL},
    "jumprelu": {"activation": "jumprelu"},
    "jumprelu-after-norm": {"activation": "jumprelu", "output_site": "hook_mlp_out", "widths": UNEQUAL},
    "before-gain": {"activation": "topk", "input_site": "ln2.hook_normalized"},
    "stream": {"activation": "jumprelu", "input_site": "hook_resid_mid", "output_site": "hook_mlp_out"},
}


@pytest.fixture(scope="module")
def traced() -> Run:
    model = tiny_model("fp64")
    return run(model, prepare(model, "what is the sum of one and two ?", [picture(0), picture(1)]))


def plain(folder: Path, layer: int, read: Tensor) -> tuple[Tensor, Tensor]:
    """Dense activations and reconstruction, straight from the file."""
    weights = {name: value.double() for name, value in load_file(folder / f"layer_{layer}.safetensors").items()}
    k = yaml.safe_load((folder / "config.yaml").read_text())["top_k"]
    pre = read @ weights["W_enc"].T + weights["b_enc"]
    threshold = weights.get("activation_function.threshold")
    if threshold is not None:
        acts = pre * (pre > threshold)
    else:
        acts = pre.relu()
        if k is not None and k < acts.shape[-1]:
            acts = torch.zeros_like(acts).scatter(-1, *reversed(acts.topk(k, dim=-1)))
    out = acts @ weights["W_dec"] + weights["b_dec"]
    return acts, out + read @ weights["W_skip"].T if "W_skip" in weights else out


def site(run: Run, layer: int, name: str) -> Tensor:
    """The tensor of a published name, from the model's own definitions."""
    weights, this = tiny_model("fp64").weights().layers[layer], run.layers[layer]
    tensors = {
        "mlp.hook_in": this.mlp_in,
        "ln2.hook_normalized": this.mlp_in / weights.mlp_gain,
        "hook_resid_mid": this.mlp_in / weights.mlp_gain / this.mlp_scale[:, None],
        "mlp.hook_out": this.mlp_out,
        "hook_mlp_out": weights.mlp_post_gain * this.mlp_out * this.mlp_post_scale[:, None],
    }
    return tensors[name]


@pytest.mark.parametrize("name", SETS)
def test_encoding_equals_a_dense_transcoder(name: str, traced: Run, tmp_path: Path) -> None:
    folder = write_transcoders(tmp_path / name, **SETS[name])
    config = yaml.safe_load((folder / "config.yaml").read_text())
    bank = load_bank(str(folder), tiny_model("fp64"))

    encoded = bank.encode(traced)

    assert encoded.output_site is bank.output_site
    for layer, found in enumerate(encoded.layers):
        acts, out = plain(folder, layer, site(traced, layer, config["feature_input_hook"]))
        dense = torch.zeros_like(acts)
        dense[found.active.positions, found.active.indices] = found.active.values
        assert (dense - acts).abs().max() < 1e-10
        assert (found.reconstruction - out).abs().max() < 1e-10
        true = site(traced, layer, config["feature_output_hook"])
        assert (found.error + out - true).abs().max() < 1e-10
        assert found.error.shape == true.shape
        assert (found.error[0] != 0).any()
        order = found.active.positions * acts.shape[-1] + found.active.indices
        assert (order.diff() > 0).all()


def test_rules_widths_and_sites_are_read_from_the_set(tmp_path: Path) -> None:
    banks = {name: load_bank(str(write_transcoders(tmp_path / name, **SETS[name]))) for name in SETS}

    assert banks["topk"].rule(0) == TopK(4)
    assert banks["relu"].rule(0) == ReLU()
    assert banks["jumprelu"].rule(7) == JumpReLU()
    assert banks["topk-unequal"].widths == list(UNEQUAL)
    assert banks["stream"].input_site is InputSite.RESID_MID
    assert banks["jumprelu-after-norm"].output_site is OutputSite.MLP_WRITE
    assert banks["topk"].skip(3) is None
    assert banks["topk-skip"].skip(3) is not None


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, TopK(4)),
        ({"top_k": None}, ReLU()),
        ({"top_k": "gone"}, TopK(48)),
        ({"top_k": "gone", "activation": "topk", "k": 5}, TopK(5)),
        ({"top_k": "gone", "activation": "relu"}, ReLU()),
    ],
)
def test_both_dialects_of_the_config(changes: dict[str, object], rule: object, tmp_path: Path) -> None:
    folder = write_transcoders(tmp_path / "set")
    config = {**yaml.safe_load((folder / "config.yaml").read_text()), **changes}
    config = {key: value for key, value in config.items() if value != "gone"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))

    assert load_bank(str(folder)).rule(0) == rule


def test_rows_are_those_of_the_whole_matrices(tmp_path: Path) -> None:
    folder = write_transcoders(tmp_path / "set", skip=True)
    bank = load_bank(str(folder))
    indices = torch.tensor([31, 0, 31, 7, 39])
    weights = load_file(folder / "layer_2.safetensors")

    assert torch.equal(bank.decoder_rows(2, indices), weights["W_dec"][indices])
    assert torch.equal(bank.encoder_rows(2, indices), weights["W_enc"][indices])
    assert torch.equal(bank.encoder_bias(2, indices), weights["b_enc"][indices])
    assert torch.equal(bank.decoder_bias(2), weights["b_dec"])
    assert torch.equal(bank.skip(2), weights["W_skip"])
    assert bank.decoder_rows(2, indices[:0]).shape == (0, 32)


def test_only_the_layer_in_use_is_read(traced: Run, tmp_path: Path) -> None:
    folder = write_transcoders(tmp_path / "set")
    bank = load_bank(str(folder), tiny_model("fp64"))
    for layer in (0, 1, 2, 4, 5, 6, 7):
        (folder / f"layer_{layer}.safetensors").unlink()

    read = traced.layers[3].mlp_in
    acts, _ = plain(folder, 3, read)

    assert torch.allclose(bank.activations(3, read), acts, atol=1e-10)
    assert bank.decoder_rows(3, torch.tensor([5])).shape == (1, 32)


def test_latents_in_pieces_give_the_same(traced: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = load_bank(str(write_transcoders(tmp_path / "set", activation="relu")), tiny_model("fp64"))
    whole = bank.encode(traced)
    monkeypatch.setattr(bank_module, "_ROWS_AT_ONCE", 9)

    pieces = bank.encode(traced)

    for one, other in zip(whole.layers, pieces.layers, strict=True):
        assert torch.equal(one.active.indices, other.active.indices)
        assert (one.reconstruction - other.reconstruction).abs().max() < 1e-12


def test_bf16_sets_are_computed_in_float32(tmp_path: Path) -> None:
    folder = write_transcoders(tmp_path / "set")
    for path in folder.glob("layer_*.safetensors"):
        save_file({name: value.bfloat16() for name, value in load_file(path).items()}, path)
    model = tiny_model()
    found = run(model, prepare(model, "what ?", [picture(0)]))
    bank = load_bank(str(folder), model)

    layer = bank.encode(found).layers[0]

    acts, out = plain(folder, 0, found.layers[0].mlp_in.double())
    assert layer.reconstruction.dtype == torch.float32
    assert (layer.reconstruction - out).abs().max() < 1e-4
    assert len(layer.active) == int((acts != 0).sum())


def test_encoding_twice_gives_the_same_bits(traced: Run, tmp_path: Path) -> None:
    folder = str(write_transcoders(tmp_path / "set", widths=(300,) * 8))

    def bits(encoded: Encoded) -> list[list[float]]:
        return [layer.error.flatten().tolist() for layer in encoded.layers]

    assert bits(load_bank(folder).encode(traced)) == bits(load_bank(folder).encode(traced))


def test_identity_is_the_content_wherever_it_lies(tmp_path: Path) -> None:
    folder = write_transcoders(tmp_path / "set")
    copy = shutil.copytree(folder, tmp_path / "copy")
    first, second = load_bank(str(folder)), load_bank(str(copy))
    assert first.identity.key == second.identity.key
    assert (first.name, second.name) == ("set", "copy")

    weights = load_file(copy / "layer_3.safetensors")
    weights["b_enc"][0] += 1
    save_file(weights, copy / "layer_3.safetensors")
    assert load_bank(str(copy)).identity.key != first.identity.key
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("top_k: 4", "top_k: 5"))
    assert load_bank(str(folder)).identity.key != first.identity.key


def test_files_may_be_listed(tmp_path: Path) -> None:
    folder = write_transcoders(tmp_path / "set", widths=(8, 9))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "layer_1.safetensors").rename(elsewhere / "b.safetensors")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for listed in (
        ["layer_0.safetensors", str(elsewhere / "b.safetensors")],
        ["layer_0.safetensors", "../elsewhere/b.safetensors"],
    ):
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, "transcoders": listed}))
        assert load_bank(str(folder)).widths == [8, 9]


def test_lower_case_sets_lie_the_other_way(traced: Run, tmp_path: Path) -> None:
    ours = write_transcoders(tmp_path / "ours", activation="jumprelu", skip=True, output_site="hook_mlp_out")
    theirs = shutil.copytree(ours, tmp_path / "theirs")
    for path in theirs.glob("layer_*.safetensors"):
        weights = load_file(path)
        save_file(
            {
                "w_enc": weights["W_enc"].T.contiguous(),
                "w_dec": weights["W_dec"],
                "b_enc": weights["b_enc"],
                "b_dec": weights["b_dec"],
                "threshold": weights["activation_function.threshold"],
                "affine_skip_connection": weights["W_skip"].T.contiguous(),
            },
            path,
        )
    first, second = load_bank(str(ours)), load_bank(str(theirs))

    pairs = zip(first.encode(traced).layers, second.encode(traced).layers, strict=True)

    assert all(torch.allclose(one.error, other.error, atol=1e-12) for one, other in pairs)
    indices = torch.tensor([3, 1])
    assert torch.equal(first.encoder_rows(0, indices), second.encoder_rows(0, indices))


def test_the_bank_follows_the_models_type(tmp_path: Path) -> None:
    folder = str(write_transcoders(tmp_path / "set"))

    assert load_bank(folder, tiny_model("fp64")).decoder_bias(0).dtype == torch.float64
    assert load_bank(folder, tiny_model("bf16")).decoder_bias(0).dtype == torch.float32
    assert isinstance(load_bank(folder), Bank)
    assert load_bank(folder).decoder_bias(0).dtype == torch.float32
