"""Where everything of a drawing stands, in inches: columns for positions, rows for layers, pictures below.

Positions run along x. A run of image positions is one column as wide as its picture, which hangs below the rows with
its soft-token grid; text positions with much to show are wide, those with nothing narrow, and long runs of those become
one column of dots. Layers run along y, tokens at the bottom, logits on top; layers without a node drawn have no row.
"""

from dataclasses import dataclass, replace

import numpy as np

from atlas.domain.circuit import Circuit
from atlas.interop.drawing_choice import Choice
from atlas.interop.drawing_labels import shown_token, text_width

WIDTH, HEIGHT = 16.0, 10.0
LEFT, RIGHT = 0.75, 15.7
TOP = 8.55
"""Middle of the row of logits."""
FOOT = 0.62
"""Lower end of everything but the legend."""
TOKEN_POINTS = 9.5
_BARE_COLUMNS = 30
_SPACE = 0.33
"""Room for a node in a row, in inches."""
_GAP = 0.12
_AFTER_PICTURE = 0.6


@dataclass(frozen=True)
class Column:
    """A stretch of positions drawn as one column."""

    first: int
    """First position."""
    last: int
    """Last position."""
    kind: str
    """text, image or dots."""
    left: float
    """Left end in inches."""
    right: float
    """Right end in inches."""
    rows: int = 0
    """Rows of the soft-token grid of an image column."""
    cols: int = 0
    """Columns of that grid."""
    bottom: float = 0.0
    """Lower end of its picture."""

    @property
    def middle(self) -> float:
        return (self.left + self.right) / 2

    @property
    def picture_top(self) -> float:
        return self.bottom + (self.right - self.left) * self.rows / max(self.cols, 1)


@dataclass(frozen=True)
class Layout:
    """Coordinates in inches of all that is drawn."""

    columns: tuple[Column, ...]
    """From left to right."""
    layers: dict[int, float]
    """y of each layer that has a row."""
    band: float
    """Distance of two rows."""
    base: float
    """y of the tokens."""
    slant: bool
    """Whether the tokens are written slanted."""
    x: np.ndarray
    """float64 [n_nodes]: x of each node drawn, else NaN."""
    y: np.ndarray
    """float64 [n_nodes]: y of each node drawn, else NaN."""
    radius: np.ndarray
    """float64 [n_nodes]: radius of each feature and error drawn."""


def arrange(circuit: Circuit, choice: Choice) -> Layout:
    """Lay out a choice."""
    nodes = circuit.nodes
    columns = _columns(circuit, choice)
    has_picture = any(column.kind == "image" for column in columns)
    slant = slanted(circuit, columns)
    base = max(column.picture_top for column in columns) - 0.12 if has_picture else FOOT + (1.0 if slant else 0.4)
    rows = sorted({int(layer) for layer in nodes.layer[choice.nodes]})
    floor = base + 0.75
    band = min(1.15, (TOP - 0.78 - floor) / max(len(rows) - 1, 1))
    layers = {layer: floor + band * rank for rank, layer in enumerate(rows)}
    x, y = np.full(len(nodes), np.nan), np.full(len(nodes), np.nan)
    radius = np.zeros(len(nodes))
    largest = max(float(choice.strength[choice.nodes].max(initial=0.0)), 1e-12)
    radius[choice.nodes] = 0.05 + (min(0.17, 0.42 * band) - 0.05) * np.sqrt(choice.strength[choice.nodes] / largest)
    for column in columns:
        _place_inputs(circuit, choice, column, base, x, y)
        for layer, height in layers.items():
            inside = (nodes.layer[choice.nodes] == layer) & within(nodes.position[choice.nodes], column)
            _place_cell(circuit, choice.nodes[inside], column, height, band, radius, x, y)
    _place_logits(circuit, choice, columns, x, y)
    return Layout(columns, layers, band, base, slant, x, y, radius)


def slanted(circuit: Circuit, columns: tuple[Column, ...]) -> bool:
    """Whether the tokens would touch if they were written level."""
    return any(
        text_width(shown_token(circuit.positions.text[column.first]), TOKEN_POINTS) > column.right - column.left + 0.06
        for column in columns
        if column.kind == "text"
    )


def _columns(circuit: Circuit, choice: Choice) -> tuple[Column, ...]:
    """Columns from left to right; widths by what stands in them."""
    positions, nodes = circuit.positions, circuit.nodes
    busy = np.zeros(len(positions), dtype=np.int64)  # most nodes in one layer of a position
    for position in set(nodes.position[choice.nodes].tolist()):
        _, counts = np.unique(nodes.layer[choice.nodes][nodes.position[choice.nodes] == position], return_counts=True)
        busy[position] = counts.max()
    spans = _spans(circuit, busy)
    pictures = sum(kind == "image" for _, _, kind in spans)
    # beside a picture there is room for the slanted token that comes next
    gaps = [_AFTER_PICTURE if kind == "image" else _GAP for _, _, kind in spans]
    room = RIGHT - LEFT - sum(gaps[:-1])
    side = min(2.9, 0.5 * room / pictures) if pictures else 0.0
    wishes = [
        0.0 if kind == "image" else 0.3 if kind == "dots" else 0.27 + _SPACE * min(int(busy[first]), 11)
        for first, _, kind in spans
    ]
    spare = (room - side * pictures - sum(wishes)) / max(len(spans) - pictures, 1)
    scale = 1.0 if spare >= 0 else (room - side * pictures) / sum(wishes)
    spare = max(min(spare, 1.2), 0.0)
    columns, left = [], LEFT
    for (first, last, kind), wish, gap in zip(spans, wishes, gaps):
        width = side if kind == "image" else wish * scale + spare
        rows, cols = _grid(circuit, first, last) if kind == "image" else (0, 0)
        columns.append(Column(first, last, kind, left, left + width, rows, cols))
        left += width + gap
    tallest = max((column.picture_top for column in columns), default=0.0)
    return tuple(replace(column, bottom=FOOT + tallest - column.picture_top) for column in columns)


def _spans(circuit: Circuit, busy: np.ndarray) -> list[tuple[int, int, str]]:
    """(first, last, kind) of each column: a picture, a text position, or a run of text positions without nodes."""
    positions = circuit.positions
    image = positions.modality == "image"
    key = [(int(i), int(c)) for i, c in zip(positions.image, positions.crop)]
    crowded = int((~image).sum()) > _BARE_COLUMNS
    spans: list[tuple[int, int, str]] = []
    for at in range(len(positions)):
        last = spans[-1] if spans else None
        if image[at]:
            if last is not None and last[2] == "image" and key[last[1]] == key[at]:
                spans[-1] = (last[0], at, "image")
            else:
                spans.append((at, at, "image"))
        elif crowded and not busy[at]:
            if last is not None and last[2] == "dots":
                spans[-1] = (last[0], at, "dots")
            else:
                spans.append((at, at, "dots"))
        else:
            spans.append((at, at, "text"))
    return spans


def _grid(circuit: Circuit, first: int, last: int) -> tuple[int, int]:
    """Rows and columns of the soft tokens of a run; a strip of up to 16 columns where the file does not say."""
    rows, cols = circuit.positions.row[first : last + 1], circuit.positions.col[first : last + 1]
    if (rows >= 0).all() and (cols >= 0).all():
        return int(rows.max()) + 1, int(cols.max()) + 1
    count = last - first + 1
    return -(-count // 16), min(count, 16)


def patch_cell(circuit: Circuit, column: Column, position: int) -> tuple[float, float, float, float]:
    """(left, bottom, width, height) in inches of a soft token in its column's picture."""
    row, col = int(circuit.positions.row[position]), int(circuit.positions.col[position])
    if row < 0 or col < 0:
        row, col = divmod(position - column.first, column.cols)
    width = (column.right - column.left) / column.cols
    return column.left + col * width, column.picture_top - (row + 1) * width, width, width


def _place_inputs(circuit: Circuit, choice: Choice, column: Column, base: float, x: np.ndarray, y: np.ndarray) -> None:
    inside = choice.inputs[within(circuit.nodes.position[choice.inputs], column)]
    for row in inside.tolist():
        if column.kind == "image":
            left, bottom, width, height = patch_cell(circuit, column, int(circuit.nodes.position[row]))
            # patches of one grid column start side by side, so that their edges can be told apart
            depth = (column.picture_top - bottom - height / 2) / max(column.picture_top - column.bottom, 1e-9)
            x[row], y[row] = left + width * (0.15 + 0.7 * depth), bottom + height / 2
        else:
            x[row], y[row] = column.middle, base + 0.12


def _place_cell(
    circuit: Circuit,
    rows: np.ndarray,
    column: Column,
    height: float,
    band: float,
    radius: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    """Nodes of one layer in one column side by side; in a picture's column over the patch they stand for."""
    if not len(rows):
        return
    if column.kind == "image":
        cells = [patch_cell(circuit, column, int(circuit.nodes.position[row])) for row in rows]
        wanted = np.array([left + width / 2 for left, _, width, _ in cells])
        tall = max(column.picture_top - column.bottom, 1e-9)
        lift = np.array([(bottom + size / 2 - column.bottom) / tall - 0.5 for _, bottom, _, size in cells])
    else:
        wanted = np.full(len(rows), column.middle)
        lift = np.zeros(len(rows))
    order = np.lexsort((rows, wanted))
    sizes = 2 * radius[rows[order]] + 0.07
    x[rows[order]] = _apart(wanted[order], sizes, column.left, column.right)
    # neighbours that must overlap in a narrow column step up and down
    crowded = len(rows) > 1 and sizes.sum() > (column.right - column.left) * 1.02
    step = np.where(np.arange(len(rows)) % 2 == 0, 0.25, -0.25) * (min(band, 0.6) if crowded else 0.0)
    y[rows[order]] = height + np.clip(0.55 * lift[order], -0.3, 0.3) * band + step


def _apart(wanted: np.ndarray, sizes: np.ndarray, left: float, right: float) -> np.ndarray:
    """Centres near `wanted` (ascending) that do not overlap, inside left..right; squeezed where there is no room."""
    if sizes.sum() > right - left:
        squeezed: np.ndarray = left + (np.cumsum(sizes) - sizes / 2) * (right - left) / sizes.sum()
        return squeezed
    centres = wanted.astype(np.float64).copy()
    for _ in range(60):
        for at in range(1, len(centres)):
            lack = (sizes[at - 1] + sizes[at]) / 2 - (centres[at] - centres[at - 1])
            if lack > 0:
                centres[at - 1] -= lack / 2
                centres[at] += lack / 2
        centres = np.clip(centres, left + sizes / 2, right - sizes / 2)
    return centres


def _place_logits(circuit: Circuit, choice: Choice, columns: tuple[Column, ...], x: np.ndarray, y: np.ndarray) -> None:
    """Logits in one row near the column of their position, the most probable first."""
    if not len(choice.logits):
        return
    at = int(circuit.nodes.position[choice.logits[0]])
    column = next(column for column in columns if column.first <= at <= column.last)
    size = logit_width(len(choice.logits))
    span = size * len(choice.logits)
    start = min(max(column.middle - span / 2, LEFT), RIGHT - span)
    x[choice.logits] = start + size * (np.arange(len(choice.logits)) + 0.5)
    y[choice.logits] = TOP


def logit_width(count: int) -> float:
    """Width in inches that each of `count` logits has."""
    return min(1.75, (RIGHT - LEFT) / max(count, 1))


def within(position: np.ndarray, column: Column) -> np.ndarray:
    """Which positions a column holds."""
    inside: np.ndarray = (position >= column.first) & (position <= column.last)
    return inside
