"""Targets: every way to name one, at any position, and one clear error for what does not exist."""

import dataclasses
from typing import Any

import pytest
import torch

from atlas.errors import TargetError
from ingest.attribution.features import attribute
from ingest.attribution.settings import AttributionSettings
from ingest.attribution.targets import Targets, TargetSpec, Vocabulary, resolve, shared_prefix
from ingest.model.capture import run as capture
from ingest.model.generation import generate
from ingest.model.inputs import prepare
from tests.science.world import Case, case
from tests.tiny import picture


def resolved(made: Case, **spec: Any) -> Targets:
    return resolve(TargetSpec(**spec), made.run, made.model.weights(), made.vocabulary)


def sums_of(made: Case, targets: Targets) -> torch.Tensor:
    rows = attribute(made.frozen(), made.run.token_ids, made.bank, targets, AttributionSettings(max_features=5))
    assert rows.worst_residue < 1e-10
    return rows.incoming_sum[: len(targets)]


def letters(text: str) -> list[int]:
    """A tokenizer of single letters: a is 10, b is 11; others do not exist."""
    return [10 + ord(letter) - ord("a") if "a" <= letter <= "z" else 3 for letter in text]


LETTERS = Vocabulary(letters, lambda token: chr(token - 10 + ord("a")), unknown=3)


def test_top_is_the_smallest_set_that_reaches_the_mass() -> None:
    made = case()
    probabilities = made.run.logits[-1].double().softmax(-1)
    ordered = probabilities.sort(descending=True)
    for mass in (0.1, 0.5, 0.9):
        found = resolved(made, mass=mass, max_logits=None)
        count = len(found)
        assert found.ids.tolist() == ordered.indices[:count].tolist()
        assert found.mass == pytest.approx(float(ordered.values[:count].sum()))
        assert found.mass >= mass > found.mass - float(found.probabilities[-1])
        assert torch.equal(found.weights, found.probabilities)
    assert len(resolved(made, mass=0.9, max_logits=None)) > 3
    capped = resolved(made, mass=0.9, max_logits=3)
    assert len(capped) == 3
    assert capped.mass < 0.9
    assert len(resolved(made, mass=1, max_logits=None)) == len(probabilities)


def test_named_tokens_and_strings_at_any_position() -> None:
    made = case()
    length = len(made.texts)
    logits = made.run.logits
    for position in (0, 7, length - 2, -1, -length):
        found = resolved(made, kind="tokens", tokens=(12, 30), position=position)
        assert found.positions.tolist() == [position % length] * 2
        expected = logits[position, [12, 30]] - logits[position].mean()
        assert torch.allclose(found.values, expected, rtol=0, atol=1e-12)
        assert torch.allclose(sums_of(made, found), expected, rtol=0, atol=1e-12)
    named = resolved(made, kind="strings", strings=("five", "two"))
    assert [text.strip() for text in named.texts] == ["five", "two"]
    assert named.ids.tolist() == [made.vocabulary.encode("five")[0], made.vocabulary.encode("two")[0]]


def test_a_difference_and_a_vector_are_virtual_targets() -> None:
    made = case()
    size = made.run.logits.shape[1]
    for answers in (("five", "two"), (12, 30), ("five", 12)):
        found = resolved(made, kind="difference", difference=answers, position=4)
        first, second = (made.vocabulary.encode(a)[0] if isinstance(a, str) else a for a in answers)
        expected = made.run.logits[4, first] - made.run.logits[4, second]
        assert float(sums_of(made, found)) == pytest.approx(float(expected), abs=1e-12)
        assert found.ids.tolist() == [size]
        assert found.weights.tolist() == [1]
    vector = tuple(torch.randn(made.run.embeddings.shape[1], generator=torch.Generator().manual_seed(0)).tolist())
    found = resolved(made, kind="vector", vector=vector)
    final = made.run.final_residual[-1] * made.run.final_scale[-1] * made.model.weights().final_gain
    assert float(sums_of(made, found)) == pytest.approx(
        float(final @ torch.tensor(vector, dtype=final.dtype)), abs=1e-12
    )
    assert found.texts == ("vector",)


def test_a_generated_position_is_an_ordinary_position() -> None:
    made = case()
    asked = prepare(made.model, "what is the sum ?", [picture()])
    inputs = generate(made.model, asked, 2)
    run = capture(made.model, inputs)
    last = len(asked.positions)
    assert len(inputs.positions) > last
    longer = dataclasses.replace(made, run=run, inputs=inputs, encoded=made.bank.encode(run))
    found = resolve(TargetSpec(position=last), run, made.model.weights(), made.vocabulary)
    assert found.positions.unique().tolist() == [last]
    sums_of(longer, found)


def test_answers_of_several_tokens_stand_for_the_first_that_differs() -> None:
    assert shared_prefix(TargetSpec(kind="strings", strings=("abc",)), LETTERS) == ()
    assert shared_prefix(TargetSpec(kind="difference", difference=("abc", "xbc")), LETTERS) == ()
    spec = TargetSpec(kind="difference", difference=("abcd", "abfd"))
    assert shared_prefix(spec, LETTERS) == (10, 11)
    made = case()
    with pytest.raises(TargetError, match="'ab'"):
        resolve(spec, made.run, made.model.weights(), LETTERS)
    ids = made.run.token_ids.clone()
    ids[-2:] = torch.tensor([10, 11])
    found = resolve(spec, dataclasses.replace(made.run, token_ids=ids), made.model.weights(), LETTERS)
    assert found.texts == ("c - f",)


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "strings", "strings": ("",)},
        {"kind": "strings", "strings": ("  ",)},
        {"kind": "strings", "strings": ("zebra",)},
        {"kind": "strings", "strings": ("five", "five")},
        {"kind": "tokens", "tokens": (10**6,)},
        {"kind": "tokens", "tokens": (-1,)},
        {"kind": "difference", "difference": ("five", "five")},
        {"kind": "difference", "difference": ("five", "five two")},
        {"kind": "difference", "difference": (12, 12)},
        {"kind": "difference", "difference": (12, 10**6)},
        {"kind": "vector", "vector": (1.0, 2.0)},
        {"kind": "vector", "vector": (0.0,) * 32},
        {"position": 1000},
        {"position": -1000},
    ],
    ids=str,
)
def test_what_does_not_exist_is_one_clear_error(spec: dict[str, Any]) -> None:
    with pytest.raises(TargetError):
        resolved(case(), **spec)


@pytest.mark.parametrize(
    "record",
    [
        7,
        [1, 2],
        {"kind": "logits"},
        {"kind": "tokens"},
        {"kind": "tokens", "tokens": ["five"]},
        {"kind": "difference", "difference": ["five"]},
        {"mass": 0},
        {"mass": "high"},
        {"max_logits": 0},
        {"position": 1.5},
        {"strings": [True]},
        {"token": 5},
        {"strings": ["five"], "tokens": [5]},
    ],
    ids=str,
)
def test_a_broken_record_is_one_clear_error(record: Any) -> None:
    with pytest.raises(TargetError):
        TargetSpec.from_json(record)


def test_records_have_one_canonical_form() -> None:
    spec = TargetSpec.from_json({"difference": ["five", 12], "position": -2})
    assert spec == TargetSpec(kind="difference", difference=("five", 12), position=-2)
    assert spec.to_json() == {"kind": "difference", "position": -2, "difference": ["five", 12]}
    assert TargetSpec.from_json(None) == TargetSpec()
    assert (
        TargetSpec.from_json("five") == TargetSpec.from_json(["five"]) == TargetSpec(kind="strings", strings=("five",))
    )
    for record in (None, "five", {"tokens": [3]}, {"vector": [1, 2.5]}, {"mass": 0.5, "max_logits": None}):
        spec = TargetSpec.from_json(record)
        assert TargetSpec.from_json(spec.to_json()) == spec
    assert "mass" not in TargetSpec(kind="tokens", tokens=(1,), mass=0.5).to_json()
