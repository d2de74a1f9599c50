"""Pictures of the studies' tables: charts over a few categories and small matrices, with pillow alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SCALE = 2  # pixels per unit of the layout below
WIDE, HIGH, HEAD = 430, 330, 44
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 76, 44
INK, FAINT, GRID = (29, 36, 48), (106, 114, 128), (226, 229, 234)
COLOURS = ((31, 111, 178), (209, 97, 31), (91, 140, 90), (130, 80, 160), (150, 150, 150), (200, 160, 30))


@dataclass(frozen=True)
class Series:
    """One line, or one bar in each group."""

    name: str
    """For the legend."""
    values: Sequence[float]
    """One for each category; NaN leaves a gap."""
    ends: Sequence[tuple[float, float]] = ()
    """Interval of each value, drawn as a whisker."""


@dataclass(frozen=True)
class Chart:
    """Values over categories."""

    title: str
    """What is shown."""
    across: str
    """What the categories are."""
    names: Sequence[str]
    """The categories."""
    series: Sequence[Series]
    """What is compared, at most six."""
    bars: bool = False
    """Bars instead of lines."""
    most: float | None = None
    """Upper end of the axis; follows the values if not said."""


@dataclass(frozen=True)
class Matrix:
    """A table as a picture: darker is more, from 0 to 1."""

    title: str
    """What is shown."""
    rows: Sequence[str]
    """Names of the rows."""
    columns: Sequence[str]
    """Names of the columns."""
    values: np.ndarray
    """[rows, columns], 0 to 1."""


def save(path: Path, title: str, panels: Sequence[Chart | Matrix]) -> Path:
    """Draw panels side by side under a title, as PNG."""
    size = (WIDE * len(panels) * SCALE, (HIGH + HEAD) * SCALE)
    image = Image.new("RGB", size, "white")
    _text(ImageDraw.Draw(image), (16, 14), title, 17, INK)
    for number, panel in enumerate(panels):
        piece = Image.new("RGB", (WIDE * SCALE, HIGH * SCALE), "white")
        draw = ImageDraw.Draw(piece)
        _text(draw, (16, 6), panel.title, 13, INK)
        (_chart if isinstance(panel, Chart) else _matrix)(draw, panel)  # type: ignore[arg-type]
        image.paste(piece, (number * WIDE * SCALE, HEAD * SCALE))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def _chart(draw: ImageDraw.ImageDraw, chart: Chart) -> None:
    numbers = [value for series in chart.series for value in (*series.values, *np.ravel(series.ends))]
    low, high = min(0.0, np.nanmin(numbers)), chart.most or max(float(np.nanmax(numbers)) * 1.08, 1e-9)
    step, width = (WIDE - LEFT - RIGHT) / len(chart.names), HIGH - TOP - BOTTOM

    def y(value: float) -> float:
        return TOP + width * (1 - (value - low) / (high - low))

    for tick in _ticks(low, high):
        _line(draw, (LEFT, y(tick)), (WIDE - RIGHT, y(tick)), GRID if tick else FAINT)
        _text(draw, (LEFT - 6, y(tick) - 6), f"{tick:g}", 10, FAINT, "right")
    for place, name in enumerate(chart.names):
        _text(draw, (LEFT + step * (place + 0.5), HIGH - BOTTOM + 6), name, 10, INK, "middle")
    _text(draw, (LEFT + (WIDE - LEFT - RIGHT) / 2, HIGH - 20), chart.across, 11, FAINT, "middle")
    each = step * 0.8 / len(chart.series)
    for number, series in enumerate(chart.series):
        colour, dots = COLOURS[number], []
        for place, value in enumerate(series.values):
            shift = (number - (len(chart.series) - 1) / 2) * (each if chart.bars else 3.0)
            x = LEFT + step * (place + 0.5) + shift
            if np.isfinite(value):
                if chart.bars:
                    _box(draw, (x - each * 0.45, min(y(value), y(0))), (x + each * 0.45, max(y(value), y(0))), colour)
                else:
                    _box(draw, (x - 2.5, y(value) - 2.5), (x + 2.5, y(value) + 2.5), colour)
                    dots.append((x, y(value)))
                if series.ends:
                    ends = series.ends[place]
                    _line(draw, (x, y(ends[0])), (x, y(ends[1])), INK if chart.bars else colour, 1.2)
        for start, end in pairwise(dots):
            _line(draw, start, end, colour, 1.6)
        _box(
            draw,
            (16 + 206 * (number % 2), 28 + 14 * (number // 2)),
            (25 + 206 * (number % 2), 37 + 14 * (number // 2)),
            colour,
        )
        _text(draw, (30 + 206 * (number % 2), 26 + 14 * (number // 2)), series.name, 10, INK)


def _matrix(draw: ImageDraw.ImageDraw, matrix: Matrix) -> None:
    left, top = 84, 40
    wide = (WIDE - left - RIGHT) / len(matrix.columns)
    high = (HIGH - top - BOTTOM) / len(matrix.rows)
    for row, name in enumerate(matrix.rows):
        _text(draw, (left - 6, top + high * (row + 0.5) - 6), name, 10, INK, "right")
        for column, value in enumerate(matrix.values[row]):
            start = (left + wide * column, top + high * row)
            shade = tuple(round(255 + (dark - 255) * min(max(float(value), 0.0), 1.0)) for dark in COLOURS[0])
            _box(draw, start, (start[0] + wide - 1, start[1] + high - 1), shade)
            if wide >= 26:
                ink = "white" if value > 0.6 else INK
                _text(draw, (start[0] + wide / 2, start[1] + high / 2 - 6), f"{value:.2f}", 9, ink, "middle")
    for column, name in enumerate(matrix.columns):
        _text(draw, (left + wide * (column + 0.5), HIGH - BOTTOM + 4), name, 10, INK, "middle")


def _ticks(low: float, high: float) -> list[float]:
    raw = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    first = int(np.ceil(low / step))
    return [round(number * step, 10) for number in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def _text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, ink, side: str = "left") -> None:  # type: ignore[no-untyped-def]
    font = ImageFont.load_default(size * SCALE)
    wide = draw.textlength(text, font) / SCALE
    x = at[0] - {"left": 0.0, "middle": wide / 2, "right": wide}[side]
    draw.text((x * SCALE, at[1] * SCALE), text, font=font, fill=ink)


def _line(
    draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], ink, thick: float = 0.6
) -> None:  # type: ignore[no-untyped-def]
    draw.line([(start[0] * SCALE, start[1] * SCALE), (end[0] * SCALE, end[1] * SCALE)], ink, round(thick * SCALE))


def _box(draw: ImageDraw.ImageDraw, start: tuple[float, float], end: tuple[float, float], ink) -> None:  # type: ignore[no-untyped-def]
    draw.rectangle([start[0] * SCALE, start[1] * SCALE, end[0] * SCALE, end[1] * SCALE], fill=ink)
