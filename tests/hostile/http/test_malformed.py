"""Ten thousand malformed requests, a real server, and good requests beside them.

The seed is printed; `pytest tests/hostile/http --seed N` draws the same again.
"""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from tests.hostile.http.malformed import Malformed, draw
from tests.hostile.http.requests import MAX_BODY, request
from tests.support.engine import eventually, free_port
from tests.unit.api.support import LMS

REQUESTS: Final = 10_000
AT_ONCE: Final = 12
WARM_UP: Final = 1_000
"""Requests after which the server has in memory whatever it will ever need."""
GROWTH_BYTES: Final = 32 * 2**20
"""What is no leak: SQLite's caches fill up, and some answers are still being made. Had the
server kept all that it was sent, it would be ten times as much."""
PATIENCE_S: Final = 120.0

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What the requests are drawn from; printed, so that a failure can be drawn again."""
    # Not known where more than this directory was collected.
    given = request.config.getoption("--seed", default=None)
    chosen = random.SystemRandom().randrange(1 << 31) if given is None else int(given)
    sys.stdout.write(f"seed {chosen}\n")
    return chosen


@dataclass
class Server:
    """The API as a process of its own."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def answer(self, malformed: Malformed) -> bytes:
        """Send a request, and return all that comes back until the connection ends."""
        received = bytearray()
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            # It may be cut off while it is being sent.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(malformed.data)
            if not malformed.speaks:  # or the server would wait for more
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                while piece := connection.recv(65536):
                    received += piece
        return bytes(received)


@contextmanager
def serving(directory: Path) -> Iterator[Server]:
    port = free_port()
    environment = {
        **os.environ,
        "JOB_ENGINE_DATA_DIR": str(directory / "data"),
        "JOB_ENGINE_PORT": str(port),
        "JOB_ENGINE_MAX_BODY_BYTES": str(MAX_BODY),
        "JOB_ENGINE_MAX_BLOB_BYTES": str(MAX_BODY),
        "JOB_ENGINE_TRUSTED_PEERS": '["127.0.0.1"]',
        "JOB_ENGINE_RATE_PER_S": "0",
        "JOB_ENGINE_ANONYMOUS_RATE_PER_S": "0",
    }
    log = directory / "api.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "job_engine.api"], env=environment, stdout=sink, stderr=sink
        )
    server = Server(port, process, log)
    try:
        eventually(lambda: _ready(server), 120, "ready")
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _ready(server: Server) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{server.url}/api/health/ready").status_code == 200
    return False


@dataclass
class GoodClient:
    """Creates jobs and reads them, one after the other, until told to stop."""

    url: str
    served: int = 0
    problems: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(
            base_url=self.url, headers={"nuvla-authn-info": LMS}, timeout=PATIENCE_S
        ) as http:
            while not self.stop.is_set():
                try:
                    self._one(http)
                except (httpx.HTTPError, AssertionError) as error:
                    self.problems.append(repr(error))
                    return
                self.served += 1

    def _one(self, http: httpx.Client) -> None:
        made = http.post("/api/job", json={"action": "noop"})
        assert made.status_code == 201, made.text
        read = http.get(f"/api/{made.json()['resource-id']}")
        assert (read.status_code, read.json()["state"]) == (200, "QUEUED"), read.text


@contextmanager
def good_client(server: Server) -> Iterator[GoodClient]:
    client = GoodClient(server.url)
    thread = threading.Thread(target=client.run)
    thread.start()
    try:
        yield client
    finally:
        client.stop.set()
        thread.join(PATIENCE_S)


def problem_of(malformed: Malformed, answer: bytes) -> str | None:
    """Return what is wrong with an answer; None: it is refused, or cut off where it may be."""
    statuses = [int(found) for found in re.findall(rb"^HTTP/1\.1 (\d{3}) ", answer, re.MULTILINE)]
    if not statuses:
        return f"no answer, but {answer[:80]!r}" if malformed.speaks or answer else None
    if not all(400 <= status < 500 for status in statuses):
        return f"answered {statuses}: {answer[:200]!r}"
    return None


@dataclass
class Trickle:
    """A connection that sends a byte now and then, and hopes to be kept."""

    connection: socket.socket
    ended: bool = False

    def drip(self) -> None:
        """Send a byte; notice whether it was given up."""
        try:
            self.connection.sendall(b"a")
            self.connection.settimeout(0)
            answer = self.connection.recv(1000)
        except BlockingIOError:
            return
        except OSError:
            answer = b""
        if answer.startswith((b"HTTP/1.1 200", b'{"status":"live"}')):
            return  # that is to the whole request, in one piece or two, before what trickles
        assert answer == b"" or re.match(rb"HTTP/1\.1 40[08] ", answer), answer
        self.ended = True


def test_the_api_goes_on(tmp_path: Path, seed: int) -> None:
    problems: list[str] = []
    kinds: Counter[str] = Counter()
    with serving(tmp_path) as server, good_client(server) as good:

        def send(number: int) -> None:
            malformed = draw(seed, number)
            kinds[malformed.kind] += 1
            problem = problem_of(malformed, server.answer(malformed))
            if problem is not None:
                problems.append(f"{number}: {malformed.kind}: {malformed.data[:300]!r}: {problem}")

        with ThreadPoolExecutor(AT_ONCE) as senders:
            list(senders.map(send, range(WARM_UP)))
            before = server.memory()
            list(senders.map(send, range(WARM_UP, REQUESTS)))
            after = server.memory()
        assert server.process.poll() is None, server.log.read_text()[-2000:]
    sys.stdout.write(f"{before / 2**20:.1f} MiB before, {after / 2**20:.1f} after\n")
    assert problems == []
    assert good.problems == []
    assert good.served > 10
    assert sum(kinds.values()) == REQUESTS
    assert after - before < GROWTH_BYTES
    assert "Traceback" not in server.log.read_text()


def test_a_client_that_sends_too_slowly_is_disconnected(tmp_path: Path) -> None:
    """Heads and bodies that come a byte at a time; they would hold the server's memory."""
    starts = (
        b"",
        b"\r\n",
        b"GET /api/job HTTP/1.1\r\nHost: here\r\nX: ",
        request("GET", "/api/health/live").replace(b"Connection: close\r\n", b"") + b"GET /",
    )
    with serving(tmp_path) as server, good_client(server) as good, ExitStack() as open_:
        trickles = []
        for start in starts * 20:
            connection = open_.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
            )
            connection.sendall(start)
            trickles.append(Trickle(connection))

        def all_ended() -> bool:
            for trickle in trickles:
                if not trickle.ended:
                    trickle.drip()
            return all(trickle.ended for trickle in trickles)

        eventually(all_ended, 60, "every one of them ended")
    assert good.problems == []
