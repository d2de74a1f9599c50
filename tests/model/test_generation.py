"""What comes after the prompt: appended tokens are ordinary text positions, the answer is what the model would say."""

import pytest
import torch

from atlas.errors import InputError
from ingest.model.generation import append_tokens, generate, greedy_answer
from ingest.model.inputs import prepare
from tests.tiny import picture, tiny_model

ASKED = "what is the sum of one and two ?"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_generated_tokens_are_the_greedy_ones(count: int) -> None:
    model = tiny_model()
    asked = prepare(model, ASKED, [picture(n) for n in range(count)])
    grown, length = generate(model, asked, 4), len(asked.positions)
    assert length < len(grown.positions) <= length + 4
    with torch.no_grad():
        greedy = model.hf(**grown.batch).logits[0].argmax(-1)
    assert torch.equal(greedy[length - 1 : -1], grown.token_ids[length:])
    assert {position.modality for position in grown.positions[length:]} == {"text"}
    assert [position.index for position in grown.positions] == list(range(len(grown.positions)))


def test_the_end_of_the_turn_is_left_out() -> None:
    model = tiny_model()
    asked = prepare(model, ASKED, [])
    first = int(generate(model, asked, 1).token_ids[-1])
    own = model.hf.generation_config.eos_token_id
    try:
        model.hf.generation_config.eos_token_id = [first]
        assert len(generate(model, asked, 4).positions) == len(asked.positions)
    finally:
        model.hf.generation_config.eos_token_id = own


def test_no_tokens_change_nothing() -> None:
    model = tiny_model()
    asked = prepare(model, ASKED, [])
    assert append_tokens(model, asked, ()) is asked
    assert generate(model, asked, 0) is asked


def test_more_than_the_model_allows_is_refused() -> None:
    model = tiny_model()
    asked = prepare(model, ASKED, [])
    room = model.facts.max_positions - len(asked.positions)
    token = int(asked.token_ids[-1])
    assert len(append_tokens(model, asked, (token,) * room).positions) == model.facts.max_positions
    with pytest.raises(InputError, match="at most"):
        append_tokens(model, asked, (token,) * (room + 1))


def test_the_answer_is_hugging_faces() -> None:
    model = tiny_model()
    asked = prepare(model, ASKED, [picture()])
    ids = model.hf.generate(**asked.batch, max_new_tokens=4, do_sample=False)[0, len(asked.positions) :]
    assert greedy_answer(model, asked, 4) == model.tokenizer.decode(ids, skip_special_tokens=True).strip()
