"""Answers leave in one piece, and nothing of them is held back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from job_engine.api.http.cork import CorkedTransport, Data


class _Counted(asyncio.Transport):
    """A transport over one that writes, which counts how often that is asked to."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self.inner = transport
        self.writes: list[bytes] = []

    def write(self, data: Data) -> None:
        self.writes.append(bytes(data))
        self.inner.write(data)

    def close(self) -> None:
        self.inner.close()

    def is_closing(self) -> bool:
        return self.inner.is_closing()


def over_a_connection(
    speaks: Callable[[CorkedTransport, _Counted], Awaitable[None]],
) -> tuple[bytes, list[bytes]]:
    """Return what the other end got, and the writes that it came in."""

    async def run() -> tuple[bytes, list[bytes]]:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        counted = _Counted(transport)
        await speaks(CorkedTransport(counted, loop), counted)
        counted.close()
        await asyncio.sleep(0)
        theirs.settimeout(10)
        with theirs:
            got = b"".join(iter(lambda: theirs.recv(1 << 16), b""))
        return got, counted.writes

    return asyncio.run(run())


def test_head_and_body_are_one_write() -> None:
    async def speaks(transport: CorkedTransport, _: _Counted) -> None:
        transport.write(b"head ")
        transport.write(bytearray(b"body"))
        await asyncio.sleep(0.01)

    assert over_a_connection(speaks) == (b"head body", [b"head body"])


def test_each_write_is_sent_without_waiting_for_the_next() -> None:
    async def speaks(transport: CorkedTransport, counted: _Counted) -> None:
        transport.write(b"event 1\n")
        await asyncio.sleep(0.01)
        assert counted.writes == [b"event 1\n"]
        transport.write(b"event 2\n")
        await asyncio.sleep(0.01)

    got, writes = over_a_connection(speaks)
    assert got == b"event 1\nevent 2\n"
    assert len(writes) == 2


def test_a_connection_that_is_closed_has_sent_all_of_its_answer() -> None:
    async def speaks(transport: CorkedTransport, _: _Counted) -> None:
        transport.write(b"refused")
        transport.close()
        assert transport.is_closing()
        transport.write(b"too late")
        await asyncio.sleep(0.01)

    assert over_a_connection(speaks) == (b"refused", [b"refused"])
