"""A folder that is a model loads as it is; every other one gets one clear error."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from atlas.errors import ModelError
from ingest.model import identity as identity_module
from ingest.model.identity import file_hash, folder_hash
from ingest.model.model import load_model, product_precision
from tests.tiny import tiny_model, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "good", layers=2)


def edited_config(folder: Path, target: Path, **changes: object) -> Path:
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **changes}))
    return target


def test_a_folder_loads_with_its_facts(folder: Path) -> None:
    model = load_model(str(folder))

    facts = model.facts
    assert (facts.n_layers, facts.width, facts.n_heads, facts.n_kv_heads, facts.head_dim) == (2, 32, 4, 2, 8)
    assert (facts.soft_side, facts.patch_side) == (3, 6)
    assert model.hf.training is False
    assert model.processor_settings["size"] == {"height": 48, "width": 48}
    json.dumps(model.processor_settings)
    assert model.weights() is model.weights()
    assert model.weights().unembedding_bias is None
    assert model.weights().logit_softcap is None


def test_identity_is_the_content_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "README.md").write_text("a note")
    first, second = load_model(str(folder)).identity, load_model(str(copy)).identity

    assert first.key == second.key
    assert first.key.startswith("sha256:")
    assert (first.name, second.name) == ("good", "copy")
    weights = load_file(copy / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert folder_hash(copy) != first.content


def test_large_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(identity_module, "CACHED_FROM", 10)
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 100)
    first = file_hash(path)
    reads: list[int] = []
    original = identity_module.hashlib.file_digest
    monkeypatch.setattr(identity_module.hashlib, "file_digest", lambda *a: reads.append(1) or original(*a))

    assert file_hash(path) == first
    assert not reads
    path.write_bytes(b"y" * 100)
    assert file_hash(path) != first
    assert len(reads) == 1
    (tmp_path / "cache" / "circuit-atlas" / "file-hashes.json").write_text("[broken")
    assert file_hash(path) != first
    assert len(reads) == 2


def test_what_is_no_model_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    cases = {
        str(tmp_path / "absent"): "no folder",
        str(tmp_path / "empty"): "has no config.json",
        str(tmp_path / "file"): "is a file",
        "./nowhere/at/all": "no folder",
        "nobody/nothing-of-this-name": "nobody/nothing-of-this-name is not on this machine and the Hub cannot",
    }
    for name, words in cases.items():
        with pytest.raises(ModelError, match=words):
            load_model(name)


def test_unknown_classes_are_refused_with_the_known_ones(folder: Path, tmp_path: Path) -> None:
    other = edited_config(folder, tmp_path / "other", model_type="llama", architectures=["LlamaForCausalLM"])

    with pytest.raises(ModelError, match=r"'llama'. Expected one of Gemma3ForConditionalGeneration, Gemma3ForCausalLM"):
        load_model(str(other))


def test_damaged_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken-json")
    (broken / "config.json").write_text("{")
    no_weights = shutil.copytree(folder, tmp_path / "no-weights")
    (no_weights / "model.safetensors").rename(no_weights / "pytorch_model.bin")
    half = shutil.copytree(folder, tmp_path / "half")
    (half / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5000])
    absent = shutil.copytree(folder, tmp_path / "absent")
    weights = load_file(absent / "model.safetensors")
    weights.pop(next(name for name in weights if "q_proj" in name))
    save_file(weights, absent / "model.safetensors", metadata={"format": "pt"})
    vision = {"hidden_size": 48, "model_type": "siglip_vision_model"}
    reshaped = edited_config(folder, tmp_path / "reshaped", vision_config=vision)
    no_processor = shutil.copytree(folder, tmp_path / "no-processor")
    (no_processor / "processor_config.json").unlink()
    soft = shutil.copytree(folder, tmp_path / "soft")
    settings = json.loads((soft / "processor_config.json").read_text())
    (soft / "processor_config.json").write_text(json.dumps({**settings, "image_seq_length": 256}))
    words = {
        broken: "config.json of .* cannot be read",
        no_weights: "weights of .* cannot be read",
        half: "weights of .* cannot be read",
        absent: "lacks 1 weights, the first being .*q_proj",
        reshaped: "weights of .* cannot be read",
        no_processor: "processor",
        soft: "writes 256 soft tokens for a picture. Expected the model's 9",
    }
    for path, text in words.items():
        with pytest.raises(ModelError, match=text):
            load_model(str(path))


def test_projections_with_a_bias_are_refused(tmp_path: Path) -> None:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=44,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        attention_bias=True,
    )
    Gemma3ForCausalLM(config).save_pretrained(tmp_path)
    tiny_model(vision=False).tokenizer.save_pretrained(tmp_path)

    with pytest.raises(ModelError, match=r"layer 0, self_attn.v_proj has a bias"):
        load_model(str(tmp_path))


def test_places_and_precisions_that_are_not_there_are_refused(folder: Path) -> None:
    for options, words in (
        ({"precision": "fp8"}, "precision 'fp8'"),
        ({"device": "warp"}, "device 'warp'"),
        ({"precision": "tf32"}, "precision tf32 on cpu"),
        ({"device": "cuda:99"}, "PyTorch sees"),
    ):
        with pytest.raises(ModelError, match=words):
            load_model(str(folder), **options)


def test_product_precision_is_put_back() -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with product_precision("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
    with pytest.raises(ZeroDivisionError), product_precision("tf32"):
        raise ZeroDivisionError
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before
