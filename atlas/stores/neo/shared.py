"""What graphs share in Neo4j, brought in line with DuckDB once per load run, by difference; and the stamp that says so.

That is: labels of features, thumbnails of pictures, texts of tokens, models of sets; near-duplicates; and what people
and interventions noted (supernodes, pins, evidence). Rows about a feature that no graph keeps wait until one does.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from atlas.stores.neo.connection import Neo
from atlas.stores.neo.graphs import LOADED
from atlas.stores.neo.identity import Holder, changing, mine, put_on_stamp
from atlas.stores.neo.migrate import migrations
from atlas.stores.neo.read import held, held_values
from atlas.stores.neo.rows import columns, declared
from atlas.stores.neo.texts import (
    LABEL_OF,
    create_nodes,
    delete_nodes,
    link,
    set_properties,
    set_property,
    unlink,
)

_TRANSACTION_ROWS = 50_000
_KEPT = "(SELECT fid FROM node)"
TAKEN_FROM_FIRST = {
    ("Feature", "label"): f"SELECT fid, label FROM feature WHERE label IS NOT NULL AND fid IN {_KEPT}",  # noqa: S608
    ("Image", "thumbnail"): "SELECT sha, thumbnail FROM image WHERE thumbnail IS NOT NULL",
    ("FeatureSet", "model"): "SELECT set_number, model FROM feature_set",
    ("Token", "text"): """SELECT g.model || ':' || n.index, arg_min(n.text, n.nid) FROM node n JOIN graph g USING (gid)
                          WHERE n.kind = 'logit' AND n.probability IS NOT NULL AND n.text IS NOT NULL GROUP BY ALL""",
}
"""(Label, property) of shared nodes that several graphs may say -> key and value, as a question to DuckDB."""
NOTES = {"Supernode": "FROM supernode", "Evidence": "FROM evidence"}
"""Labels of what people and interventions noted -> their nodes, as a question to DuckDB."""
LINKS = {
    "NEAR_DUP": f"""SELECT fid_a AS source, fid_b AS target, cosine, threshold FROM near_duplicate
                    WHERE fid_a IN {_KEPT} AND fid_b IN {_KEPT}""",  # noqa: S608
    "HAS": f"SELECT sid AS source, fid AS target FROM supernode_feature WHERE fid IN {_KEPT}",  # noqa: S608
    "PINS": "SELECT p.gid AS source, p.nid AS target FROM pin p SEMI JOIN node n USING (nid)",
    "EVIDENCE_OF": "SELECT eid AS source, gid AS target FROM evidence SEMI JOIN graph USING (gid)",
    "OF_SOURCE": "SELECT eid AS source, source AS target FROM evidence WHERE source IN (SELECT nid FROM node)",
    "ON_TARGET": "SELECT eid AS source, target FROM evidence WHERE target IN (SELECT nid FROM node)",
    "OF_SUPERNODE": "SELECT eid AS source, sid AS target FROM evidence SEMI JOIN supernode USING (sid)",
}
"""Relationship types between shared nodes, or made by notes -> their rows, as a question to DuckDB."""
_GRAPHS = """SELECT g.gid, coalesce(p.checksum, '') AS checksum FROM graph g
LEFT JOIN projection p ON p.gid = g.gid AND p.store = 'duckdb'"""
_STAMP = """SELECT string_agg(part || '=' || n || '/' || coalesce(h, 0), ' ' ORDER BY part) AS stamp FROM (
SELECT 'graphs' AS part, count(*) AS n, bit_xor(hash(gid, checksum)) AS h FROM projection
WHERE store = 'duckdb'
UNION ALL SELECT 'labels', count(*), bit_xor(hash(fid, label)) FROM feature WHERE label IS NOT NULL
UNION ALL SELECT 'pairs', count(*), bit_xor(hash(fid_a, fid_b, cosine, threshold)) FROM near_duplicate
UNION ALL SELECT 'supernodes', count(*), bit_xor(hash(s)) FROM supernode s
UNION ALL SELECT 'members', count(*), bit_xor(hash(s)) FROM supernode_feature s
UNION ALL SELECT 'pins', count(*), bit_xor(hash(p)) FROM pin p
UNION ALL SELECT 'evidence', count(*), bit_xor(hash(e)) FROM evidence e)"""


class Tables(Protocol):
    """Whoever answers questions about the tables of the DuckDB store."""

    def arrow(self, sql: str) -> pa.Table: ...


@dataclass(frozen=True)
class _Change:
    """Rows for one text."""

    text: str
    rows: pa.Table


def sync_shared(neo: Neo, identity: str, duck: Tables) -> int:
    """Write what differs, and put the stamp on if all graphs are there too; how many rows differed.

    Raises StoreError.
    """
    stamp = stamp_of(duck)
    found = mine(neo, identity)
    if found is not None and found.stamp == stamp:
        return 0
    changed = 0
    for changes in _transactions(_differences(neo, duck)):
        with changing(neo, identity) as transaction:
            for change in changes:
                transaction.run(change.text, columns(change.rows))
                changed += len(change.rows)
    stamp_if_all_there(neo, identity, duck, stamp)
    return changed


def stamp_if_all_there(neo: Neo, identity: str, duck: Tables, stamp: str) -> None:
    """Put the stamp of what was written on if all graphs are there. Raises StoreError."""
    graphs = {row["gid"]: row["checksum"] for row in duck.arrow(_GRAPHS).to_pylist()}
    if graphs == {row["gid"]: row["checksum"] for row in neo.rows(LOADED)}:
        put_on_stamp(neo, identity, stamp)


def complete(neo: Neo, duck: Tables, identity: str) -> bool:
    """Whether Neo4j holds all of this atlas that belongs there; False while a load is on its way or was broken off.

    Raises StoreError if the database holds another atlas. One row of each store is read.
    """
    return whole(neo, duck, identity) is not None


def whole(neo: Neo, duck: Tables, identity: str) -> Holder | None:
    """What a database says that is complete, else None: an answer is over whole graphs if it says so afterwards too.

    Raises StoreError if the database holds another atlas.
    """
    found = mine(neo, identity)
    return found if found is not None and found.stamp == stamp_of(duck) else None


def stamp_of(duck: Tables) -> str:
    """A text that changes with anything that belongs into Neo4j: the schema's number, then counts and hashes."""
    return f"schema={migrations()[-1].number} {duck.arrow(_STAMP)['stamp'][0].as_py()}"


def shared_differences(neo: Neo, duck: Tables) -> Iterator[tuple[str, str]]:
    """(label or type, what differs) between Neo4j and DuckDB, of all that `sync_shared` writes."""
    for name, sql in {**NOTES, **LINKS}.items():
        missing, extra = _compare(_wanted(duck, name, sql), held(neo, name))
        if missing or extra:
            example = min(extra or missing, key=str)
            yield name, f"{len(missing)} are missing and {len(extra)} are too many or other (first: {example})"
    for (label, name), sql in TAKEN_FROM_FIRST.items():
        values, found, differ = _values(neo, duck, label, name, sql)
        if differ:
            key = min(differ, key=str)
            yield label, f"{name} of {key}: {found.get(key)!r}, expected {values.get(key)!r}"


def _differences(neo: Neo, duck: Tables) -> Iterator[_Change]:
    """What to write, deletions of relationships first: nodes that go take theirs along."""
    links = {type: _wanted(duck, type, sql) for type, sql in LINKS.items()}
    for type, wanted in links.items():
        missing, extra = _compare(wanted, held(neo, type))
        changed = {row[:2] for row in missing} | {row[:2] for row in extra}
        yield _Change(unlink(type), _pairs({row[:2] for row in extra}))
        links[type] = _where(wanted, [key in changed for key in zip(*_lists(wanted.select(["source", "target"])))])
    for label, sql in NOTES.items():
        wanted, key = _wanted(duck, label, sql), LABEL_OF[label].key
        missing, extra = _compare(wanted, held(neo, label))
        at = wanted.column_names.index(key)
        known, new = {row[at] for row in extra}, {row[at] for row in missing}
        keys = wanted[key].to_pylist()
        gone = pa.array(sorted(known - set(keys), key=str), wanted.schema.field(key).type)
        yield _Change(delete_nodes(label), pa.table({key: gone}))
        yield _Change(create_nodes(label), _where(wanted, [name in new - known for name in keys]))
        yield _Change(set_properties(label), _where(wanted, [name in new & known for name in keys]))
    for (label, name), sql in TAKEN_FROM_FIRST.items():
        values, _, differ = _values(neo, duck, label, name, sql)
        mended = {"key": differ, "value": [values.get(key) for key in differ]}
        yield _Change(set_property(label, name), pa.table(mended))
    for type, rows in links.items():
        yield _Change(link(type), rows)


def _wanted(duck: Tables, name: str, sql: str) -> pa.Table:
    return declared(name, duck.arrow(sql)).combine_chunks()


def _values(
    neo: Neo, duck: Tables, label: str, name: str, sql: str
) -> tuple[dict[object, object], dict[object, object], list[object]]:
    """(wanted, held) values of a property by key, and the keys at which they differ."""
    wanted, found = dict(zip(*_lists(duck.arrow(sql)))), held_values(neo, label, name)
    return wanted, found, [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]


def _compare(wanted: pa.Table, found: pa.Table) -> tuple[set[tuple[object, ...]], set[tuple[object, ...]]]:
    """(rows to write, rows held that should not be there); a row held twice is in both."""
    rows = set(zip(*_lists(wanted)))
    counts = Counter(zip(*_lists(found)))
    double = {row for row, count in counts.items() if count > 1}
    return (rows - counts.keys()) | (rows & double), (counts.keys() - rows) | double


def _where(table: pa.Table, mask: list[bool]) -> pa.Table:
    return table.filter(pa.array(mask, pa.bool_()))


def _lists(table: pa.Table) -> list[list[object]]:
    return [column.to_pylist() for column in table.columns]


def _pairs(keys: set[tuple[object, ...]]) -> pa.Table:
    ordered = sorted(keys, key=str)
    return pa.table({"source": [key[0] for key in ordered], "target": [key[1] for key in ordered]})


def _transactions(changes: Iterator[_Change]) -> Iterator[list[_Change]]:
    """Changes cut and joined to what one transaction takes; all in one unless there are very many."""
    together: list[_Change] = []
    rows = 0
    for change in changes:
        for start in range(0, len(change.rows), _TRANSACTION_ROWS):
            part = change.rows.slice(start, _TRANSACTION_ROWS)
            if rows and rows + len(part) > _TRANSACTION_ROWS:
                yield together
                together, rows = [], 0
            together.append(_Change(change.text, part))
            rows += len(part)
    if together:
        yield together
