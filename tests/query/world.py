"""Small atlases for the tests of questions: circuits of numbers in a DuckDB that lives in memory."""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from hypothesis import strategies as st
from sqlalchemy.schema import CreateTable

from atlas.domain.circuit import Circuit
from atlas.domain.columns import Columns
from atlas.ids import content_hash
from atlas.stores.rows import GraphToLoad, graph_rows
from atlas.stores.schema import metadata
from tests.factory import make_circuit


class Memory:
    """A database in memory that answers as atlas.stores.duck.Duck does."""

    def __init__(self, circuits: list[Circuit]) -> None:
        self.connection = duckdb.connect(":memory:", config={"threads": 1})
        self.connection.execute(_schema())
        self.circuits = circuits
        self.sets: dict[str, int] = {}
        self.gids = {circuit.id: gid for gid, circuit in enumerate(circuits, start=1)}
        for gid, circuit in enumerate(circuits, start=1):
            number = self.sets.setdefault(circuit.transcoders, len(self.sets) + 1)
            for table, rows in graph_rows(GraphToLoad(gid, number, "", circuit)).items():
                self._insert(table, rows)

    def arrow(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        return self.connection.execute(sql, dict(parameters or {})).to_arrow_table()

    def _insert(self, table: str, rows: pa.Table) -> None:
        keys = [column.name for column in metadata.tables[table].primary_key]
        names = ", ".join(f'"{name}"' for name in rows.column_names)
        unless = " ON CONFLICT DO NOTHING" if keys else ""  # shared rows come with every graph that has them
        self.connection.register("incoming_rows", rows)
        self.connection.execute(f'INSERT INTO "{table}" ({names}) SELECT {names} FROM incoming_rows{unless}')
        self.connection.unregister("incoming_rows")


@cache
def _schema() -> str:
    dialect = sa.create_engine("duckdb:///:memory:").dialect
    return ";".join(str(CreateTable(table).compile(dialect=dialect)) for table in metadata.sorted_tables)


def rows_of(table: Columns) -> list[dict[str, Any]]:
    """A record's rows, missing values as None."""
    specs = table.columns()
    columns = []
    for spec in specs:
        values = getattr(table, spec.name).tolist()
        if spec.nullable and spec.type.startswith("float"):
            values = [None if math.isnan(value) else value for value in values]
        elif spec.nullable and spec.type.startswith("int"):
            values = [None if value == -1 else value for value in values]
        columns.append(values)
    return [dict(zip((spec.name for spec in specs), row, strict=True)) for row in zip(*columns, strict=True)]


def as_import(circuit: Circuit) -> Circuit:
    """The circuit as a graph file would bring it: no raw influence, and nothing said about settings."""
    nodes = {field.name: getattr(circuit.nodes, field.name) for field in fields(circuit.nodes)}
    nodes["influence"] = np.full(len(circuit.nodes), np.nan)
    hidden = np.array([kind == "logit" for kind in circuit.nodes.kind])
    nodes["cumulative"] = np.where(hidden, np.nan, circuit.nodes.cumulative)
    identity = {"imported": circuit.id, "transcoders": circuit.transcoders}
    return replace(
        circuit, id=content_hash(identity), identity=identity, nodes=type(circuit.nodes)(**nodes), partial=True
    )


@st.composite
def atlases(draw: st.DrawFn, least: int = 1, most: int = 4) -> list[Circuit]:
    """Small atlases: traced and imported graphs, one or two sets, with and without pictures, few features each."""
    circuits = []
    for seed in draw(st.lists(st.integers(0, 10_000), min_size=least, max_size=most, unique=True)):
        imported = draw(st.booleans())
        circuit = make_circuit(
            seed=seed,
            n_features=draw(st.integers(1, 30)),
            task=draw(st.sampled_from(["sum", "colour", None])),
            concept=draw(st.sampled_from(["seven", "mars"])),
            transcoders=draw(st.sampled_from(["set-a", "set-a", "set-b"])),
            with_images=draw(st.booleans()),
            partial=imported,
            n_layers=3,
            n_text=3,
            n_latents=8,
            slug=f"graph-{seed}",
            n_edges=draw(st.integers(20, 160)),
        )
        circuits.append(as_import(circuit) if imported else circuit)
    return circuits
