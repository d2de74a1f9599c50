"""A graph that does not fit is refused before any work, with options that help; one that fits is made as it may be."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import ingest.plan as plan_module
from atlas.errors import AtlasError, InputError, ModelError, TranscoderError
from ingest.attribution.memory import Sizes
from ingest.attribution.settings import AttributionSettings
from ingest.demo.shipped import shipped
from ingest.model.inputs import prepare
from ingest.model.model import DTYPES, load_model
from ingest.plan import GIB, _container_leaves, check_fits, does_not_fit, make_plan, ways_to_fit
from ingest.plan_cli import plan as command
from ingest.rollout.attention import RolloutSettings
from ingest.sizes import SetSizes, describe_model, describe_set, join_sizes, sizes_of
from ingest.transcoders.bank import load_bank
from tests.tiny import picture, tiny_model, write_model, write_transcoders

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
DEFAULT = AttributionSettings()
GEMMA = {
    "model_type": "gemma3",
    "architectures": ["Gemma3ForConditionalGeneration"],
    "image_token_index": 262144,
    "mm_tokens_per_image": 256,
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
        "vision_use_head": False,
    },
}


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gemma-3-4b")
    (folder / "config.json").write_text(json.dumps(GEMMA))
    return folder


def real_sizes(gemma: Path, positions: int, views: int, precision: str = "tf32") -> Sizes:
    """google/gemma-3-4b-it with 163,840 features a layer, top 48, in bf16."""
    model = describe_model(str(gemma))
    found = SetSizes.alike(34, 2560, 163_840, 48)
    rollout = RolloutSettings(gradient=False)
    weights = model.weights[precision]  # type: ignore[index]
    return join_sizes(model.config, model.facts, precision, weights, found, positions, views, rollout)  # type: ignore[arg-type]


def test_one_picture_fits_a_large_card_with_everything_on_it(gemma: Path) -> None:
    found = make_plan(real_sizes(gemma, 290, 1), DEFAULT, CUDA, 80 * GIB)

    assert found.fits and found.estimate.rows_whole and found.estimate.tables_kept
    assert found.resident == found.sizes.encoders == 34 * 163_840 * 2560 * 2


def test_a_24_gb_card_streams_and_takes_one_picture_in_bf16(gemma: Path) -> None:
    half = real_sizes(gemma, 290, 1, "bf16")

    assert make_plan(real_sizes(gemma, 290, 1), DEFAULT, CUDA, 24 * GIB).fits is False
    found = make_plan(half, replace(DEFAULT, row_bytes=4 * GIB), CUDA, 24 * GIB)
    assert found.fits and found.resident < found.sizes.encoders
    assert make_plan(half, replace(DEFAULT, row_bytes=4 * GIB), CUDA, 24 * GIB, encoder_bytes=0).resident == 0


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_four_pictures_and_a_long_text_fit_80_gb(precision: str, gemma: Path) -> None:
    found = make_plan(real_sizes(gemma, 3100, 4, precision), DEFAULT, CUDA, 80 * GIB)

    assert found.fits
    assert not found.estimate.rows_whole, "whole rows would be 150 GB"
    assert not found.estimate.tables_kept, "all tables would be 54 GB"
    rows = next(part.nbytes for part in found.estimate.parts if part.name == "rows of edges")
    assert rows <= DEFAULT.row_bytes


def test_every_option_that_is_offered_helps(gemma: Path) -> None:
    sizes = real_sizes(gemma, 290, 1)
    found = make_plan(sizes, DEFAULT, CUDA, 24 * GIB)

    ways = ways_to_fit(found, "tf32", CUDA)

    assert ways
    for way in ways:
        words = way.options.split()
        said = dict(zip(words[::2], words[1::2], strict=True))
        asked = replace(
            DEFAULT,
            row_bytes=int(said.get("--row-memory", 16)) * GIB,
            max_features=int(said.get("--max-nodes", 7500)),
        )
        again = make_plan(real_sizes(gemma, 290, 1, said.get("--precision", "tf32")), asked, CUDA, 24 * GIB)
        assert again.fits, way.options
    assert all(way.options in str(does_not_fit(found, "tf32", CUDA)) for way in ways)
    nothing = make_plan(sizes, DEFAULT, CUDA, 2 * GIB)
    assert "is too much" in str(does_not_fit(nothing, "tf32", CUDA))


def test_what_is_chosen_never_changes_a_graph(gemma: Path) -> None:
    for gib in (20, 24, 36, 40, 60, 80, 140):
        found = make_plan(real_sizes(gemma, 290, 1), DEFAULT, CUDA, gib * GIB)
        assert found.settings.to_json() == DEFAULT.to_json()
        if found.fits:
            assert found.estimate.most <= gib * GIB
    batches = {
        make_plan(real_sizes(gemma, 290, 1), DEFAULT, CUDA, gib * GIB).estimate.batch for gib in (35, 36, 37, 40, 80)
    }
    assert len(batches) > 1, "a small card takes smaller batches"


def test_a_loaded_model_has_the_sizes_its_folder_says(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    bank_folder = write_transcoders(tmp_path / "set", skip=True)
    for precision in ("fp32", "bf16", "fp64"):
        model = load_model(str(folder), precision=precision)
        inputs = prepare(model, "what is the sum ?", [picture(0), picture(1)])
        loaded = sizes_of(model, load_bank(str(bank_folder), model), inputs, RolloutSettings())

        described = describe_model(str(folder))
        positions, views = described.counted("what is the sum ?", [picture(0), picture(1)], raw=False)
        read = join_sizes(
            described.config,
            described.facts,
            precision,
            described.weights[precision],
            describe_set(str(bank_folder), None),
            positions,
            views,
            RolloutSettings(gradient=True),
        )
        assert read == loaded
        assert loaded.weights == sum(p.nbytes for p in model.hf.parameters())


def test_without_weights_the_config_says_how_many_there_are(tmp_path: Path, gemma: Path) -> None:
    for vision in (True, False):
        folder = write_model(tmp_path / f"{vision}", vision=vision)
        with_weights = describe_model(str(folder)).weights
        (folder / "model.safetensors").unlink()
        assert describe_model(str(folder)).weights == with_weights
    numbers = describe_model(str(gemma)).weights["bf16"] // DTYPES["bf16"].itemsize
    assert numbers == 4_300_079_472, "what google/gemma-3-4b-it has"
    assert describe_model(str(gemma)).counted("word " * 30, [picture(0)] * 2, raw=False)[1] == 2


def test_a_graph_that_does_not_fit_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tiny_model()
    bank = load_bank(str(write_transcoders(tmp_path / "set")), model)
    inputs = prepare(model, "what is the sum ?", [picture(0)])
    rollout = RolloutSettings()

    assert check_fits(model, bank, inputs, DEFAULT, rollout).fits
    monkeypatch.setattr(plan_module, "free_bytes", lambda *_: 10_000)
    with pytest.raises(ModelError, match=r"a graph of \d+ tokens takes about .* on cpu") as refused:
        check_fits(model, bank, inputs, DEFAULT, rollout)
    assert "\n" not in str(refused.value)
    monkeypatch.setattr(plan_module, "free_bytes", lambda *_: None)
    assert check_fits(model, bank, inputs, DEFAULT, rollout).fits is None


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    assert _container_leaves(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 50\n")
    assert _container_leaves(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert _container_leaves(tmp_path) == 450
    old = tmp_path / "old" / "memory"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("2000\n")
    (old / "memory.usage_in_bytes").write_text("1500\n")
    (old / "memory.stat").write_text("total_inactive_file 100\n")
    assert _container_leaves(tmp_path / "old") == 600


def asked(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, list(arguments), standalone_mode=False, catch_exceptions=False)
    return result.return_value, result.output


def test_the_command_says_what_fits(gemma: Path) -> None:
    shape = ("--model", str(gemma), "--latents", "163840", "--active", "48", "--tokens", "290")

    code, text = asked(*shape, "--memory", "80")
    assert code == 0 and "It fits" in text and "attention patterns" in text
    code, text = asked(*shape, "--memory", "24")
    assert code == 1 and "It does not fit" in text and "--precision bf16" in text
    code, text = asked(*shape, "--memory", "24", "--precision", "bf16", "--row-memory", "4", "--json")
    rows = json.loads(text)
    assert code == 0 and rows[-1]["fits"] is True
    assert rows[-1]["bytes"] == max(row["bytes"] for row in rows)


def test_the_command_counts_the_longest_prompt_of_a_file(tmp_path: Path) -> None:
    picture(0, 112, 112).save(tmp_path / "one.png")
    lines = [{"prompt": "what is the sum ?", "images": ["one.png"]}, {"prompt": "what is the sum ?"}]
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    demo = ("--model", shipped("model"), "--transcoders", shipped("transcoders"))

    _, of_file = asked(str(tmp_path / "prompts.jsonl"), *demo)
    _, of_one = asked("--prompt", "what is the sum ?", "--image", str(tmp_path / "one.png"), *demo)

    assert of_file.splitlines()[0] == of_one.splitlines()[0] == "Memory of a graph of 34 tokens, fp32"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("--latents", "9", "--active", "2"), InputError, "nothing to plan for"),
        (("--latents", "9", "--active", "2", "--tokens", "9", "--prompt", "x"), InputError, "several things"),
        (("--latents", "9", "--tokens", "9"), InputError, "--latents without --active"),
        (("--tokens", "9"), InputError, "no transcoders"),
        (("--tokens", "9", "--transcoders", "hf://org/set"), TranscoderError, "is on the Hub"),
        (("--tokens", "9", "--transcoders", "nowhere"), TranscoderError, "no folder nowhere"),
        (("--tokens", "9999999", "--latents", "9", "--active", "2"), InputError, "a prompt of 9999999 tokens"),
        (("--tokens", "9", "--image", "x.png", "--latents", "9", "--active", "2"), InputError, "--image without"),
    ],
)
def test_what_cannot_be_planned_is_one_error(
    arguments: tuple[str, ...], error: type[AtlasError], words: str, gemma: Path
) -> None:
    with pytest.raises(error, match=words):
        asked("--model", str(gemma), *arguments)
