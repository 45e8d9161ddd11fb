"""The test-bed's proxy does to connections what it says: else its faults would be none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.faults.bed.proxy import GOOD, Conduct, Direction, Link, Proxies
from tests.support.engine import eventually

SILENCE_S = 0.3
PATIENCE_S = 5.0


class Peer:
    """A server that notes what arrives, and answers each request with `reply`."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while request := connection.recv(100):
                    self.received.append(request)
                    connection.sendall(b"reply")
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    with closing(Peer()) as server:
        yield server


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    with Proxies() as made:
        yield made


@pytest.fixture
def link(proxies: Proxies, peer: Peer) -> Link:
    return proxies.link(peer.port)


@pytest.fixture
def client(link: Link) -> Iterator[socket.socket]:
    """A connection that works."""
    with socket.create_connection(("127.0.0.1", link.ports[0]), PATIENCE_S) as connection:
        assert ask(connection) == b"reply"
        yield connection


def ask(connection: socket.socket) -> bytes | None:
    """What is answered; nothing where the connection breaks, None where it is silent."""
    try:
        connection.sendall(b"request")
        return connection.recv(100)
    except TimeoutError:
        return None
    except OSError:
        return b""


def blocked(*ways: Direction, late: bool = False) -> Conduct:
    return Conduct(frozenset(ways), late=late)


def conduct(proxies: Proxies, link: Link, how: Conduct) -> None:
    proxies.conduct(link, how)
    eventually(lambda: link.conduct is how)


@pytest.mark.parametrize(
    ("ways", "arrives"),
    [
        ((Direction.UP,), False),
        ((Direction.DOWN,), True),
        ((Direction.UP, Direction.DOWN), False),
    ],
)
def test_a_cut_is_silent_and_breaks_what_lost_bytes(
    proxies: Proxies,
    link: Link,
    peer: Peer,
    client: socket.socket,
    ways: tuple[Direction, ...],
    arrives: bool,
) -> None:
    conduct(proxies, link, blocked(*ways))
    client.settimeout(SILENCE_S)
    assert ask(client) is None
    assert len(peer.received) == 1 + arrives
    conduct(proxies, link, GOOD)
    client.settimeout(PATIENCE_S)
    assert ask(client) == b""
    assert len(peer.received) == 1 + arrives


def test_held_bytes_arrive_late(
    proxies: Proxies, link: Link, peer: Peer, client: socket.socket
) -> None:
    conduct(proxies, link, blocked(Direction.UP, late=True))
    client.settimeout(SILENCE_S)
    assert ask(client) is None
    assert len(peer.received) == 1
    conduct(proxies, link, GOOD)
    client.settimeout(PATIENCE_S)
    assert client.recv(100) == b"reply"
    assert len(peer.received) == 2


def test_a_reply_is_lost_after_the_request_arrived(
    proxies: Proxies, link: Link, peer: Peer, client: socket.socket
) -> None:
    conduct(proxies, link, Conduct(loses_replies=True))
    assert ask(client) == b""
    assert len(peer.received) == 2


def test_nobody_hears_of_an_end_during_a_cut(
    proxies: Proxies, link: Link, peer: Peer, client: socket.socket
) -> None:
    conduct(proxies, link, blocked(Direction.UP))
    with socket.create_connection(("127.0.0.1", link.ports[0]), PATIENCE_S) as other:
        other.settimeout(SILENCE_S)
        # Not refused, and not answered.
        assert ask(other) is None
    assert len(peer.received) == 1
