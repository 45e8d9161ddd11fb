"""The gauge of sockets, on what the kernel says of a network."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import ExitStack
from pathlib import Path

import pytest

from job_engine.sandbox import waiting_sockets
from job_engine.sandbox.waiting_sockets import SocketGauge, sockets

GONE = 2**22 + 1


def test_connections_that_nobody_accepts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
        before = sockets(Path("/proc/self/net"))
        for _ in range(40):
            socket.create_connection(server.getsockname()).close()
        monkeypatch.setattr(waiting_sockets, "MAX_SOCKETS", before + 30)
        assert SocketGauge(lambda: [GONE, os.getpid()]).exceeded(10.0)
        monkeypatch.setattr(waiting_sockets, "MAX_SOCKETS", before + 5_000)
        assert not SocketGauge(lambda: [os.getpid()]).exceeded(10.0)


def test_a_phase_that_is_gone_has_none_and_it_is_not_asked_too_often(tmp_path: Path) -> None:
    (tmp_path / "7/net").mkdir(parents=True)
    (tmp_path / "7/net/sockstat").write_text("sockets: used 6001\nTCP: inuse 2 orphan 0\n")
    processes = [GONE]
    gauge = SocketGauge(lambda: processes, tmp_path)
    assert not gauge.exceeded(10.0)
    processes.append(7)
    assert not gauge.exceeded(10.1)
    assert gauge.exceeded(10.3)


def test_waiting_errors_of_sockets_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_sockets, "MAX_DATAGRAM_BYTES", 2**16)
    gauge = SocketGauge(lambda: [os.getpid()])
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)
        )
        other.bind(("127.0.0.1", 0))
        for _ in range(4):
            # SO_TIMESTAMPING for one message: SOF_TIMESTAMPING_TX_SOFTWARE.
            with_time = [(socket.SOL_SOCKET, 37, struct.pack("I", 2))]
            one.sendmsg([bytes(60_000)], with_time, 0, other.getsockname())
            other.recv(60_000)
        assert gauge.exceeded(10.0)
    assert not gauge.exceeded(20.0)
