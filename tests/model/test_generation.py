"""What comes after the prompt: appended tokens are ordinary text positions, the answer is what the model would say."""

import torch

from ingest.model.capture import run
from ingest.model.generation import append_tokens, greedy_answer
from ingest.model.inputs import prepare
from tests.tiny import picture, tiny_model


def test_appended_tokens_are_what_generation_would_have_left() -> None:
    model = tiny_model()
    grown = prepare(model, "what is this ?", [picture()], generate=3)
    tokens = tuple(grown.token_ids[grown.prompt_length :].tolist())
    assert tokens
    appended = append_tokens(model, prepare(model, "what is this ?", [picture()]), tokens)
    assert appended.positions == grown.positions
    assert appended.prompt_length == grown.prompt_length
    assert torch.equal(run(model, appended).logits, run(model, grown).logits)


def test_no_tokens_change_nothing() -> None:
    model = tiny_model()
    inputs = prepare(model, "what is this ?", [])
    assert append_tokens(model, inputs, ()) is inputs


def test_the_answer_is_hugging_faces_and_begins_with_what_was_appended() -> None:
    model = tiny_model()
    inputs = prepare(model, "what is this ?", [picture()])
    ids = model.hf.generate(**inputs.batch, max_new_tokens=4, do_sample=False)[0, inputs.prompt_length :]
    expected = model.tokenizer.decode(ids, skip_special_tokens=True).strip()
    assert greedy_answer(model, inputs, 4) == expected
    appended = append_tokens(model, inputs, tuple(ids[:2].tolist()))
    assert greedy_answer(model, appended, 4) == expected
