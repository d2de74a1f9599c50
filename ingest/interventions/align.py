"""Which position of one prompt stands for which of another: where activations are copied from.

Image positions correspond by picture, crop, row and column. The pieces of text before, between and after pictures
correspond one by one: pieces of equal length token by token (a word changed for another stays in its place), others by
their equal tokens from both ends; what lies between has no counterpart.
"""

from collections.abc import Sequence

from atlas.errors import InputError
from ingest.model.inputs import Position

Cell = tuple[int, int, int, int]


def align(donor: Sequence[Position], recipient: Sequence[Position]) -> list[int | None]:
    """Per position of the recipient the donor's, None where there is none; ascending, and the same the other way round.

    Raises InputError for prompts with unlike pictures, or whose texts share no token.
    """
    cells, wanted = _cells(donor), _cells(recipient)
    if list(cells) != list(wanted):
        raise InputError(
            f"the prompts cannot be aligned: one has {_grid(cells)}, the other {_grid(wanted)}",
            "prompts with the same number of pictures, cut into the same cells",
            "Compare prompts that show as many pictures of the same kind",
        )
    found: list[int | None] = [None] * len(recipient)
    for cell, index in wanted.items():
        found[index] = cells[cell]
    texts, wanted_texts = _pieces(donor), _pieces(recipient)
    assert len(texts) == len(wanted_texts)  # equal cells in an equal order part the text equally
    for piece, other in zip(texts, wanted_texts, strict=True):
        for index, place in _matched([p.token_id for p in piece], [p.token_id for p in other]):
            found[other[place].index] = piece[index].index
    if recipient and not any(found[position.index] is not None for piece in wanted_texts for position in piece):
        raise InputError(
            "the prompts cannot be aligned: their texts share no token",
            "prompts that ask alike, as the same question about another picture",
        )
    return found


def _matched(donor: list[int], recipient: list[int]) -> list[tuple[int, int]]:
    """(place in the donor's piece, place in the recipient's) of what corresponds."""
    if len(donor) == len(recipient):
        return [(place, place) for place in range(len(donor))]
    shorter = min(len(donor), len(recipient))
    head = next((n for n in range(shorter) if donor[n] != recipient[n]), shorter)
    tail = next((n for n in range(shorter - head) if donor[-1 - n] != recipient[-1 - n]), shorter - head)
    ends = [(len(donor) - n, len(recipient) - n) for n in range(tail, 0, -1)]
    return [(place, place) for place in range(head)] + ends


def _cells(positions: Sequence[Position]) -> dict[Cell, int]:
    return {
        (position.image or 0, position.crop or 0, position.row or 0, position.col or 0): position.index
        for position in positions
        if position.modality == "image"
    }


def _pieces(positions: Sequence[Position]) -> list[list[Position]]:
    """The text before, between and after the views of pictures; empty pieces too, so that they can be counted."""
    pieces: list[list[Position]] = [[]]
    view: int | None = None
    for position in positions:
        if position.modality == "text":
            pieces[-1].append(position)
        elif position.view != view:
            view = position.view
            pieces.append([])
    return pieces


def _grid(cells: dict[Cell, int]) -> str:
    pictures = len({image for image, *_ in cells})
    return f"{pictures} picture{'' if pictures == 1 else 's'} with {len(cells)} image positions"
