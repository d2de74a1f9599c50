"""What is to be changed in a model run, as data: made by hand or by a program, and checked before anything runs.

    {"name": "no three", "changes": [
        {"features": ["3/12", "4/7"], "at": "image", "action": "ablate"},
        {"supernode": "digit three", "at": [17, -1], "action": "scale", "value": 0.5},
        {"question": {"name": "answer-drivers", "parameters": {"graph": "sum-3-4-a"}}, "at": "all", "action": "set",
         "value": 2.0},
        {"features": ["2/5"], "at": {"slot": "planet"}, "action": "copy", "run": "earth-a"}]}

Whether its features, positions and graphs exist is asked where the plan meets a run (ingest/interventions/resolve.py).
"""

import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from atlas.domain.evidence import ACTIONS, Action
from atlas.errors import AtlasError, InputError
from atlas.ids import FeatureId

Region = Literal["all", "prompt", "image", "text", "last", "generated"]
REGIONS: tuple[Region, ...] = get_args(Region)
"""all: the prompt and what comes after it; prompt, image, text: of the prompt; last: where the answer is read;
generated: what comes after the prompt, be it part of the graph or written now."""

_ACTIONS_WITH_VALUE = ("scale", "set", "add")


@dataclass(frozen=True)
class Slot:
    """The positions of a named piece of the prompt: `slots` of the prompt line gives its text."""

    name: str
    """Its name there."""


@dataclass(frozen=True)
class Cells:
    """Soft tokens of a picture; what is not said is every one."""

    image: int | None = None
    """Ordinal of the picture, from 0."""
    row: int | None = None
    """Row in the grid of soft tokens, from the top."""
    col: int | None = None
    """Column, from the left."""


At = Region | Slot | Cells | tuple[int, ...]
"""Where: a region, a slot, cells of a picture, or positions; negative ones count from the prompt's end."""


@dataclass(frozen=True)
class Question:
    """The features that a question of the library answers with."""

    name: str
    """Its name, as in `atlas ask`."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Its parameters."""
    column: str = "feature"
    """The column that holds features, as layer/index."""


What = tuple[FeatureId, ...] | Question | str
"""Features, the answer of a question, or the name of a supernode."""


@dataclass(frozen=True)
class Change:
    """One thing to do to some features at some positions."""

    what: What
    """Which features."""
    at: At
    """Where."""
    action: Action
    """ablate: to 0; scale: times value; set: to value; add: plus value; copy: to what it is in another run."""
    value: float | None = None
    """Factor (scale) or activation (set, add); none for ablate and copy."""
    run: str | None = None
    """copy: the graph whose run is copied from."""

    def __post_init__(self) -> None:
        if self.action in _ACTIONS_WITH_VALUE and self.value is None:
            raise InputError(f"{self.action} without a value", "a finite number")
        if self.value is not None and self.action not in _ACTIONS_WITH_VALUE:
            raise InputError(f"{self.action} with the value {self.value}", f"{self.action} alone", "Or use set")
        if self.value is not None and not math.isfinite(self.value):
            raise InputError(f"the value {self.value}", "a finite number")
        if (self.run is not None) != (self.action == "copy"):
            raise InputError(
                f"{self.action} with the run {self.run!r}" if self.run else "copy without a run",
                "a graph to copy from, for copy only",
            )
        if not self.what:
            raise InputError("a change that names no feature", "features, a supernode or a question")
        if self.at == ():
            raise InputError("a change at no position", "positions, or one of " + ", ".join(REGIONS))


@dataclass(frozen=True)
class Plan:
    """Changes that are made together, in one run."""

    changes: tuple[Change, ...]
    """What is changed; nothing is a plan too, and changes nothing."""
    name: str | None = None
    """For people."""

    @classmethod
    def from_json(cls, record: Any) -> "Plan":
        """Read the form above. Raises InputError saying which change is wrong, and how."""
        if isinstance(record, list):
            record = {"changes": record}
        fields = _object(record, "a plan", {"name", "changes"})
        changes, name = fields.get("changes"), fields.get("name")
        if not isinstance(changes, list):
            raise InputError(f'"changes" of a plan is {changes!r}', "a list of objects")
        if name is not None and not isinstance(name, str):
            raise InputError(f'"name" of a plan is {name!r}', "a text")
        return cls(tuple(_change(change, number) for number, change in enumerate(changes, start=1)), name)

    @classmethod
    def parse(cls, text: str) -> "Plan":
        """Read JSON text. Raises InputError."""
        try:
            return cls.from_json(json.loads(text))
        except ValueError as error:
            raise InputError(f"a plan that is not JSON ({error})", '{"changes": [...]}') from error

    def to_json(self) -> dict[str, Any]:
        """The form above; reading it back gives an equal plan."""
        named = {} if self.name is None else {"name": self.name}
        return named | {"changes": [_change_record(change) for change in self.changes]}


def parse_at(text: str) -> At:
    """Positions as they are typed: a region, `5,6,-1`, `slot:NAME`, `image:0` or `cell:ROW,COL`. Raises InputError."""
    text = text.strip()
    if text in REGIONS:
        return _region(text)
    kind, _, rest = text.partition(":")
    try:
        if kind == "slot" and rest:
            return Slot(rest)
        if kind == "image" and rest:
            return Cells(image=_cell("image", int(rest)))
        if kind == "cell" and rest:
            row, col = rest.split(",")
            return Cells(row=_cell("row", int(row)), col=_cell("col", int(col)))
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise _unknown_place(text) from error


def _change(record: Any, number: int) -> Change:
    try:
        return _read_change(record)
    except AtlasError as error:
        raise InputError(f"change {number}: {error.found}", error.expected, error.do) from error


def _read_change(record: Any) -> Change:
    named = ("features", "supernode", "question")
    fields = _object(record, "a change", {*named, "at", "action", "value", "run"})
    chosen = [name for name in named if fields.get(name) is not None]
    if len(chosen) != 1:
        raise InputError(f"it names {' and '.join(chosen) or 'no feature'}", f"one of {', '.join(named)}")
    action, value, run = fields.get("action"), fields.get("value"), fields.get("run")
    if action not in ACTIONS:
        raise InputError(f'"action" is {action!r}', f"one of {', '.join(ACTIONS)}")
    if value is not None:
        value = _number(value)
    if run is not None and not isinstance(run, str):
        raise InputError(f'"run" is {run!r}', "the id or slug of a graph")
    return Change(_what(chosen[0], fields[chosen[0]]), _at(fields.get("at", "all")), action, value, run)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f'"value" is {value!r}', "a number")
    try:
        return float(value)
    except OverflowError as error:
        raise InputError('"value" has hundreds of digits', "a finite number") from error


def _what(kind: str, value: Any) -> What:
    if kind == "features":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f'"features" is {value!r}', 'a list of layer/index, as in ["3/1042"]')
        return tuple(FeatureId.parse(item) for item in value)
    if kind == "supernode":
        if not isinstance(value, str) or not value.strip():
            raise InputError(f'"supernode" is {value!r}', "its name")
        return value.strip()
    fields = _object(value, "a question", {"name", "parameters", "column"})
    name, parameters, column = fields.get("name"), fields.get("parameters", {}), fields.get("column", "feature")
    if not isinstance(name, str) or not isinstance(parameters, dict) or not isinstance(column, str):
        raise InputError(f'"question" is {value!r}', '{"name": ..., "parameters": {...}, "column": "feature"}')
    return Question(name, parameters, column)


def _at(value: Any) -> At:
    if isinstance(value, str) and value in REGIONS:
        return _region(value)
    if isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in value):
        return tuple(value)
    if isinstance(value, dict) and set(value) == {"slot"} and isinstance(value["slot"], str):
        return Slot(value["slot"])
    if isinstance(value, dict) and value and set(value) <= {"image", "row", "col"}:
        return Cells(**{name: _cell(name, item) for name, item in value.items()})
    raise _unknown_place(value)


def _region(text: str) -> Region:
    return next(region for region in REGIONS if region == text)


def _cell(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f'"{name}" is {value!r}', "a number from 0")
    return value


def _unknown_place(value: Any) -> InputError:
    return InputError(
        f"the positions {value!r}",
        f"one of {', '.join(REGIONS)}, a slot, cells of a picture, or numbers",
        'As in [5, -1], {"slot": NAME}, {"image": 0, "row": 2}; when typed: 5,-1 or slot:NAME or cell:2,3',
    )


def _object(value: Any, what: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what} that is {value!r}", "an object")
    unknown = sorted(set(value) - keys)
    if unknown:
        raise InputError(f"{what} with the unknown key {unknown[0]!r}", f"keys of {', '.join(sorted(keys))}")
    return value


def _change_record(change: Change) -> dict[str, Any]:
    what: dict[str, Any]
    if isinstance(change.what, str):
        what = {"supernode": change.what}
    elif isinstance(change.what, Question):
        what = {"question": vars(change.what)}
    else:
        what = {"features": [str(feature) for feature in change.what]}
    if isinstance(change.at, Slot):
        at: Any = {"slot": change.at.name}
    elif isinstance(change.at, Cells):
        at = {name: value for name, value in vars(change.at).items() if value is not None}
    else:
        at = list(change.at) if isinstance(change.at, tuple) else change.at
    rest = {"value": change.value, "run": change.run}
    return what | {"at": at, "action": change.action} | {name: item for name, item in rest.items() if item is not None}
