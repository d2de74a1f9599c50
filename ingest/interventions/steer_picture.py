"""Interventions as a picture: curves over doses, or, for a single run, tokens and features before and after."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from atlas.figures import SETTINGS, picture_format
from atlas.interop.aside import write_aside
from ingest.interventions.plan_text import describe
from ingest.interventions.steer import Steering

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _BEFORE, _AFTER = "#1d2430", "#6a7280", "#a9b4c4", "#d1611f"
_LINES = ("#1f6fb2", "#d1611f", "#3f8f4f", "#8a5fb0", "#b8902a", "#4aa3a8", "#a8487a", "#6a7280")
_VISIBLE = 0.01  # tokens that never reach this probability would lie on the axis


def draw(made: Steering, path: Path) -> Path:
    """Draw the runs, PNG or SVG by the file's ending. Raises InputError."""
    fmt = picture_format(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    over_doses = len(made.runs) > 1
    buffer = io.BytesIO()
    with rc_context(SETTINGS):
        rows = 0 if over_doses else max(len(made.runs[0].report.tokens), len(made.runs[0].report.moved), 4)
        figure = Figure(figsize=(10, 4.2 if over_doses else 1.7 + 0.34 * rows), dpi=110, facecolor="white")
        left, right = figure.subplots(1, 2)
        if over_doses:
            _probabilities(left, made)
            _logits(right, made)
        else:
            _tokens(left, made)
            _features(right, made)
        for axes in (left, right):
            axes.tick_params(labelsize=8, colors=_INK)
            axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(title(made), x=0.02, ha="left", fontsize=11, fontweight="bold", color=_INK)
        figure.tight_layout(rect=(0, 0, 1, 0.98))
        metadata = {"Date": None, "Creator": "Circuit Atlas"} if fmt == "svg" else {"Software": "Circuit Atlas"}
        figure.savefig(buffer, format=fmt, metadata=metadata)
    return write_aside(path, buffer.getvalue())


def title(made: Steering) -> str:
    """Graph, mode and what was changed, in one line; at a dose of 1 if there are doses."""
    run = next((run for run in made.runs if run.dose == 1), made.runs[-1])
    return f"{made.slug}, {made.mode}: {shortened(describe(run.plan), 90)}"


def shortened(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _probabilities(axes: "Axes", made: Steering) -> None:
    """A line a token: its probability over the doses."""
    doses = [run.dose or 0.0 for run in made.runs]
    peaks: dict[int, float] = {}
    texts: dict[int, str] = {}
    for run in made.runs:
        for token in run.report.tokens:
            peaks[token.id] = max(peaks.get(token.id, 0.0), token.after)
            texts[token.id] = token.text
    ranked = sorted(peaks, key=lambda number: -peaks[number])[: len(_LINES)]
    shown = [number for place, number in enumerate(ranked) if place < 2 or peaks[number] >= _VISIBLE]
    for number, colour in zip(shown, _LINES, strict=False):
        found = [next((t.after for t in run.report.tokens if t.id == number), float("nan")) for run in made.runs]
        axes.plot(doses, found, color=colour, marker="o", markersize=4, label=repr(texts[number])[1:-1])
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("dose", color=_INK, fontsize=9)
    axes.set_ylabel("probability", color=_INK, fontsize=9)
    axes.legend(frameon=False, fontsize=8, title="token", title_fontsize=8)


def _logits(axes: "Axes", made: Steering) -> None:
    """The answer's lead over the doses; and what the graph explains, as it was seen and as its edges predict it."""
    doses = [run.dose or 0.0 for run in made.runs]
    leads = [run.report.lead_after for run in made.runs]
    name = f"logit {made.runs[0].report.answer.text.strip()} - best other"
    axes.axhline(0, color=_FAINT, linewidth=0.8)
    axes.plot(doses, leads, color=_LINES[0], marker="o", markersize=4, label=name)
    if made.answer is not None:
        name = f"change of {made.answer.text.strip()}, which the graph explains"
        seen = [run.report.observed or 0.0 for run in made.runs]
        axes.plot(doses, seen, color=_LINES[1], marker="o", markersize=4, label=name)
        edges = [float("nan") if run.predicted is None else run.predicted for run in made.runs]
        if sum(run.predicted is not None for run in made.runs) > 1:
            axes.plot(doses, edges, color=_INK, linestyle="--", linewidth=1, label="the same, by its edges")
    axes.set_xlabel("dose", color=_INK, fontsize=9)
    axes.set_ylabel("logits", color=_INK, fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def _tokens(axes: "Axes", made: Steering) -> None:
    tokens = made.runs[0].report.tokens
    _bars(axes, [repr(t.text)[1:-1] for t in tokens], [t.before for t in tokens], [t.after for t in tokens])
    axes.set_xlim(0, 1.02)
    axes.set_xlabel("probability", color=_INK, fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="lower right")


def _features(axes: "Axes", made: Steering) -> None:
    moved = made.runs[0].report.moved
    names = [f"{m.feature}@{m.position}  {made.labels.get(m.feature, '')}".strip() for m in moved]
    _bars(axes, [shortened(name, 34) for name in names], [m.before for m in moved], [m.after for m in moved])
    axes.set_xlabel("activation of the features that changed most", color=_INK, fontsize=9)


def _bars(axes: "Axes", names: list[str], before: list[float], after: list[float]) -> None:
    rows = range(len(names))
    axes.barh([row - 0.2 for row in rows], before, height=0.38, color=_BEFORE, label="before")
    axes.barh([row + 0.2 for row in rows], after, height=0.38, color=_AFTER, label="after")
    axes.set_yticks(list(rows), names)
    axes.invert_yaxis()
