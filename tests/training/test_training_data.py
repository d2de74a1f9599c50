"""What transcoders learn from: the MLPs' own inputs and outputs, by group, without padding."""

import json

import pytest
import torch

from atlas.errors import AtlasError, InputError
from ingest.model.inputs import prepare
from ingest.training.data import GROUPS, collect, mlp_modules, position_groups, watched_mlps
from ingest.training.prompts import prompt_batches
from tests import tiny


@pytest.fixture(scope="module")
def model():
    return tiny.tiny_model(layers=3)


@pytest.fixture(scope="module")
def batch(model):
    return prepare(model, "what is the sum of a + b ?", [tiny.picture()]).batch


def test_collected_rows_are_what_the_mlps_compute(model, batch):
    tokens = collect(model.hf, [batch], range(3), int(batch["attention_mask"].sum()))

    for layer, module in enumerate(mlp_modules(model.hf)):
        with torch.no_grad():
            again = module(tokens.inputs[layer])
        assert torch.allclose(again, tokens.targets[layer], atol=1e-6)
    assert not torch.equal(tokens.inputs[0], tokens.inputs[1])


def test_hooks_are_gone_afterwards_also_on_error(model, batch):
    with watched_mlps(model.hf, [0, 2]):
        assert sum(len(module._forward_hooks) for module in mlp_modules(model.hf)) == 2
    with pytest.raises(ZeroDivisionError), watched_mlps(model.hf, [1]):
        raise ZeroDivisionError
    assert all(not module._forward_hooks for module in mlp_modules(model.hf))


def test_every_position_has_its_group(model, batch):
    groups = position_groups(model.hf, batch)[0]
    images = batch["token_type_ids"][0].bool()

    assert (groups[images] == GROUPS.index("image")).all()
    assert groups[-1] == GROUPS.index("last")
    assert (groups == GROUPS.index("last")).sum() == 1
    assert (groups[~images][:-1] == GROUPS.index("text")).all()


def test_with_answers_the_last_prompt_position_comes_before_them(model, batch):
    labels = torch.full_like(batch["input_ids"], -100)
    labels[0, -2:] = 5
    groups = position_groups(model.hf, {**batch, "labels": labels})[0]
    assert (groups == GROUPS.index("last")).nonzero().item() == len(groups) - 3


def test_padding_is_left_out(model, batch):
    by_position = ("input_ids", "attention_mask", "token_type_ids")
    padded = {name: torch.nn.functional.pad(batch[name], (3, 0)) for name in by_position}
    padded["pixel_values"] = batch["pixel_values"]
    count = int(batch["attention_mask"].sum())

    plain = collect(model.hf, [batch], [1], count)
    without = collect(model.hf, [padded], [1], count)

    assert torch.equal(plain.groups, without.groups)
    assert torch.allclose(plain.inputs[1], without.inputs[1], atol=1e-5)
    with pytest.raises(InputError, match="positions"):
        collect(model.hf, [padded], [1], count + 1)


def test_later_prompts_are_held_out(model, batch):
    whole = collect(model.hf, [batch, batch], [0], 30)
    first, rest = whole.split(20)
    assert (len(first), len(rest)) == (20, 10)
    assert torch.equal(torch.cat([first.inputs[0], rest.inputs[0]]), whole.inputs[0])


def test_prompt_lines_become_what_prepare_makes(model, tmp_path):
    tiny.picture().save(tmp_path / "a.png")
    lines = [{"prompt": "what is a ?", "images": ["a.png"], "task": "kept"}, {"prompt": "what is b ?"}]
    (tmp_path / "p.jsonl").write_text("\n\n".join(json.dumps(line) for line in lines))

    found = list(prompt_batches(tmp_path / "p.jsonl")(model))

    expected = [prepare(model, "what is a ?", [tiny.picture()]).batch, prepare(model, "what is b ?", []).batch]
    assert [batch.keys() for batch in found] == [batch.keys() for batch in expected]
    assert all(torch.equal(one[name], two[name]) for one, two in zip(found, expected, strict=True) for name in one)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"images": []}',
        '{"prompt": 3}',
        '{"prompt": "a", "images": "x"}',
        '{"prompt": "a", "images": ["none.png"]}',
        '{"prompt": "a", "images": ["bad.png"]}',
    ],
)
def test_bad_lines_are_one_clear_error(model, tmp_path, text):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(AtlasError):
        list(prompt_batches(tmp_path / "p.jsonl")(model))


def test_a_missing_file_is_one_clear_error(model, tmp_path):
    with pytest.raises(InputError):
        list(prompt_batches(tmp_path / "none.jsonl")(model))
