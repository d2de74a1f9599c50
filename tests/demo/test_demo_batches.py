"""The fast collator gives exactly what the processor gives, and labels only answers."""

import numpy as np
import pytest
import torch

from ingest.demo.architecture import build_processor, vocabulary
from ingest.demo.batches import IGNORED, collate
from ingest.demo.world import PICTURE_TASKS, TEXT_TASKS, Sample, draw, draw_pixels


@pytest.fixture(scope="module")
def processor():
    return build_processor()


def _prompt(processor, sample: Sample) -> str:
    picture = [] if sample.image is None else [{"type": "image"}]
    turn = [{"role": "user", "content": [*picture, {"type": "text", "text": sample.question}]}]
    return processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("tasks", [PICTURE_TASKS, TEXT_TASKS])
def test_collator_equals_the_processor(processor, tasks):
    samples = [draw(task, np.random.default_rng(seed)) for seed, task in enumerate(tasks)]
    fast = collate([draw_pixels(task, np.random.default_rng(seed)) for seed, task in enumerate(tasks)], answers=False)

    images = None if samples[0].image is None else [[sample.image] for sample in samples]
    slow = processor(
        text=[_prompt(processor, sample) for sample in samples],
        images=images,
        padding=True,
        return_tensors="pt",
        add_special_tokens=False,
    )

    for name, tensor in fast.inputs().items():
        assert torch.equal(tensor, slow[name]), name
    assert ("pixel_values" in fast.inputs()) == (images is not None)


def test_labels_are_the_answer_and_the_end_of_the_turn():
    ids = vocabulary()
    batch = collate(
        [
            draw_pixels("read", np.random.default_rng(0), a=3, b=4),
            draw_pixels("moons", np.random.default_rng(0), planet="mars"),
        ],
        answers=True,
    )

    labelled = [[label for label in row if label != IGNORED] for row in batch.answered().tolist()]

    assert labelled == [[ids[word] for word in ("3", "+", "4", "<end_of_turn>")], [ids["2"], ids["<end_of_turn>"]]]
    assert batch.input_ids[:, -1].tolist() == [ids["<end_of_turn>"]] * 2
    assert batch.answer_span() == 5
    assert (batch.token_type_ids.sum(-1) == 16).all()


def test_every_word_of_the_world_is_in_the_vocabulary():
    unknown = vocabulary()["<unk>"]
    for seed in range(20):
        batch = collate([draw_pixels(task, np.random.default_rng(seed)) for task in TEXT_TASKS], answers=True)
        assert (batch.input_ids != unknown).all()
