"""Plans as a command line gives them: from names, from a file, from a question's rows; and in words."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atlas.domain.evidence import Action
from atlas.domain.plan import Change, Plan, Question, What, parse_at
from atlas.errors import InputError
from atlas.ids import FeatureId, canonical_json


def read_plan(source: str) -> Plan:
    """The plan in a JSON file, `-` for standard input. Raises InputError."""
    return Plan.from_json(_read_json(source, "a plan"))


def read_features(source: str) -> list[str]:
    """Features in the rows of a question's JSON, `-` for standard input: their column `feature`, each once.

    Raises InputError.
    """
    rows = _read_json(source, "a question's rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{_named(source)} is no list of rows", "what `atlas ask NAME --json` prints")
    if not rows:
        raise InputError(f"{_named(source)} has no rows", "one feature at least", "Ask the question with other filters")
    features = [row.get("feature") for row in rows]
    if not all(isinstance(feature, str) for feature in features):
        raise InputError(f"{_named(source)}: rows without a column `feature`", "rows of a question that gives features")
    return [str(FeatureId.parse(str(feature))) for feature in dict.fromkeys(features)]


def plan_of(names: Sequence[str], at: str, action: Action, value: float | None) -> Plan:
    """The plan of a command line. A name is a feature, layer/index; one at positions of its own, layer/index@5; or a
    supernode. `at` is where the others are changed, as typed (atlas.domain.plan.parse_at). Raises InputError.
    """
    features: list[FeatureId] = []
    others: list[tuple[What, str]] = []
    for name in names:
        feature, said, own = name.removeprefix("feature:").partition("@")
        if not re.fullmatch(r"\d+/\d+", feature):
            others.append((name.strip(), at))
        elif said:
            others.append(((FeatureId.parse(feature),), own))
        else:
            features.append(FeatureId.parse(feature))
    together: list[tuple[What, str]] = [(tuple(features), at)] if features else []
    return Plan(tuple(Change(what, parse_at(place), action, value) for what, place in together + others))


def describe(plan: Plan) -> str:
    """A plan in one line, for people."""
    return "; ".join(_described(change) for change in plan.changes)


def _described(change: Change) -> str:
    if isinstance(change.what, str):
        what = repr(change.what)
    elif isinstance(change.what, Question):
        what = f"the answer of {change.what.name}"
    else:
        what = ", ".join(map(str, change.what))
    record = Plan((change,)).to_json()["changes"][0]
    at = record["at"] if isinstance(record["at"], str) else canonical_json(record["at"])
    value = "" if change.value is None else f"{change.value:g}"
    done = {
        "ablate": f"ablate {what}",
        "copy": f"copy {what} from {change.run}",
        "scale": f"scale {what} by {value}",
        "set": f"set {what} to {value}",
        "add": f"add {value} to {what}",
    }
    return f"{done[change.action]} at {at}"


def _named(source: str) -> str:
    return "standard input" if source == "-" else source


def _read_json(source: str, what: str) -> Any:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text("utf-8")
    except OSError as error:
        raise InputError(f"{source} cannot be read ({error.strerror or error})", f"a JSON file with {what}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{_named(source)} is not UTF-8 text", f"{what} as JSON") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{_named(source)} is no JSON ({error})", f"{what} as JSON") from error
