"""Words in a drawing: how a token is shown, and where a label fits without covering another one."""

from dataclasses import dataclass, field

_VISIBLE = str.maketrans({"\n": "⏎", "\t": "⇥", "\r": "␍", "▁": " "})
_CHAR = 0.0082
"""Width of a character of the sans font, in inches per point."""


def shown(text: str, limit: int, squeeze: bool = True) -> str:
    """A text on one line, cut at `limit` characters; runs of blanks become one if `squeeze`."""
    line = "".join(char if char.isprintable() else "·" for char in (" ".join(text.split()) if squeeze else text))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def shown_token(text: str | None, limit: int = 13) -> str:
    """A token so that blanks can be seen; a leading blank before a word is left out."""
    visible = (text or "").translate(_VISIBLE)
    if visible.startswith(" ") and visible.strip():
        visible = visible[1:]
    visible = "".join(char if char.isprintable() else "·" for char in visible.replace(" ", "␣"))
    return visible if len(visible) <= limit else f"{visible[: limit - 1]}…"


def text_width(text: str, points: float) -> float:
    """About how wide a text is, in inches."""
    return _CHAR * points * len(text)


@dataclass
class Labels:
    """The boxes taken so far; labels go where they cover least."""

    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    """(left, bottom, right, top) in inches."""

    def take(self, left: float, bottom: float, right: float, top: float) -> None:
        """Mark a box as taken."""
        self.boxes.append((left, bottom, right, top))

    def place(
        self, text: str, points: float, x: float, y: float, radius: float, inside: tuple[float, float]
    ) -> tuple[float, float] | None:
        """Lower left corner of a label for a mark at (x, y): right, left, above or below it; None if none is free."""
        width, height = text_width(text, points), points / 72 * 1.05
        gap = radius + 0.03
        for left, bottom in (
            (x + gap, y - height / 2), (x - gap - width, y - height / 2), (x - width / 2, y + gap),
            (x - width / 2, y - gap - height), (x + 0.7 * gap, y + 0.7 * gap), (x - 0.7 * gap - width, y + 0.7 * gap),
            (x + 0.7 * gap, y - 0.7 * gap - height), (x - 0.7 * gap - width, y - 0.7 * gap - height),
        ):  # fmt: skip
            box = (left, bottom, left + width, bottom + height)
            if inside[0] <= left and box[2] <= inside[1] and not any(_overlap(box, other) for other in self.boxes):
                self.boxes.append(box)
                return left, bottom
        return None


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
