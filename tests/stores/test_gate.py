"""The gate: readers together, a writer alone, and a writer's turn comes however many readers there are."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import pytest
import sqlalchemy as sa

from atlas.config import Home, open_home
from atlas.errors import StoreBusyError, StoreError
from atlas.stores.duck import Duck
from atlas.stores.gate import LockFile

_READERS = """
import os, sys, time
from pathlib import Path
from atlas.config import Home
from atlas.stores.duck import Duck
pipes = []
for _ in range(8):  # eight processes; forked, because imports are dear
    out, into = os.pipe()
    if os.fork() == 0:
        duck, n, end = Duck(Home(Path(sys.argv[1]))), 0, time.monotonic() + float(sys.argv[2])
        while time.monotonic() < end:
            n += duck.arrow("SELECT count(*) AS n FROM feature_set").num_rows
        os.write(into, str(n).encode())
        os._exit(0)
    pipes.append(out)
print("reading", flush=True)
print(*(os.read(out, 100).decode() for out in pipes))
"""
_HOLDER = """
import sys
from pathlib import Path
from atlas.config import Home
from atlas.stores.duck import Duck
duck = Duck(Home(Path(sys.argv[1])))
with (duck.writing() if sys.argv[2] == "write" else duck.reading()):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = open_home(tmp_path / "home", create=True)
    with Duck(home).writing():
        pass
    return home


def start(code: str, home: Home, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(home.root), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_eight_readers_in_a_loop_do_not_starve_a_writer(home: Home) -> None:
    seconds = 3.0
    readers = start(_READERS, home, str(seconds + 0.5))
    time.sleep(0.25)
    duck, waits = Duck(home), []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        with duck.writing() as connection:
            waits.append(time.monotonic() - begin)
            connection.execute(sa.text("INSERT INTO feature_set VALUES (:n, 'set', 'model')"), {"n": len(waits)})
        time.sleep(0.01)  # a loader reads its next graphs now
    reads = [int(count) for count in readers.communicate()[0].split()]
    print(f"writes={len(waits)} longest_wait={max(waits):.2f}s reads={sum(reads)}")
    assert len(waits) >= 3, f"{len(waits)} writes in {seconds} s beside {sum(reads)} reads"
    assert len(reads) == 8 and all(reads), "and no reader starves either"
    assert duck.arrow("SELECT count(*) AS n FROM feature_set")["n"].to_pylist() == [len(waits)]


def test_readers_read_together(home: Home) -> None:
    holder = start(_HOLDER, home, "read")
    with Duck(home, wait=5).reading() as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    holder.communicate("\n")


@pytest.mark.parametrize("doing", ["write", "read"])
def test_a_writer_that_waits_too_long_is_told_who_holds_the_store(home: Home, doing: str) -> None:
    holder = start(_HOLDER, home, doing)
    begin = time.monotonic()
    with pytest.raises(StoreBusyError, match=f"process {holder.pid} on ") as caught, Duck(home, wait=0.3).writing():
        pass
    assert 0.25 < time.monotonic() - begin < 5 and caught.value.do
    holder.communicate("\n")
    with Duck(home, wait=5).writing():
        pass


def test_a_reader_waits_for_a_writer_and_then_sees_its_rows(home: Home) -> None:
    seen: list[int] = []
    with Duck(home).writing() as connection:
        thread = threading.Thread(target=lambda: seen.append(Duck(home).arrow("FROM feature_set").num_rows))
        thread.start()
        connection.execute(sa.text("INSERT INTO feature_set VALUES (1, 'set', 'model')"))
        time.sleep(0.2)
        assert seen == []
    thread.join(10)
    assert seen == [1]


def test_a_killed_writer_leaves_its_turn_and_no_rows(home: Home) -> None:
    code = _HOLDER.replace("with (duck.writing()", "with (writing_a_row()").replace(
        "duck = Duck",
        """
import contextlib, sqlalchemy as sa
@contextlib.contextmanager
def writing_a_row():
    with duck.writing() as connection:
        connection.execute(sa.text("INSERT INTO feature_set VALUES (1, 'set', 'model')"))
        yield
duck = Duck""",
        1,
    )
    holder = start(code, home, "write")
    holder.kill()
    holder.wait()
    with Duck(home, wait=2).writing() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM feature_set")).scalar_one() == 0


def test_an_error_in_the_block_rolls_back(home: Home) -> None:
    with pytest.raises(ZeroDivisionError), Duck(home).writing() as connection:  # noqa: PT012  # the block is the point
        connection.execute(sa.text("INSERT INTO feature_set VALUES (1, 'set', 'model')"))
        connection.execute(sa.text("CREATE TABLE other (a INTEGER)"))
        _ = 1 // 0
    assert Duck(home).arrow("FROM feature_set").num_rows == 0
    assert "other" not in Duck(home).arrow("SHOW TABLES").column(0).to_pylist()


def test_a_program_outside_the_gate_is_named(home: Home) -> None:
    outside = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"""
import duckdb, sys
c = duckdb.connect({str(home.duckdb)!r})
print("open", flush=True)
sys.stdin.readline()
""",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert outside.stdout is not None
    outside.stdout.readline()
    for use in (Duck(home, wait=0.2).reading, Duck(home, wait=0.2).writing):
        with pytest.raises(StoreBusyError, match=str(outside.pid)), use():
            pass
    outside.communicate("\n")
    assert Duck(home, wait=1).arrow("FROM graph").num_rows == 0


def test_a_file_that_is_no_database_says_what_to_do(home: Home) -> None:
    home.duckdb.write_bytes(b"not a database at all" * 400)
    for use in (Duck(home).reading, Duck(home).writing):
        with pytest.raises(StoreError, match="cannot be opened") as caught, use():
            pass
        assert "atlas rebuild" in caught.value.do


def test_a_reader_sees_what_a_killed_writer_committed_but_did_not_fold_in(home: Home) -> None:
    """The write-ahead log is read along, also by a read-only open."""
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"""
import duckdb, os
c = duckdb.connect({str(home.duckdb)!r})
c.execute("INSERT INTO feature_set VALUES (7, 'set', 'model')")
c.begin()
c.execute("INSERT INTO feature_set VALUES (8, 'set', 'model')")
os.kill(os.getpid(), 9)
""",
        ],
        check=False,
    )
    assert Path(f"{home.duckdb}.wal").exists()
    assert Duck(home).arrow("SELECT set_number FROM feature_set")["set_number"].to_pylist() == [7]


def test_nothing_is_left_open(home: Home) -> None:
    with Duck(home).reading():
        pass
    with Duck(home).writing():
        pass
    with duckdb.connect(str(home.duckdb)) as connection:  # another configuration would be refused in this process
        connection.execute("SELECT 1")


def test_a_lock_file_tells_the_waiting_one_once(tmp_path: Path) -> None:
    lock, told = LockFile(tmp_path / "lock"), []
    busy = pytest.raises(StoreBusyError, match="it is held by process")
    with lock.hold(True, 1, "it"), busy, lock.hold(True, 0.1, "it", told.append):
        pass
    assert len(told) == 1 and "process" in told[0]


def test_a_broken_signature_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("{")
    lock = LockFile(tmp_path / "lock")
    assert lock.holder() == "a process that did not sign"
    with lock.hold(True, 1, "it"):
        assert "process" in lock.holder()


def test_who_may_only_read_still_waits_for_a_writer() -> None:
    """A reader without the right to write the lock file: another user of a shared home."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = folder / "atlas.lock"
    with LockFile(path).hold(True, 1, "the store"):
        path.chmod(0o444)
        child = os.fork()
        if not child:  # in the child: no exceptions may reach pytest
            code = 3
            try:
                if os.getuid() == 0:
                    os.setuid(65534)
                with LockFile(path).hold(False, 0.1, "the store"):
                    code = 1
            except StoreBusyError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    shutil.rmtree(folder)
