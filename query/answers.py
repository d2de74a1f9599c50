"""From a question and what was given with it to rows.

Values are checked against the header, names of graphs, features and sets become keys, the text runs with a time limit,
and graphs of unlike provenance are not compared unless that was asked for.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from atlas.errors import AtlasError, QuestionError
from query.header import Engine, Parameter, Question, Value, parameters_of
from query.line import PLACEHOLDERS, command
from query.names import FeatureName, GraphName, Store, feature_in, graph_in, set_in

REMARKS = b"atlas.remarks"  # key in the metadata of an answer's schema

_DIGITS = 10
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SETTINGS = ("convention", "precision", "node_threshold", "edge_threshold")


class Bound(NamedTuple):
    """A question with its values, ready to run."""

    text: str
    """What runs."""
    values: dict[str, Any]
    """Its parameters, by name, as the database takes them."""
    graphs: tuple[GraphName, ...]
    """The graphs it names."""
    remarks: tuple[str, ...]
    """What a reader of the answer should know."""


def bind(store: Store, asked: Question, given: Mapping[str, Any], engine: Engine = "duckdb") -> Bound:
    """Check what is given and find the keys. Raises QuestionError (all faults at once) or NotFoundError."""
    checked = check(asked, given)
    wanted_set = checked.get("set")
    set_number = None if wanted_set is None else set_in(store, str(wanted_set))
    values: dict[str, Any] = {}
    graphs: list[GraphName] = []
    for parameter in asked.parameters:
        value: Any = checked[parameter.name]
        if value is not None and parameter.type == "graph":
            graph = graph_in(store, value)
            graphs.append(graph)
            value = graph.gid
        elif value is not None and parameter.type == "feature":
            feature: FeatureName = feature_in(store, value, set_number)
            value = feature.fid
        elif parameter.type == "set":
            value = set_number
        values[parameter.name] = value
    text = asked.texts[engine]
    said = _compare(store, graphs, bool(values["unlike"])) if "unlike" in values and len(graphs) > 1 else ()
    used = parameters_of(text)
    return Bound(text, {name: values[name] for name in values if name in used}, tuple(graphs), said)


def run(store: Store, bound: Bound) -> pa.Table:
    """The answer, its remarks in the schema's metadata."""
    table = _repeatable(store.arrow(bound.text, bound.values))
    return table.replace_schema_metadata({REMARKS: "\n".join(bound.remarks).encode()} if bound.remarks else None)


def _repeatable(table: pa.Table) -> pa.Table:
    """Sums over threads differ in the last digits from run to run; ten significant digits do not."""
    for place, field in enumerate(table.schema):
        if pa.types.is_float64(field.type):
            values = table.column(place).to_numpy()
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                scale = 10.0 ** (_DIGITS - 1 - np.floor(np.log10(np.abs(values))))
                rounded = np.round(values * scale) / scale
            kept = np.where(np.isfinite(rounded), rounded, values)
            missing = table.column(place).is_null().to_numpy()
            table = table.set_column(place, field, pa.array(kept, field.type, mask=missing))
    return table


def remarks(table: pa.Table) -> list[str]:
    """What the answer's reader should know."""
    text: bytes = (table.schema.metadata or {}).get(REMARKS, b"")
    return text.decode().splitlines()


def check(asked: Question, given: Mapping[str, Any]) -> dict[str, Value]:
    """Every parameter with a value of its type. Raises one QuestionError naming all that is wrong."""
    faults = [f"it takes no {name}" for name in given if asked.parameter(name) is None]
    values: dict[str, Value] = {}
    for parameter in asked.parameters:
        value = given.get(parameter.name)
        if value is None:
            if parameter.required:
                faults.append(f"{parameter.name} is missing")
            values[parameter.name] = parameter.default
            continue
        try:
            values[parameter.name] = _typed(parameter, value)
        except ValueError:
            faults.append(f"{parameter.name} is {value!r}, not {_article(parameter.expects)}")
    if faults:
        raise QuestionError(
            f"{asked.name}: {'; '.join(faults)}",
            "; ".join(_described(p) for p in asked.parameters),
            f"As in: {command(asked, PLACEHOLDERS)}",
        )
    return values


def _typed(parameter: Parameter, value: Any) -> Value:
    """The value in the parameter's type; text from a command line is read. Raises ValueError."""
    kind = parameter.type
    if kind == "boolean":
        if isinstance(value, bool):
            return value
        if str(value).lower() in _TRUTH:
            return _TRUTH[str(value).lower()]
        raise ValueError
    if kind in {"integer", "number"}:
        return _number(parameter, value)
    if isinstance(value, bool | float):
        raise ValueError
    text = str(value).strip() if kind != "text" else str(value)
    if not text or (kind == "choice" and text not in parameter.choices):
        raise ValueError
    if kind == "feature":
        layer, _, index = text.partition("/")
        if not (layer.isdecimal() and index.isdecimal()):
            raise ValueError
    return text


def _number(parameter: Parameter, value: Any) -> int | float:
    if isinstance(value, bool):
        raise ValueError
    number: int | float
    if parameter.type == "integer":
        if isinstance(value, float) and not value.is_integer():
            raise ValueError
        number = int(value)
        if abs(number) >= 1 << 62:
            raise ValueError
    else:
        number = float(value)
    low = parameter.least is not None and not number >= parameter.least
    high = parameter.most is not None and not number <= parameter.most
    if low or high or math.isnan(number):
        raise ValueError
    return number


def _described(parameter: Parameter) -> str:
    if parameter.required:
        return f"{parameter.name} ({parameter.expects}, required)"
    return f"{parameter.name} ({parameter.expects})"


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _compare(store: Store, graphs: list[GraphName], unlike: bool) -> tuple[str, ...]:
    """Refuse to compare what was not made alike; say what is not known. Raises QuestionError."""
    rows = store.arrow(
        'SELECT gid, slug, partial, set_number, transcoders, convention, "precision", node_threshold, edge_threshold '
        "FROM graph WHERE list_contains($gids, gid)",
        {"gids": [graph.gid for graph in graphs]},
    ).to_pylist()
    by_gid = {row["gid"]: row for row in rows}
    first = by_gid[graphs[0].gid]
    said: list[str] = []
    for other in (by_gid[graph.gid] for graph in graphs[1:]):
        apart = [
            f"{name} {first[name]} and {other[name]}"
            for name in _SETTINGS
            if None not in (first[name], other[name]) and first[name] != other[name]
        ]
        imported = first["partial"] or other["partial"]
        if first["set_number"] != other["set_number"]:
            apart.insert(0, f"transcoder sets {first['transcoders']} and {other['transcoders']}")
            imported = False
        if apart and not unlike and not imported:
            raise _unlike(first["slug"], other["slug"], apart)
        if apart:
            said.append(f"{first['slug']} and {other['slug']} were made unlike: {'; '.join(apart)}")
        missing = [name for name in _SETTINGS if first[name] is None or other[name] is None]
        if missing:
            said.append(f"not known for both graphs, so not compared: {', '.join(missing)}")
    return tuple(said)


def _unlike(first: str, other: str, apart: list[str]) -> AtlasError:
    return QuestionError(
        f"{first} and {other} were made unlike: {'; '.join(apart)}",
        "graphs made alike",
        "Compare all the same with --unlike (in Python: unlike=True)",
    )
