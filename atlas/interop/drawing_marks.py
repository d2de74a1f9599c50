"""The marks of a drawing, one function per kind: layer rows, pictures, tokens, edges, nodes and logits.

All take coordinates in inches from the layout. Later ones lie on top of earlier ones.
"""

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from atlas.domain.circuit import Circuit
from atlas.interop.drawing_choice import Choice
from atlas.interop.drawing_labels import Labels, shown, shown_token
from atlas.interop.drawing_layout import LEFT, RIGHT, TOKEN_POINTS, TOP, Column, Layout, logit_width, patch_cell, within

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UP, DOWN = "#0072B2", "#D55E00"  # blue and vermilion of the Okabe-Ito set: told apart by colour-blind readers
PICTURE, TEXT, ERROR = "#B5338A", "#4A5A78", "#9A9A9A"
INK, FAINT, RULE = "#222222", "#757575", "#E7E7EC"
_LABELS = 24


def rows(axes: "Axes", layout: Layout) -> None:
    """A faint rule and a number per layer."""
    for layer, y in layout.layers.items():
        axes.plot([LEFT - 0.1, RIGHT], [y, y], color=RULE, linewidth=0.8, zorder=0)
        axes.text(LEFT - 0.2, y, str(layer), ha="right", va="center", fontsize=9, color=FAINT)
    if layout.layers:
        axes.text(
            0.2,
            (min(layout.layers.values()) + max(layout.layers.values())) / 2,
            "layer",
            rotation=90,
            ha="center",
            va="center",
            fontsize=9,
            color=FAINT,
        )


def pictures(axes: "Axes", circuit: Circuit, choice: Choice, layout: Layout) -> None:
    """Each picture below its column, with the soft-token grid; patches tinted by their influence."""
    nodes = circuit.nodes
    images = choice.inputs[nodes.kind[choice.inputs] == "image"]
    strongest = max(float(choice.strength[images].max(initial=0.0)), 1e-12)
    for column in (column for column in layout.columns if column.kind == "image"):
        extent = (column.left, column.right, column.bottom, column.picture_top)
        picture = _picture(circuit, column)
        if picture is not None:
            axes.imshow(picture, extent=extent, aspect="auto", zorder=1, interpolation="nearest")
        heat = np.zeros((column.rows, column.cols))
        for row in images[within(nodes.position[images], column)].tolist():
            left, bottom, width, height = patch_cell(circuit, column, int(nodes.position[row]))
            level = float(choice.strength[row]) / strongest
            cell = (round((column.picture_top - bottom) / height) - 1, round((left - column.left) / width))
            heat[cell] = level
        _tint(axes, heat, column, extent)
    axes.set(xlim=(0, 16), ylim=(0, 10))  # imshow sets limits of its own
    axes.set_aspect("auto")


def tokens(axes: "Axes", circuit: Circuit, choice: Choice, layout: Layout) -> None:
    """The prompt's tokens under their columns; slanted where they would touch."""
    strength = np.zeros(len(circuit.positions))
    strength[circuit.nodes.position[choice.inputs]] = choice.strength[choice.inputs]
    strongest = max(float(strength[circuit.positions.modality != "image"].max(initial=0.0)), 1e-12)
    for column in layout.columns:
        if column.kind == "dots":
            axes.text(column.middle, layout.base, "…", ha="center", va="top", fontsize=11, color=FAINT)
        if column.kind != "text":
            continue
        level = float(strength[column.first]) / strongest
        axes.plot(
            [column.left, column.right],
            [layout.base + 0.1] * 2,
            color=INK,
            alpha=0.2 + 0.8 * level,
            linewidth=0.8 + 4.2 * level,
            solid_capstyle="butt",
            zorder=3,
        )
        text = shown_token(circuit.positions.text[column.first])
        if layout.slant:
            axes.text(
                column.middle + 0.06,
                layout.base,
                text,
                ha="right",
                va="top",
                rotation=40,
                rotation_mode="anchor",
                fontsize=TOKEN_POINTS,
                color=INK,
            )
        else:
            axes.text(column.middle, layout.base, text, ha="center", va="top", fontsize=TOKEN_POINTS, color=INK)


def edges(axes: "Axes", circuit: Circuit, choice: Choice, layout: Layout) -> None:
    """Curves from source up to target: colour by sign, width and opacity by share."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path as Curve

    curves, colours, widths = [], [], []
    stems: dict[int, tuple[float, float, float]] = {}
    codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
    for row in choice.edges.tolist():
        source, target = int(circuit.edges.source[row]), int(circuit.edges.target[row])
        x0, y0 = layout.x[source], layout.y[source] + layout.radius[source]
        bottom = 0.21 if circuit.nodes.kind[target] == "logit" else layout.radius[target]
        x1, y1 = layout.x[target], layout.y[target] - bottom
        start = max(y0, layout.base + 0.12)
        if start > y0 and circuit.nodes.kind[source] == "image":
            stems[source] = (x0, y0, start)
        bend = 0.5 * max(y1 - start, 0.2)
        curves.append(Curve([(x0, start), (x0, start + bend), (x1, y1 - bend), (x1, y1)], codes))
        share = min(max(float(circuit.edges.share[row]), 0.0), 1.0)
        widths.append(0.5 + 4.5 * share**0.8)
        base = UP if circuit.edges.weight[row] >= 0 else DOWN
        colours.append((base, min(0.14 + 1.1 * share**0.65, 0.8)))
    for x0, y0, start in stems.values():
        # thin and straight up through the picture: it and what lies beside it stay readable
        axes.plot([x0, x0], [y0, start], color=INK, alpha=0.35, linewidth=0.7, zorder=3.5)
        axes.plot(
            [x0], [y0], marker="o", markersize=3.2, color="white", markeredgecolor=INK, markeredgewidth=0.6, zorder=3.6
        )
    if curves:
        axes.add_collection(
            PathCollection(
                curves, facecolors="none", edgecolors=colours, linewidths=widths, capstyle="round", zorder=4
            ),
            autolim=False,
        )


def nodes(axes: "Axes", circuit: Circuit, choice: Choice, layout: Layout) -> None:
    """Features as circles, errors as diamonds, sized by influence; the strongest features named `layer/index`."""
    from matplotlib.patches import Circle, RegularPolygon

    table = circuit.nodes
    labels = Labels()
    for row in choice.logits.tolist():
        labels.take(layout.x[row] - 1, layout.y[row] - 0.22, layout.x[row] + 1, layout.y[row] + 0.3)
    for row in choice.nodes.tolist():
        x, y, radius = layout.x[row], layout.y[row], layout.radius[row]
        labels.take(x - radius, y - radius, x + radius, y + radius)
        if table.kind[row] == "error":
            size = max(0.75 * radius, 0.05)
            axes.add_patch(
                RegularPolygon(
                    (x, y), 4, radius=size * 1.2, facecolor=ERROR, edgecolor="white", linewidth=0.8, zorder=5
                )
            )
        else:
            colour = PICTURE if circuit.positions.modality[table.position[row]] == "image" else TEXT
            axes.add_patch(Circle((x, y), radius, facecolor=colour, edgecolor="white", linewidth=0.9, zorder=6))
    features = [row for row in choice.nodes.tolist() if table.kind[row] == "feature"]
    for rank, row in enumerate(features[:_LABELS]):
        text = f"{int(table.layer[row])}/{int(table.index[row])} {shown(table.label[row] or '', 18)}".rstrip()
        points = 8.5 if rank < 10 else 7.5
        corner = labels.place(text, points, layout.x[row], layout.y[row], layout.radius[row], (LEFT, RIGHT + 0.25))
        if corner is not None:
            _halo(axes, corner[0], corner[1], text, points, INK)


def logits(axes: "Axes", circuit: Circuit, choice: Choice, layout: Layout) -> None:
    """Outputs on top: token, probability, and a bar of that length; the answer is filled."""
    from matplotlib.patches import FancyBboxPatch, Rectangle

    width = logit_width(len(choice.logits)) - 0.16
    for row in choice.logits.tolist():
        x, y = layout.x[row], layout.y[row]
        answer = bool(circuit.nodes.is_answer[row])
        probability = float(circuit.nodes.probability[row])
        axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - 0.2),
                width,
                0.46,
                boxstyle="round,pad=0,rounding_size=0.07",
                facecolor=INK if answer else "white",
                edgecolor=INK,
                linewidth=1.0,
                zorder=7,
            )
        )
        known = np.isfinite(probability)
        word = shown_token(circuit.nodes.text[row], max(4, int((width - (0.5 if known else 0.1)) / 0.095)))
        colour = "white" if answer else INK
        axes.text(
            x - width / 2 + 0.08,
            y + 0.06,
            word,
            ha="left",
            va="center",
            fontsize=11,
            color=colour,
            fontweight="bold" if answer else "normal",
            zorder=8,
        )
        if known:
            axes.text(
                x + width / 2 - 0.07,
                y + 0.06,
                f"{probability:.2f}",
                ha="right",
                va="center",
                fontsize=9,
                color=colour,
                zorder=8,
            )
            axes.add_patch(
                Rectangle(
                    (x - width / 2 + 0.08, y - 0.13),
                    (width - 0.16) * min(probability, 1.0),
                    0.035,
                    facecolor="#9FC3DD" if answer else FAINT,
                    zorder=8,
                )
            )
    if len(choice.logits):
        axes.text(LEFT - 0.2, TOP + 0.03, "out", ha="right", va="center", fontsize=9, color=FAINT)


def _tint(axes: "Axes", heat: np.ndarray, column: Column, extent: tuple[float, float, float, float]) -> None:
    """Colour the patches, strongest most, and draw the grid; weak patches are veiled so that strong ones stand out."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    level = np.clip(heat, 0.0, 1.0)[..., None]
    colour = (1 - level) * np.ones(3) + level * np.array(to_rgb(PICTURE))
    layer = np.concatenate([colour, 0.08 + 0.47 * level], axis=-1)
    axes.imshow(layer, extent=extent, aspect="auto", zorder=2, interpolation="nearest")
    size = (column.right - column.left) / column.cols
    lines = [
        [(column.left + i * size, column.bottom), (column.left + i * size, column.picture_top)]
        for i in range(column.cols + 1)
    ]
    lines += [
        [(column.left, column.bottom + i * size), (column.right, column.bottom + i * size)]
        for i in range(column.rows + 1)
    ]
    grid = LineCollection(lines, colors=[(0.45, 0.45, 0.5, 0.35)], linewidths=0.5, zorder=2.5)
    axes.add_collection(grid, autolim=False)
    for row, col in zip(*np.nonzero(heat > 0.5)):
        corner = (column.left + col * size, column.picture_top - (row + 1) * size)
        axes.add_patch(
            Rectangle(
                corner,
                size,
                size,
                facecolor="none",
                edgecolor=PICTURE,
                zorder=3,
                linewidth=0.8 + 1.4 * float(heat[row, col]),
            )
        )


def _picture(circuit: Circuit, column: Column) -> Image.Image | None:
    """The thumbnail of a column's picture; None where it did not come along, and for crops, whose place is not kept."""
    ordinal, crop = int(circuit.positions.image[column.first]), int(circuit.positions.crop[column.first])
    rows = np.flatnonzero(circuit.images.image == ordinal)
    if not len(rows) or crop > 0:
        return None
    found = np.flatnonzero(circuit.thumbnails.sha == circuit.images.thumbnail[rows[0]])
    if not len(found):
        return None
    with Image.open(io.BytesIO(circuit.thumbnails.data[found[0]])) as picture:
        return picture.convert("RGB")


def _halo(axes: "Axes", x: float, y: float, text: str, points: float, colour: str) -> None:
    from matplotlib.patheffects import withStroke

    axes.text(
        x,
        y,
        text,
        ha="left",
        va="bottom",
        fontsize=points,
        color=colour,
        zorder=9,
        path_effects=[withStroke(linewidth=2.2, foreground="white", alpha=0.85)],
    )
