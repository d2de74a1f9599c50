"""Start a Neo4j server for a home, find it again, stop it.

    start(home)      a server that answers: the one that runs, or a new one; two starts at once agree on one
    running(home)    the one that runs, if any: what every later command asks
    stop(home)       end it cleanly

It binds to loopback only, on a port that the kernel chose and that is tried first the next time, and survives the
command that started it. What it was is kept in HOME/neo4j/server.json, with a mark that no other process has.
"""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from atlas.artefact.aside import replace_file
from atlas.config import Home
from atlas.errors import ServerError, StoreAwayError
from atlas.stores.gate import LockFile
from atlas.stores.local_neo4j import NEWEST
from atlas.stores.local_neo4j.jars import Watch
from atlas.stores.local_neo4j.java import is_calendar, java_command
from atlas.stores.local_neo4j.layout import (
    LOOPBACK,
    folder,
    mark_up,
    prepare_login,
    read_password,
    write_configuration,
)
from atlas.stores.local_neo4j.memory import Memory, default_memory
from atlas.stores.local_neo4j.process import birth, end, lives
from atlas.stores.neo.address import DEFAULT_USER, Address
from atlas.stores.neo.exchange import finish_exchange

START_SECONDS = 180.0
"""How long a server may take to answer."""
STOP_SECONDS = 60.0
"""How long it may take to end before it is killed."""
_POLL_SECONDS = 0.1
_OPTIONS = ("JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS")
_TELLING = (
    "rror",
    "ERROR",
    "xception",
    "Caused by",
    "in use",
    "nvalid",
    "ould not",
    "annot",
    "Unrecog",
    "Unmatched",
    "Missing",
)


@dataclass(frozen=True)
class Server:
    """A local server: one that runs, or the one that ran last."""

    version: str
    """Of Neo4j."""
    bolt: int
    """Port of the Bolt protocol, on loopback."""
    http: int | None
    """Port of the Browser page on loopback, or None."""
    pid: int
    mark: str
    """Tells the process from a later one of the same pid."""
    started: str
    """Time of the start, ISO 8601 in UTC."""

    @property
    def uri(self) -> str:
        return f"bolt://{LOOPBACK}:{self.bolt}"

    @property
    def lives(self) -> bool:
        """Whether its process still runs."""
        return lives(self.pid, self.mark)

    @property
    def browser(self) -> str | None:
        """Address of the Browser page."""
        return None if self.http is None else f"http://{LOOPBACK}:{self.http}/browser/"

    def address(self, home: Home) -> Address:
        """How to log in to it. Raises ServerError if the password is gone."""
        return Address(self.uri, DEFAULT_USER, read_password(home), "atlas neo4j start")


def last_server(home: Home) -> Server | None:
    """The server that runs or ran last in this home."""
    try:
        return Server(**json.loads(state_file(home).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def running(home: Home) -> Server | None:
    """The server of this home that runs."""
    server = last_server(home)
    return server if server is not None and server.lives else None


def start(
    home: Home,
    version: str | None = None,
    port: int | None = None,
    browser: bool = False,
    memory: Memory | None = None,
    watch: Watch | None = None,
) -> Server:
    """A server of this home that answers, started if none runs. Raises ServerError, StoreBusyError.

    `version` is by default that of the last start, so that its data fit; `port` is a wish that must be met, else the
    last one is taken if it is free, or any other.
    """
    with alone(home, START_SECONDS):
        server = running(home)
        if server is None or not _answers(home, server):  # one that was just killed looks alive for a moment
            server = _launch(home, version, port, browser, memory or default_memory(), watch)
            if not _answers(home, server):
                raise ServerError(
                    f"the server ended while it started: {_telling(home, server.started)}", "it to come up", _see(home)
                )
        mark_up(home)
        return server


def stop(home: Home) -> bool | None:
    """End the server: None if none ran, else whether it had to be killed. Raises StoreBusyError."""
    if not home.neo4j.exists():
        return None
    with alone(home, START_SECONDS + STOP_SECONDS):
        server = running(home)
        return None if server is None else end(server.pid, server.mark, STOP_SECONDS)


def state_file(home: Home) -> Path:
    """Where the server is written down."""
    return home.neo4j / "server.json"


def telling(output: str) -> str:
    """The last lines of an output that say why something failed, on one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    chosen = [line for line in lines if any(word in line for word in _TELLING)] or lines
    return " | ".join(line[:240] for line in (lines if len(lines) <= 3 else chosen)[-3:]) or "it said nothing"


@contextmanager
def alone(home: Home, wait: float) -> Iterator[None]:
    """Be the only one who starts or stops the server of this home. Raises StoreBusyError, ServerError."""
    try:
        lock = LockFile(folder(home) / "lock").hold(True, wait, f"the local server of {home.root}")
        with lock:
            yield
    except OSError as error:
        raise ServerError(
            f"{error.filename or home.neo4j} cannot be written ({error.strerror})",
            "a home that may be written",
            "Name another with --home DIR",
        ) from error


def _launch(
    home: Home, version: str | None, port: int | None, browser: bool, memory: Memory, watch: Watch | None
) -> Server:
    last = last_server(home)
    version = version or (last.version if last else NEWEST)
    _check_version(home, version, last)
    limits = [f"-Xmx{memory.heap_mb}m", "-XX:+ExitOnOutOfMemoryError", *collector()]
    command = java_command(version, limits, watch, browser)
    bolt = _port(port, last.bolt if last else None)
    http = _port(None, last.http if last else None, taken=bolt) if browser else None
    finish_exchange(home)
    prepare_login(home)
    conf = write_configuration(home, version, bolt, http, memory.page_cache_mb)
    main = "org.neo4j.server.Neo4jCommunity" if is_calendar(version) else "org.neo4j.server.CommunityEntryPoint"
    process = _detached([*command, main, f"--home-dir={home.neo4j}", f"--config-dir={conf}"], home)
    server = Server(version, bolt, http, process.pid, birth(process.pid) or "", _now())
    replace_file(home, state_file(home), json.dumps(asdict(server), indent=1).encode())
    return server


def collector() -> list[str]:
    """The collector that loads most edges a second (docs/benchmarks.md), unless one is asked for: two end a Java."""
    asked = " ".join(os.environ.get(name, "") for name in _OPTIONS)
    return [] if re.search(r"-XX:\+Use\w+GC", asked) else ["-XX:+UseParallelGC"]


def _detached(command: list[str], home: Home) -> "subprocess.Popen[bytes]":
    """A process that outlives this one and its terminal; what it says goes to logs/console.log."""
    (home.neo4j / "logs").mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NEO4J_")}
    with _console(home).open("wb") as console:
        return subprocess.Popen(
            command,
            cwd=home.neo4j,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _answers(home: Home, server: Server) -> bool:
    """Wait until a server answers; False if it ends before. Raises ServerError if it takes too long."""
    from atlas.stores.neo.connection import Neo

    address = server.address(home)
    limit = time.monotonic() + START_SECONDS
    while server.lives:
        if _listens(server.bolt):
            try:
                with Neo(address) as neo:
                    neo.rows("RETURN 1")
                return True
            except StoreAwayError:
                pass  # it listens before it serves
        if time.monotonic() > limit:
            end(server.pid, server.mark, STOP_SECONDS)
            raise ServerError(
                f"the server did not answer within {START_SECONDS:g} s and was stopped", "a few seconds", _see(home)
            )
        time.sleep(_POLL_SECONDS)
    return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _port(wanted: int | None, last: int | None, taken: int | None = None) -> int:
    """The port wanted, else the last one if it is free, else one that the kernel gives. Raises ServerError."""
    for number in [wanted] if wanted else [last or 0, 0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, number))
            except OSError as error:
                reason = error.strerror
                continue
            found = int(probe.getsockname()[1])
            if found != taken:
                return found
    raise ServerError(f"port {wanted} cannot be used ({reason})", "a free one", "Name another, or leave --port out")


def _check_version(home: Home, version: str, last: Server | None) -> None:
    """Data of a newer Neo4j cannot be opened by an older one."""
    try:
        numbers = tuple(int(part) for part in version.split("."))
    except ValueError:
        raise ServerError(f"{version!r} is no version of Neo4j", f"a version such as {NEWEST}") from None
    if last is not None and numbers < tuple(int(part) for part in last.version.split(".")):
        raise ServerError(
            f"the data in {home.neo4j} were written by Neo4j {last.version}",
            f"that version or a newer one, not {version}",
            f"Remove {home.neo4j}, start again and run `atlas load`: the artefacts are the truth",
        )


def _console(home: Home) -> Path:
    return home.neo4j / "logs" / "console.log"


def _telling(home: Home, since: str) -> str:
    """What the server itself says about why it ended; its log goes on from start to start, the console's does not."""
    log = home.neo4j / "logs" / "neo4j.log"
    lines = _console(home).read_text(errors="replace").splitlines()
    if log.exists():
        begin = since[:19].replace("T", " ")
        lines += [line for line in log.read_text(errors="replace").splitlines() if line[:19] >= begin]
    return telling("\n".join(lines))


def _see(home: Home) -> str:
    return f"See {home.neo4j / 'logs'}"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
