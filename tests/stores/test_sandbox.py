"""Free SQL reads the atlas's tables and nothing else: whatever tries more is a QuestionError with a reason."""

import time
from pathlib import Path

import pyarrow as pa
import pytest

from atlas.artefact.write import write_circuit
from atlas.config import Home, open_home
from atlas.errors import QuestionError
from atlas.stores.duck import Duck
from atlas.stores.sandbox import free_sql
from ingest.load import load
from tests.factory import make_circuit


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = open_home(tmp_path_factory.mktemp("sandbox") / "home", create=True)
    for seed in range(2):
        write_circuit(home, make_circuit(seed, n_features=20))
    load(home)
    return home


ALLOWED = [
    "SELECT gid, slug FROM graph ORDER BY gid",
    "FROM node LIMIT 5",
    "WITH a AS (SELECT 1 AS x) SELECT * FROM a",
    "SELECT n.kind, count(*) FROM node n JOIN edge e ON e.source = n.nid GROUP BY ALL;",
    "VALUES (1), (2)",
    "SELECT * FROM range(3)",
    "SELECT unnest([1, 2])",
    "DESCRIBE node",
    "SHOW TABLES",
    "SUMMARIZE graph",
    "SELECT * FROM generate_series(1, 3) AS t(n), LATERAL (SELECT n + 1)",
    "SELECT 1 UNION ALL SELECT 2",
    "-- a remark\nSELECT 'DROP TABLE graph; COPY' AS text",
    "SELECT * FROM information_schema.columns LIMIT 1",
    "SELECT json_extract(identity, '$.model') FROM graph",
    "SELECT * FROM (FROM graph) PIVOT (count(*) FOR partial IN (true, false) GROUP BY task)",
]


@pytest.mark.parametrize("text", ALLOWED)
def test_what_reads_the_tables_runs(home: Home, text: str) -> None:
    assert free_sql(home, text).table.num_rows > 0


REFUSED = [
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_csv_auto('{file}')",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_json('{file}')",
    "SELECT * FROM read_parquet('{parquet}')",
    "SELECT * FROM parquet_scan('{parquet}')",
    "SELECT * FROM parquet_metadata('{parquet}')",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM '{parquet}'",
    'SELECT * FROM "{file}"',
    "WITH x AS (SELECT * FROM read_text('{file}')) SELECT * FROM x",
    "SELECT (SELECT content FROM read_text('{file}'))",
    "SELECT * FROM graph, LATERAL (SELECT * FROM glob('/*'))",
    "SELECT * FROM (DESCRIBE (SELECT * FROM read_text('{file}')))",
    "SUMMARIZE (FROM read_text('{file}'))",
    "SELECT * FROM read_text(['{file}'])",
    "SELECT * FROM query('SELECT * FROM read_text(''{file}'')')",
    "SELECT * FROM query_table('{file}')",
    "SELECT getenv('HOME')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM enable_logging('QueryLog')",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{folder}/log')",
    "CALL enable_logging('QueryLog')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM force_checkpoint()",
    "COPY graph TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY graph FROM '{file}'",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}'",
    "ATTACH '{folder}/new.db'",
    "ATTACH ':memory:' AS m",
    "DETACH atlas",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL json",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET memory_limit = '100GB'",
    "RESET memory_limit",
    "SET VARIABLE x = 1",
    "PRAGMA database_list",
    "PRAGMA memory_limit = '100GB'",
    "PRAGMA enable_profiling",
    "INSERT INTO graph SELECT * FROM graph",
    "UPDATE graph SET slug = 'x'",
    "DELETE FROM graph",
    "DROP TABLE graph",
    "TRUNCATE graph",
    "ALTER TABLE graph ADD COLUMN x INTEGER",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE MACRO f(a) AS a",
    "CREATE SECRET (TYPE s3)",
    "CREATE TYPE mood AS ENUM ('a')",
    "CREATE TABLE memory.main.x AS SELECT 1",
    "CREATE SCHEMA s",
    "COMMENT ON TABLE graph IS 'x'",
    "SELECT 1; DROP TABLE graph",
    "SELECT 1; SELECT 2",
    "DROP TABLE graph; --",
    "BEGIN",
    "COMMIT",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "ANALYZE",
    "EXPLAIN ANALYZE DELETE FROM graph",
    "INSERT INTO graph SELECT * FROM read_csv('{file}')",
    "MERGE INTO graph USING graph AS g ON true WHEN MATCHED THEN DELETE",
    "SELECT * FROM secret_frame",
    "SELECT * FROM nothing",
    "SELECT",
    "SELEC 1",
    "",
    ";",
    "-- only a remark",
    "\x00",
    "SELECT * FROM sqlite_scan('{file}', 't')",
    "SELECT * FROM 'https://example.org/x.parquet'",
    "SELECT 1/'a'",
    "SELECT $1",
]


@pytest.mark.parametrize("text", REFUSED)
def test_whatever_else_is_refused_with_a_reason(home: Home, tmp_path: Path, text: str) -> None:
    secret_frame = pa.table({"a": [1]})  # a Python variable is no table either
    import pyarrow.parquet as pq

    (tmp_path / "secret.csv").write_text("user,password\nroot,x\n")
    pq.write_table(secret_frame, tmp_path / "secret.parquet")
    before = {path.name for path in tmp_path.iterdir()}
    names = {"file": tmp_path / "secret.csv", "parquet": tmp_path / "secret.parquet", "folder": tmp_path}
    for name, path in names.items():
        text = text.replace("{" + name + "}", str(path))
    with pytest.raises(QuestionError) as caught:
        free_sql(home, text)
    assert caught.value.found and caught.value.expected and caught.value.do
    assert {path.name for path in tmp_path.iterdir()} == before, "and nothing is written"
    assert free_sql(home, "SELECT count(*) AS n FROM graph").table["n"].to_pylist() == [2]


def test_columns_of_one_name_are_told_apart(home: Home) -> None:
    rows = free_sql(home, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a, 5 AS b").table
    assert rows.to_pylist() == [{"a": 1, "a_3": 2, "a_2": 3, "a_4": 4, "b": 5}]


def test_rows_beyond_the_limit_are_said_to_be_there(home: Home) -> None:
    assert free_sql(home, "SELECT * FROM range(1000000000)", row_limit=10).truncated
    answer = free_sql(home, "SELECT * FROM range(10)", row_limit=10)
    assert answer.table.num_rows == 10 and not answer.truncated
    assert free_sql(home, "SELECT * FROM range(5000)", row_limit=4000).table.num_rows == 4000
    assert free_sql(home, "SELECT 1 WHERE false").table.num_rows == 0


def test_a_question_without_end_is_stopped(home: Home) -> None:
    begin = time.monotonic()
    with pytest.raises(QuestionError, match=r"ran longer than 0\.4 s"):
        free_sql(home, "SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c", seconds=0.4)
    assert time.monotonic() - begin < 10


def test_a_recursion_without_end_is_stopped(home: Home) -> None:
    with pytest.raises(QuestionError, match=r"longer than|memory"):
        free_sql(
            home, "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r", seconds=0.4
        )


def test_memory_has_a_limit(home: Home) -> None:
    with pytest.raises(QuestionError, match=r"memory|longer"):
        free_sql(home, "SELECT list(repeat('x', 20000) || a.range) FROM range(100000000) a", seconds=20)


def test_a_question_leaves_other_readers_alone(home: Home) -> None:
    with Duck(home).reading() as connection:
        free_sql(home, "FROM graph")
        with pytest.raises(QuestionError):
            free_sql(home, "SET threads = 1")
        connection.execute("SET threads = 2")
        assert connection.execute("SELECT count(*) FROM graph").fetchall() == [(2,)]
