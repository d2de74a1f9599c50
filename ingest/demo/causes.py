"""The demo's causal part: do the edges hold when features are taken away, do features carry what is in a picture?"""

from atlas.config import Home
from atlas.domain.evidence import MODES
from ingest.interventions.case import Laboratory
from ingest.interventions.check_many import check_graphs
from ingest.interventions.patch_graphs import Wish, patch_graphs
from ingest.interventions.predict import Prediction
from ingest.interventions.record import keep

TOP = 30
"""Features taken away one by one."""

_PREDICTIONS: dict[Prediction, str] = {"direct": "the edges", "norms": "a gradient, and norms in full"}


def ablations(home: Home, laboratory: Laboratory, graph: str) -> list[tuple[str, str, str]]:
    """Rank correlation of what was predicted and seen of the answer's lead, frozen and free; kept as evidence."""
    (checked,), _ = check_graphs(home, laboratory, [laboratory.ready(graph)], TOP, "influence", MODES)
    return [
        (said, f"{checked.correlation(prediction, 'frozen'):.2f}", f"{checked.correlation(prediction, 'free'):.2f}")
        for prediction, said in _PREDICTIONS.items()
    ]


def swap(home: Home, laboratory: Laboratory, donor: str, recipient: str) -> tuple[str, str]:
    """What copying features of one run into another made of the answer, and what controls did; kept as evidence."""
    made = patch_graphs(home, laboratory, donor, recipient, Wish())
    keep(home, made.evidence)
    before, after, count = made.made.report.said_before, made.made.report.said_after, len(made.made.chosen)
    others, directions = (
        f"{sum(control.became for control in found)} of {len(found)}"
        for found in (made.made.control("features"), made.made.control("directions"))
    )
    return (
        f"Shown Mars and asked for its moons it says {before}; with {count} features as in Earth's run, {after}.",
        f"{count} others in the same places do that {others} times, random directions as large {directions} times.",
    )
