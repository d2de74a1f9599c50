"""One plan at several strengths: what a dose-response curve is made of."""

import math
from dataclasses import replace

from atlas.domain.plan import Plan
from atlas.errors import InputError


def parse_doses(text: str) -> tuple[float, ...]:
    """Numbers parted by commas, sorted, each once. Raises InputError."""
    try:
        doses = sorted({float(part) for part in text.split(",")})
    except ValueError:
        doses = []
    if not doses or not all(map(math.isfinite, doses)):
        raise InputError(f"doses {text!r}", "finite numbers parted by commas, as in 0,1,2,4")
    return tuple(doses)


def dosed(plan: Plan, dose: float) -> Plan:
    """The plan with the strength of every change, its factor or value, times the dose; a dose of 1 is the plan itself.

    Changes without a strength, ablations and copies, stay as they are. Raises InputError if there is no other.
    """
    if all(change.value is None for change in plan.changes):
        raise InputError(
            "doses of a plan that ablates or copies only",
            "a change that has a strength: scale, set or add",
            "An ablation in steps is `atlas steer GRAPH FEATURE --scale 1 --dose 0,0.25,0.5,1`",
        )
    changes = (c if c.value is None else replace(c, value=c.value * dose + 0.0) for c in plan.changes)  # never -0
    return replace(plan, changes=tuple(changes))
