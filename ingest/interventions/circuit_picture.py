"""Circuits as a picture.

Of one pair: both pictures with the cells the circuit stands on, what beginnings of the ranking keep by their size
beside the circuit and random ones, and its components by layer. Of several pairs: what each circuit keeps and what its
random ones keep, over its size.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from atlas.artefact.read import read_table
from atlas.config import Home
from atlas.domain.circuit import Images, Positions, Thumbnails
from atlas.figures import SETTINGS, picture_format
from atlas.interop.aside import write_aside
from atlas.interop.drawing_labels import shown
from atlas.interop.drawing_marks import FAINT, INK, PICTURE, TEXT, UP
from ingest.interventions.circuit import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {
    ("feature", "image"): (PICTURE, "features on pictures"), ("feature", "text"): (TEXT, "features on words"),
    ("error", "image"): ("#D9A0C6", "errors on pictures"), ("error", "text"): ("#AAB3C5", "errors on words"),
    ("embedding", "image"): ("#5E1A46", "image patches"), ("embedding", "text"): (INK, "tokens"),
}  # fmt: skip
_CHANCE = "#D55E00"


def draw(home: Home, reports: Sequence[Report], path: Path) -> Path:
    """Draw the circuits, PNG or SVG by the file's ending. Raises InputError."""
    fmt = picture_format(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with rc_context(SETTINGS):
        figure = Figure(figsize=(13.5, 4.6) if len(reports) == 1 else (8, 4.6), dpi=110, facecolor="white")
        if len(reports) == 1:
            _one(figure, home, reports[0])
        else:
            _several(figure, reports)
        metadata = {"Date": None, "Creator": "Circuit Atlas"} if fmt == "svg" else {"Software": "Circuit Atlas"}
        figure.savefig(buffer, format=fmt, metadata=metadata)
    return write_aside(path, buffer.getvalue())


def _one(figure: "Figure", home: Home, report: Report) -> None:
    pictures = [picture for graph in (report.graph, report.other) if (picture := _picture(home, graph)) is not None]
    grid = figure.add_gridspec(
        2, 3, width_ratios=(0.75, 1.5, 1.5), left=0.02, right=0.985, top=0.84, bottom=0.13, hspace=0.35, wspace=0.22
    )
    names = [f"{report.slug}: {report.answer}", f"{report.other_slug}: {report.rival}"]
    for row, picture in enumerate(pictures[:2]):
        axes = figure.add_subplot(grid[row, 0])
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(shown(names[row], 30), fontsize=9, color=INK)
        if row == 0:
            _cells(axes, home, report, picture)
    _curve(figure.add_subplot(grid[:, 1]), report)
    _layers(figure.add_subplot(grid[:, 2]), report)
    said = f"{len(report.nodes)} of {report.components} components keep {report.kept:.0%} of {report.answer!r}"
    figure.text(0.02, 0.93, f"{said} over {report.rival!r}", fontsize=13, fontweight="bold", color=INK)


def _cells(axes: "Axes", home: Home, report: Report, picture: Image.Image) -> None:
    """Outline the cells of the picture that the circuit stands on, the thicker the more components."""
    from matplotlib.patches import Rectangle

    positions = read_table(home, report.graph, Positions)
    first = (positions.modality == "image") & (positions.image == 0) & (positions.crop <= 0)
    rows, cols = positions.row[first].max() + 1, positions.col[first].max() + 1
    counts = {at: sum(node.position == at for node in report.nodes) for at in positions.position[first].tolist()}
    wide, high = picture.width / cols, picture.height / rows
    for at in np.flatnonzero(first).tolist():
        count = counts[int(positions.position[at])]
        if count:
            corner = positions.col[at] * wide, positions.row[at] * high
            line = 0.8 + 2.4 * count / max(counts.values())
            axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=PICTURE, linewidth=line, clip_on=False))


def _curve(axes: "Axes", report: Report) -> None:
    sizes, kept = zip(*[point for point in report.curve if point[0] > 0], strict=True)
    axes.semilogx(sizes, kept, marker="o", markersize=3, color=UP, linewidth=1.2, label="beginnings of the ranking")
    axes.plot(
        [len(report.nodes)], [report.kept], marker="*", markersize=15, color=PICTURE, label="circuit", linestyle=""
    )
    if report.random:
        at = [len(report.nodes)] * len(report.random)
        axes.plot(
            at,
            report.random,
            marker="o",
            markersize=3.5,
            color=_CHANCE,
            linestyle="",
            alpha=0.5,
            label="random ones like it",
        )
    axes.xaxis.set_major_formatter(lambda size, _: f"{size:g}")
    axes.axhline(report.keep, color=FAINT, linewidth=0.8, linestyle="--")
    axes.set_xlabel("components kept", fontsize=9, color=INK)
    axes.set_ylabel("share of the answer kept", fontsize=9, color=INK)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    _plain(axes)


def _layers(axes: "Axes", report: Report) -> None:
    layers = sorted({part.layer for part in report.parts})
    left = dict.fromkeys(layers, 0)
    for key, (colour, name) in _COLOURS.items():
        own = [part for part in report.parts if (part.kind, part.modality) == key and part.kept]
        if own:
            at = [part.layer for part in own]
            axes.barh(at, [part.kept for part in own], left=[left[layer] for layer in at], color=colour, label=name)
            left |= {part.layer: left[part.layer] + part.kept for part in own}
    axes.set_yticks(layers, ["in" if layer < 0 else str(layer) for layer in layers])
    axes.set_ylabel("layer", fontsize=9, color=INK)
    axes.set_xlabel("components of the circuit", fontsize=9, color=INK)
    axes.legend(fontsize=8, frameon=False)
    _plain(axes)


def _several(figure: "Figure", reports: Sequence[Report]) -> None:
    axes = figure.add_axes((0.09, 0.14, 0.88, 0.7))
    for report in reports:
        at = [len(report.nodes)] * len(report.random)
        axes.plot(at, report.random, marker="o", markersize=3, color=_CHANCE, linestyle="", alpha=0.3)
    sizes, kept = [len(report.nodes) for report in reports], [report.kept for report in reports]
    axes.plot(sizes, kept, marker="*", markersize=11, color=PICTURE, linestyle="", alpha=0.7)
    axes.axhline(reports[0].keep, color=FAINT, linewidth=0.8, linestyle="--")
    axes.set_xlabel("components of the circuit", fontsize=9, color=INK)
    axes.set_ylabel("share of the answer kept", fontsize=9, color=INK)
    _plain(axes)
    figure.text(0.09, 0.92, f"Circuits of {len(reports)} pairs (stars) and random ones like them", fontsize=12,
                fontweight="bold", color=INK)  # fmt: skip


def _plain(axes: "Axes") -> None:
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)


def _picture(home: Home, graph: str) -> Image.Image | None:
    """The first picture of a graph's prompt; None without one."""
    wanted = read_table(home, graph, Images).thumbnail[:1]
    known = read_table(home, graph, Thumbnails)
    for row in np.flatnonzero(np.isin(known.sha, wanted)):
        with Image.open(io.BytesIO(known.data[row])) as picture:
            return picture.convert("RGB")
    return None
