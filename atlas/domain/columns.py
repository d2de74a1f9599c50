"""Tables as records: a frozen dataclass whose fields are numpy columns of one length.

Each column is declared once, with its type, its unit and a sentence; files, databases and docs are made from that.
Missing values: NaN in a nullable float column, -1 in a nullable integer column, None in a nullable text column.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np

from atlas.errors import ArtefactError

TYPES = {"int16", "int32", "int64", "float32", "float64", "bool", "text", "bytes", "floats"}


@dataclass(frozen=True)
class Column:
    """What a column holds."""

    name: str
    """Its name, in records, files and databases alike."""
    type: str
    """int16, int32, int64, float32, float64, bool, text, bytes, or floats (a list of float32)."""
    doc: str
    """One sentence."""
    unit: str
    """Unit, or empty."""
    nullable: bool
    """Whether a value may be missing."""


def column(type: str, doc: str, unit: str = "", nullable: bool = False) -> Any:
    """Declare a column of a Columns record."""
    if type not in TYPES:
        raise ValueError(f"unknown column type {type!r}")
    return field(metadata={"type": type, "doc": doc, "unit": unit, "nullable": nullable})


@dataclass(frozen=True)
class Columns:
    """Base of all tables: columns of one length and of the declared types, checked when made."""

    def __post_init__(self) -> None:
        lengths = set()
        for spec in self.columns():
            array = _cast(getattr(self, spec.name), spec, type(self).__name__)
            object.__setattr__(self, spec.name, array)
            lengths.add(len(array))
        if len(lengths) > 1:
            raise ArtefactError(f"{type(self).__name__} has columns of unlike lengths {sorted(lengths)}", "one length")

    @classmethod
    def columns(cls) -> tuple[Column, ...]:
        """The declared columns, in order."""
        return tuple(
            Column(f.name, f.metadata["type"], f.metadata["doc"], f.metadata["unit"], f.metadata["nullable"])
            for f in fields(cls)
        )

    @classmethod
    def of(cls, **columns: Any) -> Self:
        """A table from lists or arrays."""
        return cls(**columns)

    @classmethod
    def empty(cls) -> Self:
        """A table without rows."""
        return cls(**{spec.name: [] for spec in cls.columns()})

    def __len__(self) -> int:
        return len(getattr(self, self.columns()[0].name))

    def take(self, rows: np.ndarray) -> Self:
        """The rows named by indices or by a mask."""
        return type(self)(**{spec.name: getattr(self, spec.name)[rows] for spec in self.columns()})


def _cast(values: Any, spec: Column, table: str) -> np.ndarray:
    where = f"{table}.{spec.name}"
    if spec.type in {"text", "bytes", "floats"}:
        array = np.empty(len(values), dtype=object)
        for row, value in enumerate(values):
            array[row] = np.asarray(value, dtype=np.float32) if spec.type == "floats" else value
        if not spec.nullable and any(value is None for value in array):
            raise ArtefactError(f"{where} has a missing value", "a value in every row")
        return array
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, dtype=spec.type)
    array = array.astype(spec.type, copy=False)
    if spec.type.startswith("float"):
        broken = np.isinf(array) if spec.nullable else ~np.isfinite(array)
        if broken.any():
            raise ArtefactError(
                f"{where} has a value that is not finite (row {int(np.flatnonzero(broken)[0])})", "finite numbers"
            )
    return array
