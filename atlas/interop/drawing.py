"""One picture of a graph: the strongest features over the tokens and picture patches they stand on, up to the answer.

PNG (1600 x 1000) and SVG (text stays text) come from the same drawing. Blue edges push their target up, orange ones
down; width is the share of the target's input. What belongs to a picture is magenta. Biases are not drawn.
"""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlas.domain.circuit import Circuit
from atlas.errors import InputError
from atlas.figures import SETTINGS
from atlas.interop import drawing_marks as marks
from atlas.interop.aside import write_aside
from atlas.interop.drawing_choice import Choice, choose
from atlas.interop.drawing_labels import shown, shown_token, text_width
from atlas.interop.drawing_layout import FOOT, HEIGHT, LEFT, RIGHT, WIDTH, Layout, arrange

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEFAULT_TOP = 40
_DPI = 100
_SETTINGS: Any = {**SETTINGS, "text.hinting": "none"}  # hinting thins bold digits at this size


def draw(circuit: Circuit, path: Path | str, top: int = DEFAULT_TOP, fmt: str | None = None) -> Path:
    """Draw a graph as PNG or SVG, by `fmt` or the file's ending, with its `top` strongest nodes. Raises InputError."""
    path = Path(path)
    fmt = fmt or path.suffix.lower().lstrip(".")
    if fmt not in {"png", "svg"}:
        raise InputError(f"{path.name} ends in neither .png nor .svg", "a drawing is one of the two")
    if top < 1:
        raise InputError(f"{top} nodes to draw", "1 or more")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    choice = choose(circuit, top)
    layout = arrange(circuit, choice)
    buffer = io.BytesIO()
    with rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # tokens come in every script
        figure = Figure(figsize=(WIDTH, HEIGHT), dpi=_DPI, facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
        axes.set_axis_off()
        marks.rows(axes, layout)
        marks.pictures(axes, circuit, choice, layout)
        marks.tokens(axes, circuit, choice, layout)
        marks.edges(axes, circuit, choice, layout)
        marks.nodes(axes, circuit, choice, layout)
        marks.logits(axes, circuit, choice, layout)
        _title(axes, circuit, choice)
        _table(axes, circuit, choice, layout)
        _legend(axes, circuit, layout)
        metadata = {"Date": None, "Creator": "Circuit Atlas"} if fmt == "svg" else {"Software": "Circuit Atlas"}
        figure.savefig(buffer, format=fmt, metadata=metadata)
    return write_aside(path, buffer.getvalue())


def _title(axes: "Axes", circuit: Circuit, choice: Choice) -> None:
    """Prompt and answer, then what the graph is and how much of it is drawn."""
    first = circuit.positions.text[0] if len(circuit.positions) else ""
    prompt = circuit.description.prompt
    words = shown(prompt.removeprefix(first) if first.startswith("<") else prompt, 92)
    axes.text(
        LEFT - 0.45,
        9.62,
        f"{words}  →  {shown_token(circuit.answer, 24)}",
        fontsize=16,
        fontweight="bold",
        va="center",
        color=marks.INK,
    )
    middle = int(np.isin(circuit.nodes.kind, ["feature", "error"]).sum())
    correct = {True: "correct", False: f"expected {circuit.description.expected}", None: None}[circuit.correct]
    facts = [
        circuit.description.slug,
        circuit.id[:12],
        circuit.model,
        shown(circuit.transcoders, 32),
        correct,
    ]
    part = (len(choice.nodes), middle, len(choice.edges), len(circuit.edges))
    drawn = "{} of {} features and errors, {} of {} edges drawn".format(*part)
    line = "   ·   ".join([*(shown(fact, 48) for fact in facts if fact), drawn])
    axes.text(LEFT - 0.45, 9.24, line, fontsize=9.5, va="center", color=marks.FAINT)


def _table(axes: "Axes", circuit: Circuit, choice: Choice, layout: Layout) -> None:
    """The strongest features by name, in the free space beside the pictures."""
    pictures = [column for column in layout.columns if column.kind == "image"]
    edge = pictures[-1].right if pictures else RIGHT
    free = [column for column in layout.columns if column.left > edge]
    top = layout.base - 0.98
    lines = int((top - FOOT) / 0.19)
    if not free or lines < 3:
        return
    nodes = circuit.nodes
    left, right = free[0].left, RIGHT
    axes.text(
        left,
        top + 0.1,
        "strongest features (layer/index, share of influence, where it stands)",
        fontsize=8.5,
        color=marks.FAINT,
        va="bottom",
    )
    features = [row for row in choice.nodes.tolist() if nodes.kind[row] == "feature"]
    per_line = max(1, int((right - left) / 2.7))
    for rank, row in enumerate(features[: lines * per_line]):
        column, line = divmod(rank, lines)
        x, y = left + column * (right - left) / per_line, top - 0.04 - 0.19 * line
        position = int(nodes.position[row])
        where = _where(circuit, position)
        colour = marks.PICTURE if circuit.positions.modality[position] == "image" else marks.TEXT
        axes.plot([x + 0.05], [y - 0.06], marker="o", markersize=5, color=colour)
        text = f"{int(nodes.layer[row])}/{int(nodes.index[row])}   {choice.strength[row]:.1%}   {where}"
        if nodes.label[row]:
            text += f"   {nodes.label[row]}"
        fits = int(((right - left) / per_line - 0.25) / text_width("x", 8.5))
        axes.text(x + 0.16, y - 0.06, shown(text, fits, squeeze=False), fontsize=8.5, va="center", color=marks.INK)


def _where(circuit: Circuit, position: int) -> str:
    positions = circuit.positions
    if positions.modality[position] != "image":
        return f"“{shown_token(positions.text[position])}” ({position})"
    if positions.row[position] < 0:
        return f"picture ({position})"
    return f"patch row {int(positions.row[position])}, column {int(positions.col[position])}"


def _legend(axes: "Axes", circuit: Circuit, layout: Layout) -> None:
    """What colours, widths and shapes say, in one line at the foot."""
    y, x = 0.27, LEFT - 0.45
    for colour, text in ((marks.UP, "raises its target"), (marks.DOWN, "lowers it")):
        axes.plot([x, x + 0.45], [y, y], color=colour, linewidth=3, solid_capstyle="round")
        axes.text(x + 0.55, y, text, fontsize=9, va="center", color=marks.INK)
        x += 0.75 + 0.075 * len(text)
    share = "of the edges kept" if circuit.partial else "of all its input"
    axes.text(x, y, f"width: share {share}", fontsize=9, va="center", color=marks.FAINT)
    x += 2.35
    shapes = [("o", marks.TEXT, "feature (size: influence)"), ("D", marks.ERROR, "reconstruction error")]
    if any(column.kind == "image" for column in layout.columns):
        shapes.insert(1, ("o", marks.PICTURE, "feature on a picture"))
        shapes.append(("s", marks.PICTURE, "patch (tint: influence)"))
    for marker, colour, text in shapes:
        axes.plot([x], [y], marker=marker, markersize=8 if marker == "o" else 6, color=colour)
        axes.text(x + 0.14, y, text, fontsize=9, va="center", color=marks.INK)
        x += 0.42 + 0.073 * len(text)
    axes.plot([x - 0.08, x + 0.12], [y, y], color=marks.INK, linewidth=4, solid_capstyle="butt")
    axes.text(x + 0.2, y, "token (bar: influence)", fontsize=9, va="center", color=marks.INK)
