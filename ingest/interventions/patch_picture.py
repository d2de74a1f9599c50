"""A patch as a picture: where features were copied, how the answer turned as more of them were, and what followed."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atlas.figures import SETTINGS, picture_format
from atlas.interop.aside import write_aside
from ingest.interventions.patch import CONTROL_KINDS, ControlKind, Patched
from ingest.interventions.patch_graphs import PatchedGraphs, mean_shifts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _PATCH = "#1d2430", "#6a7280", "#1f6fb2"
_CONTROLS: dict[ControlKind, tuple[str, str]] = {
    "features": ("other features", "#d1611f"),
    "directions": ("random directions", "#5b8c5a"),
}


def draw(patched: PatchedGraphs, path: Path) -> Path:
    """Draw it, PNG or SVG by the file's ending. Raises InputError."""
    fmt = picture_format(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    made = patched.made
    decode = made.pair.recipient.model.tokenizer.decode
    wanted, given = (str(decode([token])).strip() for token in (made.pair.wanted, made.pair.given))
    buffer = io.BytesIO()
    with rc_context(SETTINGS):
        figure = Figure(figsize=(14, 4.6), dpi=110, facecolor="white")
        panels = figure.subplots(1, 3, width_ratios=[1.5, 1, 1])
        _where(panels[0], made)
        _turning(panels[1], made, f"logit {wanted} - {given}")
        _after(panels[2], made)
        for axes in panels:
            axes.tick_params(labelsize=7.5, colors=_INK)
            axes.spines[["top", "right"]].set_visible(False)
        said = f"{made.report.said_before!r} becomes {made.report.said_after!r}"
        title = f"{patched.donor} into {patched.recipient}, {made.mode}: {len(made.chosen)} features copied, {said}"
        figure.suptitle(title, x=0.02, ha="left", fontsize=11, fontweight="bold", color=_INK)
        figure.tight_layout(rect=(0, 0, 1, 0.98))
        metadata = {"Date": None, "Creator": "Circuit Atlas"} if fmt == "svg" else {"Software": "Circuit Atlas"}
        figure.savefig(buffer, format=fmt, metadata=metadata)
    return write_aside(path, buffer.getvalue())


def _where(axes: "Axes", made: Patched) -> None:
    """How many features were copied, layer by position; what stands at a position is written below."""
    case = made.pair.recipient
    counts = np.zeros((case.bank.n_layers, case.n_positions))
    np.add.at(counts, (made.chosen.layers.numpy(), made.chosen.positions.numpy()), 1)
    axes.imshow(counts, origin="lower", aspect="auto", cmap="Blues", vmin=0, vmax=max(counts.max() * 1.3, 1))
    if counts.size <= 600:
        for layer, position in np.argwhere(counts > 0):
            dark = counts[layer, position] > 0.75 * counts.max()
            axes.text(position, layer, f"{counts[layer, position]:.0f}", ha="center", va="center", fontsize=6.5,
                      color="white" if dark else _INK)  # fmt: skip
    names = [repr(p.text)[1:-1].strip() if p.modality == "text" else f"{p.row},{p.col}" for p in case.inputs.positions]
    step = max(1, case.n_positions // 40)
    shown = list(range(0, case.n_positions, step))
    axes.set_xticks(shown, [names[place][:14] for place in shown], rotation=90)
    axes.set_title("features copied, by layer and position", loc="left", fontsize=10, color=_INK)
    axes.set_ylabel("layer", color=_INK, fontsize=9)


def _turning(axes: "Axes", made: Patched, name: str) -> None:
    """The lead of the donor's answer over the number of features copied, the best first; controls at all of them."""
    sizes, leads = zip(*made.curve, strict=True)
    axes.axhline(0, color=_FAINT, linewidth=0.8)
    axes.axhline(made.lead_before, color=_FAINT, linewidth=0.8, linestyle=":", label="nothing copied")
    axes.axhline(made.lead_donor, color=_FAINT, linewidth=0.8, linestyle="--", label="in the donor")
    axes.plot(sizes, leads, color=_PATCH, marker="o", markersize=4, label="the patch")
    for kind, (words, colour) in _CONTROLS.items():
        found = [control.lead for control in made.control(kind)]
        shown = words + f", {sum(control.became for control in made.control(kind))} of {len(found)} turn it"
        if found:
            axes.scatter(
                [len(made.chosen)] * len(found), found, color=colour, s=12, alpha=0.7, linewidths=0, label=shown
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("features copied", color=_INK, fontsize=9)
    axes.set_title(name, loc="left", fontsize=10, color=_INK)
    axes.legend(frameon=False, fontsize=7.5, loc="upper left", bbox_to_anchor=(0.0, 0.94))


def _after(axes: "Axes", made: Patched) -> None:
    """Share of features after the patch that moved to the donor's values, by layer."""
    lines = [("the patch", _PATCH, list(made.shifts))]
    lines += [(*_CONTROLS[kind], mean_shifts(made.control(kind))) for kind in CONTROL_KINDS if made.control(kind)]
    for words, colour, found in lines:
        layers = [shift for shift in found if shift.where.isdigit()]
        places = [int(shift.where) for shift in layers]
        axes.plot(places, [shift.moved for shift in layers], color=colour, marker="o", markersize=4, label=words)
        if colour == _PATCH:
            worth = [shift.moved_worth for shift in layers]
            axes.plot(places, worth, color=colour, linestyle="--", linewidth=1, label="the patch, by worth")
            axes.set_xticks(places)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("layer", color=_INK, fontsize=9)
    axes.set_title("features after it, share that moved", loc="left", fontsize=10, color=_INK)
    axes.legend(frameon=False, fontsize=7.5)
