"""The egress proxy over real sockets on loopback, without a sandbox."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from job_engine.sandbox import egress
from job_engine.sandbox.base import Reach
from job_engine.sandbox.egress import EgressProxy

Start = Callable[..., socket.socket]


class Server:
    """A peer on loopback that answers each connection with one line and keeps what it got."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.received: list[bytes] = []
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            with peer:
                self.received.append(peer.recv(65_536))
                peer.sendall(b"hello from the server\n")

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    peer = Server()
    yield peer
    peer.close()


@pytest.fixture
def ask() -> Iterator[Callable[[EgressProxy, bytes], bytes]]:
    with ExitStack() as stack:

        def send(proxy: EgressProxy, request: bytes) -> bytes:
            listener = socket.create_server(("127.0.0.1", 0))
            proxy.serve(listener)
            stack.enter_context(proxy)
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                answer = b""
                while data := client.recv(4096):
                    answer += data
                return answer

        yield send


Ask = Callable[[EgressProxy, bytes], bytes]


def proxy_to(port: int, host: str = "127.0.0.1") -> EgressProxy:
    return EgressProxy([Reach(host=host, port=port)], [f"{host}:{port}"])


def test_connect_reaches_the_named_pair(server: Server, ask: Ask) -> None:
    request = f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n\r\nping".encode()
    answer = ask(proxy_to(server.port), request)
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\nhello from the server\n"
    assert server.received == [b"ping"]


def test_plain_http_is_rewritten(server: Server, ask: Ask) -> None:
    uri = f"http://127.0.0.1:{server.port}/a?b=c"
    request = (
        f"GET {uri} HTTP/1.1\r\nHost: other\r\nProxy-Authorization: x\r\n"
        "Connection: keep-alive\r\nAccept: */*\r\n\r\n"
    )
    assert ask(proxy_to(server.port), request.encode()) == b"hello from the server\n"
    assert server.received == [
        f"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n".encode()
    ]


def test_another_pair_is_refused_with_the_reason(server: Server, ask: Ask) -> None:
    request = f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n\r\n".encode()
    answer = ask(proxy_to(1), request)
    assert answer.startswith(b"HTTP/1.1 403 egress to 127.0.0.1")
    assert b"not named by this phase" in answer
    assert server.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"])
def test_a_private_address_needs_the_operator(server: Server, ask: Ask, host: str) -> None:
    proxy = EgressProxy([Reach(host=host, port=server.port)])
    answer = ask(proxy, f"CONNECT {host}:{server.port} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"private address" in answer
    assert server.received == []


def test_the_exception_names_host_and_port(server: Server, ask: Ask) -> None:
    proxy = EgressProxy([Reach(host="127.0.0.1", port=server.port)], ["127.0.0.1:1"])
    answer = ask(proxy, f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n\r\n".encode())
    assert b"private address" in answer


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"CONNECT host HTTP/1.1\r\n\r\n",
        b"CONNECT host:99999 HTTP/1.1\r\n\r\n",
        b"CONNECT ho/st:80 HTTP/1.1\r\n\r\n",
        b"GET http://h:1/ HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /" + b"x" * 40_000,
    ],
)
def test_a_malformed_request_is_refused(ask: Ask, request_head: bytes) -> None:
    assert ask(proxy_to(1), request_head).startswith(b"HTTP/1.1 400")


def test_close_ends_open_tunnels(server: Server) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = proxy_to(server.port)
    proxy.serve(listener)
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n\r\n".encode())
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        proxy.close()
        assert client.recv(4096) == b""
    proxy.close()


def test_close_does_not_wait_for_a_host_that_does_not_answer() -> None:
    with ExitStack() as stack:
        # A full backlog: the kernel drops what else wants to connect.
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = deaf.getsockname()
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        listener = socket.create_server(("127.0.0.1", 0))
        proxy = proxy_to(address[1])
        proxy.serve(listener)
        client = stack.enter_context(socket.create_connection(listener.getsockname()))
        client.sendall(f"CONNECT 127.0.0.1:{address[1]} HTTP/1.1\r\n\r\n".encode())
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        closed_at = time.monotonic()
        proxy.close()
        assert time.monotonic() - closed_at < 1


def test_a_tunnel_to_a_host_that_accepts_and_stalls_is_closed(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "FIRST_BYTE_TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as stalled:
        port = stalled.getsockname()[1]
        answer = ask(proxy_to(port), f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n"


def test_a_host_that_refuses_is_reported(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    answer = ask(proxy_to(port), f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 502 cannot connect: Connection refused")


def test_a_name_that_cannot_be_one_is_reported(ask: Ask) -> None:
    name = "x" * 64 + ".example"
    answer = ask(proxy_to(80, name), f"CONNECT {name}:80 HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 the name cannot be resolved")


@pytest.mark.parametrize(
    ("error", "status"),
    [(socket.EAI_NONAME, 404), (socket.EAI_NODATA, 404), (socket.EAI_AGAIN, 502)],
)
def test_a_name_that_does_not_exist_is_told_from_a_resolver_that_fails(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, error: int, status: int
) -> None:
    real = socket.getaddrinfo

    def lookup(host: str, *arguments: Any, **named: Any) -> Any:
        if host == "git.example":
            raise socket.gaierror(error, "no")
        return real(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    answer = ask(proxy_to(80, "git.example"), b"CONNECT git.example:80 HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 %d the name cannot be resolved" % status)


def test_a_crowd_of_refusals_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "MAX_REFUSALS_LOGGED", 2)
    listener = socket.create_server(("127.0.0.1", 0))
    with proxy_to(80) as proxy, caplog.at_level(logging.WARNING):
        proxy.serve(listener)
        for _ in range(5):
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"CONNECT elsewhere.example:443 HTTP/1.1\r\n\r\n")
                assert client.recv(4096).startswith(b"HTTP/1.1 403")
    assert len(caplog.records) == 2


def test_new_connections_are_paced(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "BURST", 2)
    monkeypatch.setattr(egress, "PACE_S", 0.1)
    listener = socket.create_server(("127.0.0.1", 0))
    began = time.monotonic()
    with proxy_to(server.port) as proxy:
        proxy.serve(listener)
        for _ in range(6):
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"nonsense\r\n\r\n")
                assert client.recv(4096).startswith(b"HTTP/1.1 400")
    assert time.monotonic() - began >= 0.3


def test_connections_are_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "MAX_CONNECTIONS", 1)
    listener = socket.create_server(("127.0.0.1", 0))
    with proxy_to(server.port) as proxy:
        proxy.serve(listener)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        assert clients[2].recv(1) == b""
        for client in clients:
            client.close()
