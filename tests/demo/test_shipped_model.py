"""The shipped weights are what their report says, and Hugging Face loads them as any other model."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, Gemma3ForConditionalGeneration

import ingest.demo
from ingest.demo.evaluate import accuracy, world_batches
from ingest.demo.facts import HELD_OUT, PICTURE_TASKS, TEXT_TASKS
from ingest.demo.world import draw
from ingest.training.evaluate import evaluate_set
from ingest.transcoders.bank import load_bank

ASSETS = Path(ingest.demo.__file__).parent / "assets"
FRESH_SEED = 515
PER_TASK = 20


@pytest.fixture(scope="module")
def report() -> dict:
    return json.loads((ASSETS / "report.json").read_text())


@pytest.fixture(scope="module")
def fresh() -> list[dict]:
    torch.set_num_threads(1)
    return accuracy(ASSETS / "circuit-atlas-demo", PER_TASK, FRESH_SEED)


def test_the_folder_is_small_and_holds_no_pickle():
    files = [path for path in ASSETS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 13 * 2**20
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".yaml", ".jinja"}


def test_hugging_face_loads_it_and_it_answers_in_words():
    processor = AutoProcessor.from_pretrained(ASSETS / "circuit-atlas-demo")
    model = AutoModelForImageTextToText.from_pretrained(ASSETS / "circuit-atlas-demo")
    assert isinstance(model, Gemma3ForConditionalGeneration)

    for task, fixed in (("read", {"a": 3, "b": 4}), ("moons", {"planet": "mars"}), ("text_sum", {"a": 8, "b": 9})):
        sample = draw(task, np.random.default_rng(1), **fixed)
        picture = [] if sample.image is None else [{"type": "image", "image": sample.image}]
        turn = [{"role": "user", "content": [*picture, {"type": "text", "text": sample.question}]}]
        inputs = processor.apply_chat_template(
            turn, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        made = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
        assert processor.tokenizer.decode(made, skip_special_tokens=True) == sample.answer


def test_the_table_reaches_what_was_asked(report):
    rows = report["accuracy"]
    assert [row["task"] for row in rows if row["kind"] == "picture"] == list(PICTURE_TASKS)
    assert [row["task"] for row in rows if row["kind"] == "text"] == list(TEXT_TASKS)
    assert min(row["accuracy"] for row in rows if row["kind"] == "picture") >= 0.95
    assert min(row["accuracy"] for row in rows if row["kind"] == "text") >= 0.99


def test_held_out_pairs_are_reported_apart(report):
    apart = {tuple(row["task"].split()) for row in report["accuracy"] if row["kind"] == "held_out"}
    assert apart == HELD_OUT


def test_fresh_pictures_are_answered_as_the_report_says(report, fresh):
    for row, shipped in zip(fresh, report["accuracy"], strict=True):
        assert row["task"] == shipped["task"]
        expected = (shipped["correct"] + 1) / (shipped["n"] + 2)  # never exactly 0 or 1
        stderr = math.sqrt(expected * (1 - expected) * (1 / row["n"] + 1 / shipped["n"]))
        assert row["accuracy"] >= shipped["accuracy"] - max(4 * stderr, 1.5 / row["n"]), row["task"]


def test_standard_errors_are_binomial(fresh):
    for row in fresh:
        share = row["correct"] / row["n"]
        assert row["n"] == PER_TASK
        assert row["stderr"] == pytest.approx(math.sqrt(share * (1 - share) / PER_TASK), abs=1e-4)


def test_the_transcoders_imitate_as_the_report_says(report):
    rows = evaluate_set(
        ASSETS / "circuit-atlas-demo",
        ASSETS / "circuit-atlas-demo-plt-16x",
        world_batches(200, seed=FRESH_SEED),
        max_tokens=3000,
    )

    assert load_bank(str(ASSETS / "circuit-atlas-demo-plt-16x")).n_layers == 6
    for row, shipped in zip(rows, report["transcoders"], strict=True):
        assert (row["layer"], row["group"]) == (shipped["layer"], shipped["group"])
        assert row["fvu"] < 1.5 * shipped["fvu"] + 0.01
        assert row["fvu"] < 0.3
