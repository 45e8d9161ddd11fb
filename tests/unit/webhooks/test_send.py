"""Sending to receivers of every kind, over real sockets on loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from job_engine.webhooks import DestinationPolicy, Sender
from tests.support.receiver import Receiver
from tests.unit.webhooks.test_destination import resolving_to

HEADERS = {"content-type": "application/json", "webhook-id": "an-id"}


def sender_to(*pairs: str, timeout_s: float = 10.0) -> Sender:
    """A sender that may go to these pairs, and over plain http."""
    policy = DestinationPolicy(allow_http=True, allow_private_hosts=pairs)
    return Sender(policy, timeout_s=timeout_s)


@contextmanager
def speaking(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that says what it likes to the first who connects; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(20)
                talk(connection)
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.close()
    thread.join(20)


def test_a_message_arrives_as_it_is() -> None:
    with Receiver() as receiver:
        outcome = sender_to(f"127.0.0.1:{receiver.server_port}").send(
            receiver.url + "?course=1", HEADERS, '{"a": "é"}'
        )
    assert (outcome.status, outcome.error, outcome.refused) == (204, None, False)
    (message,) = receiver.received
    assert message.path == "/hook?course=1"
    assert message.body == {"a": "é"}
    assert message.headers["webhook-id"] == "an-id"
    assert message.headers["host"] == f"127.0.0.1:{receiver.server_port}"


def test_the_checked_address_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the second answer would be another place; it is never asked for."""
    with Receiver() as receiver:
        asked = resolving_to(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
        pair = f"lms.example.org:{receiver.server_port}"
        outcome = sender_to(pair).send(f"http://{pair}/hook", HEADERS, "{}")
    assert outcome.status == 204
    assert asked == ["lms.example.org"]
    assert receiver.received[0].headers["host"] == pair


def test_a_name_that_turns_private_after_it_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[Any] = []

    class Refused(socket.socket):
        def connect(self, address: Any) -> None:
            connected.append(address)
            raise ConnectionRefusedError(111, "Connection refused")

    with Receiver() as receiver:
        resolving_to(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
        monkeypatch.setattr(socket, "socket", Refused)
        url = f"http://lms.example.org:{receiver.server_port}/"
        assert sender_to().send(url, HEADERS, "{}").status is None
    assert connected == [("8.8.8.8", receiver.server_port)]
    assert receiver.received == []


def test_private_places_are_refused_for_good() -> None:
    with Receiver() as receiver:
        outcome = sender_to().send(receiver.url, HEADERS, "{}")
    assert (outcome.status, outcome.refused) == (None, True)
    assert "webhook_private_hosts" in (outcome.error or "")
    assert receiver.received == []


def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Receiver() as receiver:
        assert (
            sender_to(f"127.0.0.1:{receiver.server_port}").send(receiver.url, {}, "{}").status
            == 204
        )


def test_redirects_are_an_answer_and_no_more() -> None:
    with Receiver(last=302) as receiver:
        outcome = sender_to(f"127.0.0.1:{receiver.server_port}").send(receiver.url, HEADERS, "{}")
    assert outcome.status == 302
    assert len(receiver.received) == 1


def test_nobody_listens() -> None:
    with Receiver() as receiver:
        url, pair = receiver.url, f"127.0.0.1:{receiver.server_port}"
    outcome = sender_to(pair).send(url, HEADERS, "{}")
    assert (outcome.status, outcome.refused) == (None, False)
    assert "cannot be reached" in (outcome.error or "")


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    outcome = sender_to().send("https://no.such.example/", HEADERS, "{}")
    assert (outcome.status, outcome.refused) == (None, False)
    assert "does not resolve" in (outcome.error or "")


def drip(connection: socket.socket) -> None:
    """Answer a byte at a time, each of them in time."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def test_a_slow_receiver_is_disconnected() -> None:
    with speaking(drip) as port:
        sender = sender_to(f"127.0.0.1:{port}", timeout_s=0.5)
        outcome = sender.send(f"http://127.0.0.1:{port}/", HEADERS, "{}")
    assert outcome.status is None
    assert outcome.error == "It did not answer within 0.5 s."


def test_a_silent_receiver_is_not_waited_for() -> None:
    done = threading.Event()

    def wait(_connection: socket.socket) -> None:
        done.wait(20)

    with speaking(wait) as port:
        sender = sender_to(f"127.0.0.1:{port}", timeout_s=0.3)
        assert sender.send(f"http://127.0.0.1:{port}/", {}, "{}").error is not None
        done.set()


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(10_000):
            connection.sendall(b"x" * 65536)

    with speaking(flood) as port:
        sender = sender_to(f"127.0.0.1:{port}", timeout_s=10)
        assert sender.send(f"http://127.0.0.1:{port}/", {}, "{}").status == 200


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b""])
def test_a_receiver_that_does_not_speak_http_fails(said: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)

    with speaking(talk) as port:
        outcome = sender_to(f"127.0.0.1:{port}").send(f"http://127.0.0.1:{port}/", {}, "{}")
    assert outcome.status is None
    assert outcome.error


def test_plain_text_where_tls_was_asked_for() -> None:
    with Receiver() as receiver:
        pair = f"127.0.0.1:{receiver.server_port}"
        outcome = sender_to(pair).send(f"https://{pair}/hook", HEADERS, "{}")
    assert outcome.status is None
    assert receiver.received == []


def test_closing_aborts_current_and_refuses_later_messages() -> None:
    arrived, done = threading.Event(), threading.Event()

    def hold(connection: socket.socket) -> None:
        connection.recv(65536)
        arrived.set()
        done.wait(20)

    with speaking(hold) as port:
        url, sender = f"http://127.0.0.1:{port}/", sender_to(f"127.0.0.1:{port}", timeout_s=60)
        outcomes: list[Any] = []
        thread = threading.Thread(target=lambda: outcomes.append(sender.send(url, {}, "{}")))
        thread.start()
        assert arrived.wait(20)
        sender.close()
        thread.join(20)
        assert not thread.is_alive()
        assert outcomes[0].status is None
        assert sender.send(url, {}, "{}").status is None
        done.set()


def test_a_name_that_does_not_resolve_in_time_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_args, **_kw: go.wait(30) and [])
    began = time.monotonic()
    outcome = sender_to(timeout_s=0.2).send("http://lms.example.org/hook", HEADERS, "{}")
    go.set()
    assert outcome.error == "lms.example.org does not resolve: not within 0.2 s"
    assert not outcome.refused  # another time it may
    assert time.monotonic() - began < 20
