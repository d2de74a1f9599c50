"""Columns <-> Arrow: NaN, -1 and None of a nullable column become nulls, and back."""

from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from atlas.artefact.format import arrow_schema
from atlas.domain.columns import Column, Columns
from atlas.errors import ArtefactError

Record = TypeVar("Record", bound=Columns)


def to_arrow(columns: Columns) -> pa.Table:
    """The record as an Arrow table of its declared schema. Raises ArtefactError for text that is not Unicode."""
    schema = arrow_schema(type(columns))
    arrays = []
    for spec, field in zip(columns.columns(), schema, strict=True):
        try:
            arrays.append(_to_array(getattr(columns, spec.name), spec, field.type))
        except (UnicodeError, pa.ArrowException, TypeError) as error:
            where = f"{type(columns).__name__}.{spec.name}"
            raise ArtefactError(f"{where} cannot be written ({error})", f"values of type {spec.type}") from error
    return pa.Table.from_arrays(arrays, schema=schema)


def from_arrow(record: type[Record], table: pa.Table, where: str) -> Record:
    """An Arrow table as the record it was made of. Raises ArtefactError if the columns are others than declared."""
    schema = arrow_schema(record)
    found = [(field.name, _plain(field.type)) for field in table.schema]
    expected = [(field.name, _plain(field.type)) for field in schema]
    if found != expected:
        strange = sorted(set(found) ^ set(expected)) or found
        raise ArtefactError(
            f"{where} has other columns than this version declares ({', '.join(f'{n} {t}' for n, t in strange[:3])})",
            f"the columns {', '.join(n for n, _ in expected)}",
            "Make the artefact again from its input",
        )
    values: dict[str, Any] = {}
    for spec in record.columns():
        column = table.column(spec.name).combine_chunks()
        if column.null_count and not spec.nullable:
            raise ArtefactError(
                f"{where}: column {spec.name} has {column.null_count} missing values",
                "none",
                "Make the artefact again from its input",
            )
        values[spec.name] = _from_array(column, spec)
    return record(**values)


def _to_array(values: np.ndarray, spec: Column, type: Any) -> pa.Array:
    if spec.type in {"text", "bytes"}:
        return pa.array(values.tolist(), type=type)
    if spec.type == "floats":
        offsets = np.zeros(len(values) + 1, dtype=np.int32)
        np.cumsum([len(row) for row in values], out=offsets[1:])
        flat = np.concatenate(list(values)) if len(values) else np.zeros(0, dtype=np.float32)
        return pa.ListArray.from_arrays(offsets, pa.array(flat, type=pa.float32()), type=type)
    if not spec.nullable:
        return pa.array(values, type=type)
    missing = np.isnan(values) if spec.type.startswith("float") else values == -1
    return pa.array(values, type=type, mask=missing)


def _from_array(column: pa.Array, spec: Column) -> Any:
    if spec.type in {"text", "bytes"}:
        return column.to_pylist()
    if spec.type == "floats":
        flat = column.values.to_numpy(zero_copy_only=False)
        offsets = column.offsets.to_numpy()
        return [flat[start:end] for start, end in pairwise(offsets)]
    if column.null_count:
        column = column.fill_null(float("nan") if spec.type.startswith("float") else -1)
    return column.to_numpy(zero_copy_only=False)


def _plain(type: Any) -> str:
    """A type's name without the name of a list's items, which readers and writers choose differently."""
    return f"list<{type.value_type}>" if pa.types.is_list(type) else str(type)
