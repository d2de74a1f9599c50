"""The training recipe: it learns, it survives being killed, and it writes a folder that Hugging Face loads."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, Gemma3ForConditionalGeneration

from atlas.errors import InputError
from ingest.demo.recipe import RecipeConfig, learning_rate, train_demo

SMALL = RecipeConfig(
    vision_steps=2,
    joint_steps=2,
    warmup_steps=2,
    mosaics_a=2,
    pictures_a=2,
    mosaics_b=2,
    pictures_b=2,
    texts=4,
    checkpoint_every=1,
    report_every=1,
)


class KilledError(Exception):
    """Stands for a signal."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train_demo(SMALL, folder / "model", folder / "work")
    return folder / "model"


@pytest.mark.parametrize("kill_at", [2, 3])
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path, undisturbed, kill_at):
    def kill(done: int, _total: int, _line: str) -> None:
        if done == kill_at:
            raise KilledError

    with pytest.raises(KilledError):
        train_demo(SMALL, tmp_path / "model", tmp_path / "work", kill)
    assert not (tmp_path / "model").exists()
    steps = []
    train_demo(SMALL, tmp_path / "model", tmp_path / "work", lambda done, _total, _line: steps.append(done))

    expected, found = (load_file(folder / "model.safetensors") for folder in (undisturbed, tmp_path / "model"))
    assert steps[0] == kill_at  # the killed step had no checkpoint yet
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_another_recipe_does_not_resume(tmp_path):
    one = replace(SMALL, vision_steps=1, joint_steps=1)
    train_demo(one, tmp_path / "model", tmp_path / "work")
    with pytest.raises(InputError, match="another recipe"):
        train_demo(replace(one, seed=1), tmp_path / "model", tmp_path / "work")


def test_the_folder_loads_and_generates(undisturbed):
    processor = AutoProcessor.from_pretrained(undisturbed)
    model = AutoModelForImageTextToText.from_pretrained(undisturbed)
    turn = [{"role": "user", "content": [{"type": "text", "text": "mars . how many moons does it have ?"}]}]
    inputs = processor.apply_chat_template(
        turn, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )

    made = model.generate(**inputs, max_new_tokens=2)

    assert isinstance(model, Gemma3ForConditionalGeneration)
    assert made.shape[1] > inputs["input_ids"].shape[1]
    assert model.generation_config.eos_token_id == [1, 5]


def test_every_parameter_learns(undisturbed):
    """The projector too, which Hugging Face initialises with zeros."""
    from ingest.demo.architecture import build_model

    fresh, trained = build_model(SMALL.seed), AutoModelForImageTextToText.from_pretrained(undisturbed)
    after = dict(trained.named_parameters())
    still = [name for name, tensor in fresh.named_parameters() if torch.equal(tensor, after[name])]
    assert still == []


def test_learning_rate_rises_then_falls():
    config = RecipeConfig()
    rates = [learning_rate(config, step) for step in range(0, config.steps, 10)]
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.03 * config.learning_rate < rates[peak]
