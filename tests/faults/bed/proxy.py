"""A TCP proxy between one process and one peer, that can be told to misbehave.

What a network may do to a connection: nothing passes, in one direction or in both; what
was sent during the cut is lost, or arrives when the cut is over (TCP sends it again);
replies are lost after the request arrived. All links share one event loop in one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

HOST: Final = "127.0.0.1"
CHUNK: Final = 1 << 16


class Direction(StrEnum):
    """Which way bytes go."""

    UP = "up"
    """From the process to its peer."""
    DOWN = "down"
    """From the peer to the process."""


@dataclass(frozen=True)
class Conduct:
    """How a link behaves; the default is a good one."""

    blocked: frozenset[Direction] = frozenset()
    late: bool = False
    """Whether what was blocked arrives in the end; else it is lost, and the connection with it."""
    loses_replies: bool = False
    """Whether a connection breaks at the first byte of a reply."""


GOOD: Final = Conduct()


class Proxies:
    """The thread that all links live in."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="proxies", daemon=True)
        self._links: list[Link] = []

    def __enter__(self) -> Proxies:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links:
            asyncio.run_coroutine_threadsafe(link.close(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def link(self, *targets: int) -> Link:
        """Open a link to ports of loopback, one listening port for each."""
        link = Link(targets)
        asyncio.run_coroutine_threadsafe(link.open(), self.loop).result(10)
        self._links.append(link)
        return link

    def conduct(self, link: Link, conduct: Conduct) -> None:
        """Have a link behave like that from now on."""
        self.loop.call_soon_threadsafe(link.behave, conduct)


class Link:
    """One process's way to one peer (which may be several servers)."""

    def __init__(self, targets: tuple[int, ...]) -> None:
        self.ports: list[int] = []
        self.conduct = GOOD
        """How it behaves now."""
        self._targets = targets
        self._changed = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Connection] = set()

    @property
    def hosts(self) -> str:
        """Connection string of its listening ports."""
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    async def open(self) -> None:
        """Listen."""
        for target in self._targets:
            server = await asyncio.start_server(partial(self._serve, target), HOST, 0)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Listen no more, and break every connection."""
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.abort()

    def behave(self, conduct: Conduct) -> None:
        """Change how it behaves; a connection that lost bytes breaks now."""
        self.conduct = conduct
        for connection in list(self._connections):
            if connection.lost_bytes:
                connection.abort()
        self._changed.set()
        self._changed = asyncio.Event()

    async def _serve(
        self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connection = _Connection(writer)
        self._connections.add(connection)
        try:
            their_reader, their_writer = await asyncio.open_connection(HOST, target)
            connection.writers.append(their_writer)
            ways = [
                asyncio.ensure_future(self._pump(connection, Direction.UP, reader, their_writer)),
                asyncio.ensure_future(self._pump(connection, Direction.DOWN, their_reader, writer)),
            ]
            _, other = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            while self.conduct.blocked:
                # Nobody hears of the other's end either.
                await self._changed.wait()
            for way in other:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass
        finally:
            connection.abort()
            self._connections.discard(connection)

    async def _pump(
        self,
        connection: _Connection,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if direction is Direction.DOWN and self.conduct.loses_replies:
                    return
                if not await self._passes(direction):
                    connection.lost_bytes = True
                    continue
                writer.write(chunk)
                await writer.drain()

    async def _passes(self, direction: Direction) -> bool:
        """Whether a chunk goes on, as soon as that is known."""
        while direction in self.conduct.blocked:
            if not self.conduct.late:
                return False
            await self._changed.wait()
        return True


class _Connection:
    """One connection through a link."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.lost_bytes = False

    def abort(self) -> None:
        """Break it, on both sides."""
        for writer in self.writers:
            writer.transport.abort()
