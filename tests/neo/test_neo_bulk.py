"""The import tool gives the database that the driver gives, and a kill leaves the old one or the new one."""

import csv
import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from atlas.cli import cli
from atlas.config import Home, open_home
from atlas.errors import ServerError, StoreError
from atlas.stores.duck import Duck
from atlas.stores.local_neo4j import admin as tool
from atlas.stores.local_neo4j.server import Server, running, stop
from atlas.stores.neo.address import Address
from atlas.stores.neo.bulk import holds_empty_text, write_files
from atlas.stores.neo.connection import Neo
from atlas.stores.neo.exchange import begin_exchange, commit_exchange, finish_exchange, import_folder
from atlas.stores.neo.shared import complete
from ingest.bulk import bulk
from ingest.load import delete, load
from ingest.verify import verify
from tests.factory import make_circuit
from tests.neo.neo_state import neo_state
from tests.neo.test_neo_load import filled, odd, world
from tests.neo4j_servers import SMALL, need_newest


def test_an_import_equals_a_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_newest()
    monkeypatch.setattr("atlas.stores.local_neo4j.server.default_memory", lambda: SMALL)
    monkeypatch.setattr(tool, "default_memory", lambda: SMALL)
    other = make_circuit(8)
    texts = np.array([odd(at, text) or None for at, text in enumerate(other.nodes.text)], dtype=object)
    never_empty = dataclasses.replace(other, nodes=dataclasses.replace(other.nodes, text=texts))
    home = filled(tmp_path / "home", None, [*world(), never_empty])
    try:
        report = bulk(home)
        assert holds_empty_text(Duck(home)), "so that was CSV"
        assert report.graphs == 9 and report.edges > 1_000 and "9 graphs" in str(report)
        server = running(home)
        assert server is not None and verify(home) == []
        assert not import_folder(home).exists()
        with Neo(server.address(home)) as neo:
            imported = neo_state(neo)
            assert complete(neo, Duck(home), home.identity) and load(home).loaded == 0
            neo.run("MATCH (n) DETACH DELETE n")
            assert load(home).loaded == 9 and neo_state(neo) == imported
            delete(home, world()[6].id)
            assert not holds_empty_text(Duck(home)), "so the next is Parquet"
            after = neo_state(neo)
            neo.run("CREATE (:Mine {x: 1})")
            with pytest.raises(StoreError, match="1 nodes with the label Mine"):
                bulk(home)
            assert running(home) is not None and neo_state(neo) == after, "refused, and nothing was lost"
        with monkeypatch.context() as patched:
            patched.setattr("ingest.bulk.admin", _fail)
            with pytest.raises(ServerError, match="no room"):
                bulk(home, yes=True)
        assert verify(home) == [], "a failed import leaves the old database, and the server runs"
        assert bulk(home, yes=True).graphs == 8
        with Neo(_running(home).address(home)) as neo:
            assert neo_state(neo) == after and neo.rows("MATCH (m:Mine) RETURN m") == []
            neo.run("MATCH (a:Atlas) SET a.id = 'theirs'")
        with pytest.raises(StoreError, match="another atlas"):
            bulk(home, yes=True)
    finally:
        stop(home)


def _fail(home: Home, arguments: list[str]) -> None:
    raise ServerError("neo4j-admin database import full failed: no room", "it to end with 0")


def _running(home: Home) -> Server:
    server = running(home)
    assert server is not None
    return server


def test_every_text_is_quoted_and_what_is_missing_is_not(tmp_path: Path) -> None:
    home = filled(tmp_path / "home", None)
    load(home)
    files = {file.name: file for file in write_files(Duck(home), home.identity, tmp_path, "csv")}
    node = files["Node"]
    texts = [row[8] for row in csv.reader(node.path.open(newline=""), strict=True)]
    stored = Duck(home).arrow("SELECT text FROM node")["text"].to_pylist()
    assert sorted(texts) == sorted(text or "" for text in stored) and len(texts) == node.rows
    assert node.header is not None and node.header.read_text().startswith(":ID,nid:long,gid:long,fid:long,kind:string,")
    raw = node.path.read_text()
    assert ',"",' in raw and ",,," in raw


def test_only_the_files(tmp_path: Path) -> None:
    home = filled(tmp_path / "home", None, [make_circuit(1)])
    done = CliRunner().invoke(cli, ["neo4j", "bulk", "--home", str(home.root), "--csv", str(tmp_path / "csv")])
    assert done.exit_code == 0, done.output
    line = done.stdout.strip()
    assert line.startswith("neo4j-admin database import full neo4j --overwrite-destination")
    assert f"--relationships=ATTR={tmp_path}/csv/ATTR.header.csv,{tmp_path}/csv/ATTR.csv" in line
    with pytest.raises(StoreError, match="not empty"):
        CliRunner().invoke(
            cli, ["neo4j", "bulk", "--home", str(home.root), "--csv", str(tmp_path / "csv")], catch_exceptions=False
        )


def test_a_server_elsewhere_is_not_touched(tmp_path: Path) -> None:
    home = filled(tmp_path / "home", Address("bolt://127.0.0.1:9", "neo4j", "", "test"), [])
    with pytest.raises(StoreError, match=r"in use is bolt://127.0.0.1:9"):
        bulk(home)


def test_the_exchange_can_be_broken_off_anywhere(tmp_path: Path) -> None:
    """Killed before any of its file operations, the next one finishes it; until it is ready the old database stays."""
    for killed_at in range(40):
        home = _with_databases(tmp_path / str(killed_at))
        begin_exchange(home)
        assert not finish_exchange(home) and _content(home) == ["old", "old"]
        for part in ("databases", "transactions"):
            made = import_folder(home) / "data" / part / "neo4j"
            made.mkdir(parents=True)
            (made / "file").write_text("new")
        killed = _killed_at(killed_at, home)
        finish_exchange(home)
        assert _content(home) == ["new", "new"], killed_at
        if not killed:
            break
    assert 8 <= killed_at < 39


def _killed_at(operation: int, home: Home) -> bool:
    """Commit in a child that ends before its n-th operation on files; whether it ended early."""
    child = os.fork()
    if child == 0:
        calls = 0

        def watch(event: str, arguments: object) -> None:
            nonlocal calls
            if event in {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}:
                calls += 1
                if calls > operation:
                    os._exit(9)

        sys.addaudithook(watch)
        commit_exchange(home)
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def _with_databases(root: Path) -> Home:
    home = open_home(root, create=True)
    for part in ("databases", "transactions"):
        place = home.neo4j / "data" / part / "neo4j"
        place.mkdir(parents=True)
        (place / "file").write_text("old")
    return home


def _content(home: Home) -> list[str]:
    return [(home.neo4j / "data" / part / "neo4j" / "file").read_text() for part in ("databases", "transactions")]
