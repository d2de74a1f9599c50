"""A check as a picture: predicted against observed change of the answer's lead, one panel for each mode."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atlas.domain.evidence import MODES, Mode
from atlas.figures import SETTINGS, picture_format
from atlas.interop.aside import write_aside
from ingest.interventions.check import MAIN, Checked
from ingest.interventions.predict import Prediction
from ingest.interventions.statistics import spearman

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _EDGE, _MAIN = "#1d2430", "#6a7280", "#f0b48a", "#1f6fb2"
_WORDS: dict[Prediction, str] = {
    "direct": "minus the direct edge",
    "paths": "minus all paths",
    "gradient": "gradient",
    "norms": "gradient, norms in full",
}


def draw(made: Sequence[Checked], path: Path) -> Path:
    """Draw all graphs together, PNG or SVG by the file's ending: direct edges pale, the main prediction strong."""
    fmt = picture_format(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    modes = [mode for mode in MODES if mode in made[0].observed]
    buffer = io.BytesIO()
    with rc_context(SETTINGS):
        figure = Figure(figsize=(0.6 + 3.7 * len(modes), 4.5), dpi=110, facecolor="white")
        panels = figure.subplots(1, len(modes), squeeze=False)[0]
        for axes, mode in zip(panels, modes, strict=True):
            _panel(axes, made, mode)
        panels[0].set_ylabel("change seen, logits", color=_INK, fontsize=9)
        names = made[0].slug if len(made) == 1 else f"{len(made)} graphs"
        count = sum(len(checked.nodes) for checked in made)
        title = f"{names}: {count} ablations, and what was predicted of the answer's lead over its runner-up"
        figure.suptitle(title, x=0.02, ha="left", fontsize=10.5, fontweight="bold", color=_INK)
        figure.tight_layout(rect=(0, 0, 1, 0.98))
        metadata = {"Date": None, "Creator": "Circuit Atlas"} if fmt == "svg" else {"Software": "Circuit Atlas"}
        figure.savefig(buffer, format=fmt, metadata=metadata)
    return write_aside(path, buffer.getvalue())


def _panel(axes: "Axes", made: Sequence[Checked], mode: Mode) -> None:
    observed = np.concatenate([checked.observed[mode] for checked in made])
    shown: tuple[tuple[Prediction, str, int], ...] = (("direct", _EDGE, 14), (MAIN[mode], _MAIN, 9))
    shown = shown[1:] if MAIN[mode] == "direct" else shown
    ends = [observed]
    for prediction, colour, size in shown:
        predicted = np.concatenate([checked.predicted[prediction][mode] for checked in made])
        told = f"{_WORDS[prediction]}: {spearman(predicted, observed):.3f}"
        axes.scatter(predicted, observed, s=size, color=colour, linewidths=0, alpha=0.8, label=told)
        ends.append(predicted)
    low, high = float(np.min(np.concatenate(ends))), float(np.max(np.concatenate(ends)))
    axes.plot([low, high], [low, high], color=_FAINT, linewidth=0.8, linestyle="--")
    axes.set_title(mode, loc="left", fontsize=11, color=_INK)
    axes.set_xlabel("change predicted, logits", color=_INK, fontsize=9)
    legend = axes.legend(frameon=False, fontsize=8, loc="lower right", title="rank correlation", title_fontsize=8)
    legend.set_alignment("left")
    axes.tick_params(labelsize=8, colors=_INK)
    axes.spines[["top", "right"]].set_visible(False)
