"""A comparison as a picture: per graph one bar for every layer, cut into what the graphs share and what only it has."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.figures import SETTINGS, picture_format
from atlas.interop.aside import write_aside
from query.compare import Comparison
from query.tables import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT = "#1d2430", "#6a7280"
_COLOURS = {  # by kept and modality; image positions strong, text positions pale
    ("all", "image"): "#1f6fb2", ("all", "text"): "#a9cbe6",
    ("some", "image"): "#5b8c5a", ("some", "text"): "#c3dcc2",
    ("one", "image"): "#d1611f", ("one", "text"): "#f3c9a9",
}  # fmt: skip


def draw(made: Comparison, path: Path) -> Path:
    """Draw the features kept by layer: one panel per graph, PNG or SVG by the file's ending. Raises InputError."""
    fmt = picture_format(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    rows = made.layers.to_pylist()
    layers = sorted({row["layer"] for row in rows})
    wide, high = 2.6 + 3.4 * len(made.graphs), 2.2 + 0.24 * max(len(layers), 6)
    buffer = io.BytesIO()
    with rc_context(SETTINGS):
        figure = Figure(figsize=(wide, high), dpi=110, facecolor="white")
        figure.subplots_adjust(left=0.9 / wide, right=1 - 0.35 / wide, top=1 - 0.85 / high, bottom=1.15 / high)
        panels = figure.subplots(1, len(made.graphs), sharex=True, sharey=True, squeeze=False)[0]
        for axes, x, graph in zip(panels, made.letters, made.graphs, strict=True):
            _panel(axes, [row for row in rows if row["graph"] == x], f"{x}   {short(graph.slug, 34)}")
        panels[0].set_ylabel("layer", color=_INK)
        panels[0].set_yticks(layers)
        shown = [key for key in _COLOURS if any((row["kept"], row["modality"]) == key for row in rows)]
        words = {"all": "in both" if len(made.graphs) == 2 else "in all", "some": "in some", "one": "only in this one"}
        figure.legend(
            [panels[0].barh([0], [0], color=_COLOURS[key]) for key in shown],
            [f"{words[kept]}, on {modality} positions" for kept, modality in shown],
            loc="lower center", ncols=min(len(shown), 2 * len(made.graphs)) if len(made.graphs) > 2 else 2,
            frameon=False, fontsize=8.5,
        )  # fmt: skip
        metadata = {"Date": None, "Creator": "Circuit Atlas"} if fmt == "svg" else {"Software": "Circuit Atlas"}
        figure.savefig(buffer, format=fmt, metadata=metadata)
    return write_aside(path, buffer.getvalue())


def _panel(axes: "Axes", rows: list[dict[str, Any]], title: str) -> None:
    """One graph: bars to the right, as long as the number of features kept; shares of influence in the title."""
    ends: dict[int, int] = {}
    for (kept, modality), colour in _COLOURS.items():
        part = [row for row in rows if (row["kept"], row["modality"]) == (kept, modality)]
        layers, counts = [row["layer"] for row in part], [row["features"] for row in part]
        axes.barh(layers, counts, left=[ends.get(at, 0) for at in layers], color=colour, height=0.78)
        ends |= {at: ends.get(at, 0) + count for at, count in zip(layers, counts, strict=True)}
    shared = sum(row["share"] or 0.0 for row in rows if row["kept"] == "all")
    whole = sum(row["share"] or 0.0 for row in rows)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=_INK, pad=20)
    said = f"shared features carry {shared:.1%} of the influence, all features {whole:.1%}"
    axes.annotate(said, (0, 1), xytext=(0, 7), xycoords="axes fraction", textcoords="offset points", fontsize=7.5,
                  color=_FAINT)  # fmt: skip
    axes.set_xlabel("features kept", color=_INK, fontsize=9)
    axes.tick_params(labelsize=8, colors=_INK)
    axes.spines[["top", "right"]].set_visible(False)
