"""A supernode graph as a picture: groups as boxes from inputs at the bottom to the answer on top, links as curves.

Blue links push their target up, orange ones down; width is the share of the target's input. A box is as dark as its
group has influence. Biases are not drawn.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from PIL import Image

from atlas.domain.circuit import Circuit
from atlas.figures import SETTINGS, picture_format
from atlas.interop.aside import write_aside
from atlas.interop.drawing_labels import shown, shown_token
from atlas.interop.drawing_marks import DOWN, FAINT, INK, PICTURE, RULE, TEXT, UP
from ingest.supernodes.graph import Link, SupernodeGraph, layer_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_GROUPS = 28
"""Supernodes and pools drawn; more make a figure nobody can follow."""
_INTO_EACH = 4  # links drawn into a box
_WORTH = 0.02  # share of its target's input from which a link is drawn
_PER_ROW = 6
_WIDE, _HIGH, _ROW = 2.1, 0.7, 1.35  # a box and the distance of two rows, in inches


@dataclass(frozen=True)
class _Box:
    """Where a group stands: the middle of its box, in inches."""

    number: int
    x: float
    y: float


def draw(made: SupernodeGraph, path: Path) -> Path:
    """Draw a supernode graph, PNG or SVG by the file's ending. Raises InputError."""
    fmt = picture_format(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = _rows(made)
    links = _links(made, {number for row in rows for number in row})
    wide = 0.6 + (_WIDE + 0.3) * max(map(len, rows))
    high = 2.0 + _ROW * (len(rows) - 1)
    boxes = _place(rows, links, wide)
    buffer = io.BytesIO()
    with rc_context(SETTINGS):
        figure = Figure(figsize=(wide, high), dpi=110, facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, wide), ylim=(0, high))
        axes.set_axis_off()
        _curves(axes, links, boxes)
        for box in boxes.values():
            _box(axes, made, box)
        _words(axes, made, len(boxes), wide, high)
        axes.set(xlim=(0, wide), ylim=(0, high))
        axes.set_aspect("auto")
        metadata = {"Date": None, "Creator": "Circuit Atlas"} if fmt == "svg" else {"Software": "Circuit Atlas"}
        figure.savefig(buffer, format=fmt, metadata=metadata)
    return write_aside(path, buffer.getvalue())


def _rows(made: SupernodeGraph) -> list[list[int]]:
    """Numbers of the groups drawn, from the inputs up; groups in the middle go by their mean layer."""
    groups = made.groups
    inputs = [n for n, group in enumerate(groups) if group.kind in {"image", "tokens"}]
    outputs = [n for n, group in enumerate(groups) if group.kind == "logit"]
    middle = [n for n, group in enumerate(groups) if group.kind in {"supernode", "features", "errors"}]
    middle = sorted(middle, key=lambda n: (-made.influence[n], n))[:MOST_GROUPS]
    by_layer: dict[int, list[int]] = {}
    for number in sorted(middle):
        by_layer.setdefault((groups[number].first_layer + groups[number].last_layer) // 2, []).append(number)
    rows = [inputs]
    for layer in sorted(by_layer):
        whole = by_layer[layer]
        rows += [whole[start : start + _PER_ROW] for start in range(0, len(whole), _PER_ROW)]
    return [row for row in [*rows, outputs[:_PER_ROW]] if row]


def _links(made: SupernodeGraph, drawn: set[int]) -> list[Link]:
    """Into each box drawn its largest links, and out of each its largest one; thin ones first."""
    among = [link for link in made.links if link.source != link.target and {link.source, link.target} <= drawn]
    among.sort(key=lambda link: (-link.share, link.source, link.target))
    chosen: dict[tuple[int, int], Link] = {}
    for number in sorted(drawn):
        into = [link for link in among if link.target == number and link.share >= _WORTH][:_INTO_EACH]
        for link in [*into, *[link for link in among if link.source == number][:1]]:
            chosen[link.source, link.target] = link
    return sorted(chosen.values(), key=lambda link: (link.share, link.source, link.target))


def _place(rows: Sequence[Sequence[int]], links: Sequence[Link], wide: float) -> dict[int, _Box]:
    """Rows from the bottom up; in a row, groups go by where what they read stands."""
    boxes: dict[int, _Box] = {}
    for height, row in enumerate(rows):
        pull = {}
        for at, number in enumerate(row):
            read = [
                (link.share, boxes[link.source].x) for link in links if link.target == number and link.source in boxes
            ]
            whole = sum(share for share, _ in read)
            pull[number] = sum(share * x for share, x in read) / whole if whole else at * wide / len(row)
        step = wide / len(row)
        for at, number in enumerate(sorted(row, key=lambda number: (pull[number], number))):
            boxes[number] = _Box(number, (at + 0.5) * step, 0.95 + _ROW * height)
    return boxes


def _curves(axes: "Axes", links: Sequence[Link], boxes: dict[int, _Box]) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    for link in links:
        source, target = boxes[link.source], boxes[link.target]
        up = _HIGH / 2 if target.y > source.y else -_HIGH / 2
        start, end = (source.x, source.y + up), (target.x, target.y - up)
        bend = max(0.4, abs(end[1] - start[1]) * 0.45) * (1 if up > 0 else -1)
        curve = Curve(
            [start, (start[0], start[1] + bend), (end[0], end[1] - bend), end],
            [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4],
        )
        colour, alpha = (UP if link.net >= 0 else DOWN), min(0.25 + link.share, 0.85)
        axes.add_patch(
            PathPatch(curve, facecolor="none", edgecolor=colour, alpha=alpha, linewidth=0.6 + 7 * link.share, zorder=2)
        )


def _box(axes: "Axes", made: SupernodeGraph, box: _Box) -> None:
    from matplotlib.patches import FancyBboxPatch

    group, share = made.groups[box.number], float(made.influence[box.number])
    line, edge = ("-", INK) if group.kind in {"supernode", "logit"} else ("--", FAINT)
    strongest = max(float(made.influence.max()), 1e-12)
    if group.kind == "logit":
        face: tuple[float, ...] | str = INK if group.is_answer else "white"
    else:
        depth = 0.05 + 0.3 * (share / strongest) ** 0.5
        face = (*_rgb(PICTURE if group.kind == "image" else TEXT), depth)
    for colour, order in (("white", 3), (face, 4)):  # no curve shows through
        axes.add_patch(
            FancyBboxPatch(
                (box.x - _WIDE / 2, box.y - _HIGH / 2), _WIDE, _HIGH, boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=colour, edgecolor=edge, linestyle=line, linewidth=1.0, zorder=order,
            )
        )  # fmt: skip
    ink = "white" if group.kind == "logit" and group.is_answer else INK
    left = box.x
    picture = _thumbnail(made.circuit) if group.kind == "image" else None
    if picture is not None:
        side = _HIGH - 0.08
        corner = box.x - _WIDE / 2 + 0.06
        axes.imshow(picture, extent=(corner, corner + side, box.y - side / 2, box.y + side / 2), zorder=5)
        left += side / 2
    if group.kind == "logit":
        probability = made.circuit.nodes.probability[made.circuit.nodes.kind == "logit"]
        rank = [n for n, other in enumerate(made.groups) if other.kind == "logit"].index(box.number)
        said = "" if probability[rank] != probability[rank] else f"{probability[rank]:.2f}"
        name, points = shown_token(group.name, 18), 12.0
    else:
        name, points = "\n".join(wrap(shown(group.name, 64), 34)[:2]), 7.6
        layers = layer_text(group)
        where = "" if layers == "in" else f"layer {layers}, "
        said = f"{where}{group.nodes} node{'s' if group.nodes != 1 else ''}, {share:.1%}"
    axes.text(
        left, box.y + 0.09, name, ha="center", va="center", fontsize=points, color=ink, zorder=6, fontweight="bold"
    )
    axes.text(left, box.y - 0.2, said, ha="center", va="center", fontsize=7, color=ink, zorder=6)


def _words(axes: "Axes", made: SupernodeGraph, drawn: int, wide: float, high: float) -> None:
    about = made.circuit.description
    title = f"{shown(about.prompt, 60)}  →  {shown_token(made.circuit.answer, 16)}"
    axes.text(0.25, high - 0.22, title, fontsize=12, fontweight="bold", color=INK, va="center")
    counted = sum(group.kind != "biases" for group in made.groups)
    said = f"{drawn} of {counted} groups drawn; percentages are shares of influence"
    facts = f"{about.slug}   ·   {made.circuit.id[:12]}   ·   {said}"
    axes.text(0.25, high - 0.46, facts, fontsize=8, color=FAINT, va="center")
    axes.plot([0.25, wide - 0.25], [0.42, 0.42], color=RULE, linewidth=0.8)
    x = 0.25
    for colour, text in ((UP, "raises its target"), (DOWN, "lowers it")):
        axes.plot([x, x + 0.35], [0.2, 0.2], color=colour, linewidth=3, solid_capstyle="round")
        axes.text(x + 0.43, 0.2, text, fontsize=8, va="center", color=INK)
        x += 0.65 + 0.07 * len(text)
    axes.text(
        x, 0.2, "width: share of the target's input; dashed: in no supernode", fontsize=8, va="center", color=FAINT
    )


def _thumbnail(circuit: Circuit) -> Image.Image | None:
    """The first picture of the prompt, if it came along."""
    for sha in circuit.images.thumbnail[:1]:
        for row in (circuit.thumbnails.sha == sha).nonzero()[0]:
            with Image.open(io.BytesIO(circuit.thumbnails.data[row])) as picture:
                return picture.convert("RGB")
    return None


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)
