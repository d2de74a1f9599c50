"""Positions of two prompts that stand for each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas.errors import InputError
from ingest.interventions.align import align
from ingest.model.inputs import Position

_SIDE = 2


def _prompt(pieces: list[list[int]]) -> list[Position]:
    """Pieces of token ids, with a picture of 2 x 2 soft tokens between any two."""
    found: list[Position] = []
    for view, piece in enumerate(pieces):
        if view:
            for cell in range(_SIDE**2):
                row, col = divmod(cell, _SIDE)
                found.append(Position(len(found), 99, "", "image", view - 1, 0, row, col, view - 1))
        found += [Position(len(found) + n, token, str(token), "text") for n, token in enumerate(piece)]
    return found


_PIECE = st.lists(st.integers(0, 3), min_size=1, max_size=6)
_PAIRS = st.integers(1, 3).flatmap(
    lambda n: st.tuples(st.lists(_PIECE, min_size=n, max_size=n), st.lists(_PIECE, min_size=n, max_size=n))
)


@given(st.lists(_PIECE, min_size=1, max_size=3))
def test_a_prompt_stands_for_itself(pieces: list[list[int]]) -> None:
    prompt = _prompt(pieces)
    assert align(prompt, prompt) == list(range(len(prompt)))


@given(_PAIRS)
def test_alignment_is_a_partial_match_in_order(pieces: tuple[list[list[int]], list[list[int]]]) -> None:
    donor, recipient = map(_prompt, pieces)
    try:
        found = align(donor, recipient)
    except InputError:
        with pytest.raises(InputError):
            align(recipient, donor)
        return
    matched = [(place, index) for index, place in enumerate(found) if place is not None]
    assert matched == sorted(matched)
    assert len({place for place, _ in matched}) == len(matched)
    back = align(recipient, donor)
    assert all(back[place] == index for place, index in matched)
    assert sum(place is not None for place in back) == len(matched)
    for place, index in matched:
        one, other = donor[place], recipient[index]
        assert one.modality == other.modality
        assert (one.image, one.crop, one.row, one.col) == (other.image, other.crop, other.row, other.col)


@given(_PAIRS, st.lists(st.integers(10, 12), min_size=1, max_size=3))
def test_equal_ends_are_matched(pieces: tuple[list[list[int]], list[list[int]]], end: list[int]) -> None:
    donor, recipient = (_prompt([*piece[:-1], piece[-1] + end]) for piece in pieces)
    found = align(donor, recipient)
    assert found[-len(end) :] == list(range(len(donor) - len(end), len(donor)))


def test_a_word_changed_for_another_keeps_its_place() -> None:
    assert align(_prompt([[1, 2, 3]]), _prompt([[1, 7, 3]])) == [0, 1, 2]


def test_what_lies_between_unlike_lengths_has_no_counterpart() -> None:
    assert align(_prompt([[1, 5, 5, 2]]), _prompt([[1, 6, 6, 6, 2]])) == [0, None, None, None, 3]
    assert align(_prompt([[1, 1, 2]]), _prompt([[1, 2]])) == [0, 2]


@pytest.mark.parametrize(
    ("donor", "recipient", "words"),
    [
        ([[1], [2]], [[1, 2]], "1 picture with 4 image positions, the other 0 pictures"),
        ([[1], [2]], [[1], [3], [2]], "the other 2 pictures"),
        ([[1, 2]], [[3, 4, 5]], "share no token"),
    ],
)
def test_prompts_that_do_not_correspond_are_refused(
    donor: list[list[int]], recipient: list[list[int]], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        align(_prompt(donor), _prompt(recipient))
