"""The whole Neo4j store as files for Neo4j's import tool, written by DuckDB from its own tables.

What is written is what the driver would have loaded: a test compares the two. Parquet is the fastest to write and to
read, but the tool takes its empty texts for missing ones, and 5.26 lacks a jar for it. In typed CSV every text is
quoted, so an empty text (`""`) and a missing one (nothing) differ, and numbers are the shortest text that reads back
as the same number.

Nodes are numbered from 0 through all labels, and relationships name their ends by those numbers, which the tool takes
for its own: it then searches no keys (docs/decisions/0015-import-by-numbers.md). What DuckDB keeps in 32 bits is
imported as such; Cypher knows one FLOAT and widens it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb

from atlas.stores.duck import Duck
from atlas.stores.neo.rows import GRAPH_RELATIONSHIPS, OWN_LABELS, SHARED_LABELS
from atlas.stores.neo.schema import Property
from atlas.stores.neo.shared import LINKS, NOTES
from atlas.stores.neo.texts import LABEL_OF, RELATIONSHIP_OF

_SQL = {"INTEGER": "BIGINT", "BOOLEAN": "BOOLEAN", "STRING": "VARCHAR"}
_TYPES = {"BIGINT": "long", "FLOAT": "float", "DOUBLE": "double", "BOOLEAN": "boolean", "VARCHAR": "string"}
Form = Literal["parquet", "csv"]
"""What the files are."""
_NUMBER, _ENDS = ":ID", (":START_ID", ":END_ID")
_OF_A_GRAPH = ("Position", "Node")  # their keys are: graph number << 24 | ordinal
_TOKEN = "g.model || ':' || n.\"index\""
_PREDICTING = "FROM node n JOIN graph g USING (gid) WHERE n.kind = 'logit' AND n.probability IS NOT NULL"
_ROWS = {
    "Graph": "SELECT g.*, p.checksum FROM graph g JOIN projection p ON p.gid = g.gid AND p.store = 'duckdb'",
    "Position": """SELECT p.*, p.gid * 16777216 + p.position AS pid, h.thumbnail AS heat_map FROM position p
                   LEFT JOIN heat_map h ON h.gid = p.gid AND h.position = p.position AND h.name = 'rollout'""",
    "Node": "SELECT n.*, p.modality FROM node n JOIN position p USING (gid, position)",
    "FeatureSet": "FROM feature_set",
    "Feature": "SELECT * FROM feature WHERE fid IN (SELECT fid FROM node)",
    "Image": "FROM image",
    "Token": f'SELECT {_TOKEN} AS tid, g.model, n."index", arg_min(n.text, n.nid) AS text {_PREDICTING} GROUP BY ALL',
    "IN_GRAPH": "SELECT nid AS source, gid AS target FROM node",
    "AT": "SELECT nid AS source, gid * 16777216 + position AS target FROM node",
    "OF": "SELECT nid AS source, fid AS target FROM node WHERE fid IS NOT NULL",
    "PREDICTS": f"SELECT n.nid AS source, {_TOKEN} AS target, n.probability {_PREDICTING}",
    "OF_IMAGE": """SELECT gid * 16777216 + position AS source, image_sha AS target FROM position
                   WHERE image_sha IS NOT NULL""",
    "SHOWS": "SELECT gid AS source, sha AS target, image FROM graph_image",
    "OF_SET": "SELECT fid AS source, set_number AS target FROM feature WHERE fid IN (SELECT fid FROM node)",
    "ATTR": "FROM edge",
    **NOTES,
    **LINKS,
}
"""Label or type -> its rows, as a question to DuckDB."""


@dataclass(frozen=True)
class BulkFile:
    """One file; one of CSV has its header beside it."""

    name: str
    """Label or relationship type."""
    path: Path
    """The rows; a CSV's header is PATH with `.header` before the ending."""
    rows: int
    """How many."""

    @property
    def header(self) -> Path | None:
        """The file that names the columns, unless the file does so itself."""
        return self.path.with_suffix(".header.csv") if self.path.suffix == ".csv" else None

    @property
    def option(self) -> str:
        """The option of the import tool that takes it."""
        kind = "nodes" if self.name in LABEL_OF else "relationships"
        return f"--{kind}={self.name}={','.join(str(path) for path in (self.header, self.path) if path)}"


def write_files(
    duck: Duck,
    identity: str,
    folder: Path,
    form: Form = "parquet",
    progress: Callable[[int, int, str], None] | None = None,
) -> list[BulkFile]:
    """Write all labels and relationships of what DuckDB holds into a folder that is there."""
    labels, types = [*SHARED_LABELS, *OWN_LABELS, *NOTES], [*GRAPH_RELATIONSHIPS, *LINKS]
    names = [*labels, *types]
    literal = identity.replace("'", "''")
    files = []
    with duck.reading() as connection:
        numbered = 0
        for at, name in enumerate(names):
            if progress is not None:
                progress(at, len(names), f"writing {name}")
            if name in LABEL_OF:
                _number(connection, name, numbered)
                files.append(_write(connection, name, _nodes(name), folder, form))
                numbered += files[-1].rows
            else:
                files.append(_write(connection, name, _relationships(name), folder, form))
        atlas = f"SELECT {numbered} AS \"{_NUMBER}\", '{literal}' AS id, NULL AS stamp, 0 AS changes"
        files.append(_write(connection, "Atlas", atlas, folder, form))
    return [file for file in files if file.rows]


def holds_empty_text(duck: Duck) -> bool:
    """Whether any text is empty, so that Parquet would lose it."""
    with duck.reading() as connection:
        for name in _ROWS:
            empty = " OR ".join(f"\"{column}\" = ''" for column in _texts(_columns(name)))
            if empty and connection.execute(f"SELECT 1 FROM ({_select(name)}) WHERE {empty} LIMIT 1").fetchone():  # noqa: S608
                return True
    return False


def import_arguments(files: list[BulkFile], database: str, own: bool = True) -> list[str]:
    """Arguments of `neo4j-admin` that import the files into a database that is replaced.

    The numbers of the nodes become those of the store, unless it is not our `own` and may be of another format.
    """
    return [
        "database",
        "import",
        "full",
        database,
        "--overwrite-destination",
        "--multiline-fields=true" if any(file.header for file in files) else "--input-type=parquet",
        "--normalize-types=false",
        f"--id-type={'actual' if own else 'integer'}",
        *(file.option for file in files),
    ]


def _number(connection: duckdb.DuckDBPyConnection, label: str, begin: int) -> None:
    """Number the nodes of a label from `begin`, in a table that a file's rows are joined with.

    One row per node (key, number); of what belongs to a graph one per graph (number of its first node).
    """
    key = LABEL_OF[label].key
    if label in _OF_A_GRAPH:
        rows = f"""SELECT gid AS key, {begin} + CAST(sum(count(*)) OVER (ORDER BY gid) - count(*) AS BIGINT) AS number
                   FROM {label.lower()} GROUP BY gid"""  # noqa: S608
    else:
        rows = f"""SELECT {key} AS key, {begin} - 1 + row_number() OVER (ORDER BY {key}) AS number
                   FROM ({_select(label)})"""  # noqa: S608
    connection.execute(f'CREATE TEMP TABLE "{_numbers(label)}" AS {rows}')


def _nodes(label: str) -> str:
    join, number = _find(label, LABEL_OF[label].key)
    return f'SELECT {number} AS "{_NUMBER}", r.* FROM ({_select(label)}) AS r {join}'  # noqa: S608


def _relationships(name: str) -> str:
    declared = RELATIONSHIP_OF[name]
    from_source, source = _find(declared.source, "source")
    from_target, target = _find(declared.target, "target")
    return f"""SELECT {source} AS "{_ENDS[0]}", {target} AS "{_ENDS[1]}", r.*
               FROM ({_select(name)}) AS r {from_source} {from_target}"""  # noqa: S608


def _find(label: str, key: str) -> tuple[str, str]:
    """(a join, an expression) that give the number of the node of a label whose key is a column of the rows `r`."""
    table, at = f'"{_numbers(label)}"', f"{key}_of"
    if label in _OF_A_GRAPH:
        return f"JOIN {table} AS {at} ON {at}.key = r.{key} >> 24", f"{at}.number + (r.{key} & 16777215)"
    return f"JOIN {table} AS {at} ON {at}.key = r.{key}", f"{at}.number"


def _numbers(label: str) -> str:
    return f"{label} numbers"


def _select(name: str) -> str:
    rows = _ROWS[name]
    return rows if rows.startswith("SELECT") else f"SELECT * {rows}"


def _write(connection: duckdb.DuckDBPyConnection, name: str, rows: str, folder: Path, form: Form) -> BulkFile:
    columns = _columns(name)
    selected = ", ".join(_cast(column, p) for column, p in columns.items())
    select = f"SELECT {selected} FROM ({rows})"  # noqa: S608
    path = folder / f"{name}.{form}"
    target = str(path).replace("'", "''")
    options = _csv_options(columns) if form == "csv" else "FORMAT parquet, COMPRESSION uncompressed"
    result = connection.execute(f"COPY ({select}) TO '{target}' ({options})")
    file = BulkFile(name, path, int((result.fetchone() or (0,))[0]))
    if file.header is not None:
        types = [row[1] for row in connection.execute(f"DESCRIBE {select}").fetchall()]
        fields = [_field(column, type) for column, type in zip(columns, types, strict=True)]
        file.header.write_text(",".join(fields) + "\n")
    return file


def _csv_options(columns: dict[str, Property]) -> str:
    texts = ", ".join(f'"{column}"' for column in _texts(columns))
    return "FORMAT csv, HEADER false, NULLSTR ''" + (f", FORCE_QUOTE ({texts})" if texts else "")


def _columns(name: str) -> dict[str, Property]:
    """Column of the file -> what it holds; first the numbers of the node, or of the ends of the relationship."""
    numbers = (_NUMBER,) if name in LABEL_OF else _ENDS
    declared = LABEL_OF[name].properties if name in LABEL_OF else RELATIONSHIP_OF[name].properties
    return {**{column: Property(column, "INTEGER", "") for column in numbers}, **{p.name: p for p in declared}}


def _texts(columns: dict[str, Property]) -> list[str]:
    return [column for column, p in columns.items() if p.type == "STRING"]


def _cast(column: str, p: Property) -> str:
    """A column as Neo4j has it; FLOAT stays as wide as it is stored."""
    return f'"{column}"' if p.type == "FLOAT" else f'CAST("{column}" AS {_SQL[p.type]}) AS "{column}"'


def _field(column: str, type: str) -> str:
    """A column's entry in the header of a CSV."""
    return column if column.startswith(":") else f"{column}:{_TYPES[type]}"
