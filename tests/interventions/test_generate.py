"""Laws of texts written while the model is changed: the cache changes nothing, and nothing changed is the model's."""

import pytest
import torch
from torch import Tensor

from atlas.errors import InputError
from ingest.interventions.case import Case, make_case
from ingest.interventions.edits import GENERATED, Edits, Intervention, Vectors
from ingest.interventions.engine import intervene
from ingest.interventions.generate import generate_changed
from ingest.model.generation import append_tokens, greedy_answer
from ingest.model.inputs import prepare
from ingest.transcoders.bank import Bank
from tests.science.world import case
from tests.tiny import picture, tiny_model

STEPS = 4


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_nothing_changed_is_the_models_own_answer(pictures: int) -> None:
    made = _case(pictures)
    plain = greedy_answer(made.model, made.inputs, STEPS)
    assert generate_changed(made, [Intervention()] * 3, most=STEPS) == [plain] * 3
    assert generate_changed(made, [Intervention()], most=STEPS, mode="iterative") == [plain]


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_nothing_changed_changes_no_bit(pictures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _case(pictures)
    head, seen = made.model.part(made.model.sites.unembedding), list[Tensor]()
    handle = head.register_forward_hook(lambda _module, _args, output: seen.append(output[:, -1].clone()))
    try:
        greedy_answer(made.model, made.inputs, STEPS)
        plain, seen[:] = list(seen), []
        generate_changed(made, [Intervention()], most=STEPS)
    finally:
        handle.remove()
    assert len(plain) == len(seen) > 0
    assert all(torch.equal(a, b) for a, b in zip(plain, seen, strict=True))


@pytest.mark.parametrize("pictures", [0, 1])
@pytest.mark.parametrize("name", ["prompt", "generated", "both"])
def test_a_cache_changes_nothing(name: str, pictures: int) -> None:
    """Token by token without a cache, each time the whole text with the same changes: the same text."""
    made = _case(pictures)
    places = {"prompt": [3, 9], "generated": [GENERATED], "both": [3, GENERATED]}[name]
    edits = Edits.of([2] * len(places), [7] * len(places), places, 0.0, 25.0)
    cached = generate_changed(made, [Intervention(edits)], most=STEPS)[0]
    tokens: list[int] = []
    suppressed = made.model.facts.placeholder
    for _ in range(STEPS):
        longer = make_case(made.model, made.bank, append_tokens(made.model, made.inputs, tuple(tokens)))
        logits = intervene(longer, [Intervention(_spelled_out(edits, made, longer))], "free").logits[0, 0]
        logits[suppressed] = -torch.inf
        tokens.append(int(logits.argmax()))
    assert cached == made.model.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def test_changes_after_the_prompt_leave_its_first_token() -> None:
    made = _case(1)
    later = Intervention(Edits.of([2], [7], [GENERATED], 0.0, 60.0))
    sooner = Intervention(Edits.of([2], [7], [made.n_positions - 1], 0.0, 60.0))
    plain, after, before = generate_changed(made, [Intervention(), later, sooner], most=STEPS)
    assert after.split()[0] == plain.split()[0]
    assert after != plain
    assert before.split()[0] != plain.split()[0]


def test_vectors_stay_in_the_prompt() -> None:
    """A write at a prompt position does what adding to the feature whose row it is does, before a text too."""
    made = _case(1)
    row = made.bank.decoder_rows(2, torch.tensor([7]))
    place = torch.tensor([made.n_positions - 1])
    added = Intervention(Edits.of([2], [7], place, 1.0, 60.0))
    written = Intervention(writes=Vectors(torch.tensor([2]), place, 60 * row))
    plain, *found = generate_changed(made, [Intervention(), added, written], most=STEPS)
    assert found[0] == found[1] != plain


def test_iterative_holds_the_prompts_patterns() -> None:
    made = _case(1)
    item = Intervention(Edits.of([0] * 8, range(8), [4] * 8, 0.0, 9.0))
    first = intervene(made, [item], "iterative").logits[0, 0]
    first[made.model.facts.placeholder] = -torch.inf
    text = generate_changed(made, [item], most=1, mode="iterative")[0]
    assert text == made.model.tokenizer.decode([int(first.argmax())], skip_special_tokens=True).strip()


def test_bad_input_is_one_error() -> None:
    made = _case(0)
    with pytest.raises(InputError, match="frozen mode"):
        generate_changed(made, [Intervention()], mode="frozen")
    with pytest.raises(InputError, match="tokens"):
        generate_changed(made, [Intervention()], most=10**6)


def _case(pictures: int) -> Case:
    model = tiny_model("fp64")
    bank: Bank = case("topk").bank  # type: ignore[assignment]  # written down once more for the laws
    return make_case(
        model, bank, prepare(model, "what is the sum of red and blue ?", [picture(n) for n in range(pictures)])
    )


def _spelled_out(edits: Edits, made: Case, longer: Case) -> Edits:
    """The same edits with every generated position named."""
    later = range(made.n_positions, longer.n_positions)
    parts = []
    for n, place in enumerate(edits.positions.tolist()):
        for position in later if place == GENERATED else [place]:
            one = edits[torch.tensor([n])]
            parts.append(Edits(one.layers, one.indices, torch.tensor([position]), one.factors, one.offsets))
    return Edits.joined(parts)
