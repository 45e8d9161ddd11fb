"""The line of idle executors: the few at its head watch the queue, and nobody else does.

Each stands there with an ephemeral, sequential node and watches one other node, the one
`HEADS` places ahead of its own. So whoever leaves wakes exactly one, however long the
line is. Where one leaves from the middle, as the dead do, fewer than `HEADS` may know
that they stand at the head, until they look again; but never none, for who is first has
nobody ahead to wait for.

A node's name carries a token of its line's own, so it is nobody else's, in any session:
what a lost reply left behind is recognised by it (kazoo's recipe/lock.py has the trick
from Netflix Curator), and to delete it twice, or late, harms nobody.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from kazoo.exceptions import ConnectionLoss, NoNodeError
from kazoo.protocol.states import EventType, WatchedEvent

from job_engine.errors import QueueError
from job_engine.queue.session import ZooKeeperSession
from job_engine.queue.transaction import answered

HEADS: Final = 2
"""How many stand at the head. Two, so that one that hangs until its session ends costs
nothing; each further one reads the queue once more for every job."""

_PLACE: Final = re.compile(r"idle-([0-9a-f]{16})-(-?\d+)\Z")


class Line:
    """One place in the line at `path`. For one thread, but for what ZooKeeper tells.

    `on_moved` is called, from kazoo's thread, when it is time to call `stand` again.
    """

    def __init__(self, session: ZooKeeperSession, path: str, on_moved: Callable[[], None]) -> None:
        self._session = session
        self._path = path
        self._on_moved = on_moved
        self._token = secrets.token_hex(8)
        self._session_id: int | None = None
        self._node: str | None = None
        self._ahead: str | None = None
        """Path of the node that is watched."""
        self._head = False
        self._crowded = False
        self._took = False
        self._outdated = False

    @property
    def head(self) -> str | None:
        """The own node while it is one of those at the head, who watch the queue."""
        return self._node if self._head else None

    @property
    def outdated(self) -> bool:
        """Whether it has to be looked again where this stands."""
        return self._outdated

    def check(self) -> None:
        """Look again where this stands, at the next `stand`."""
        self._outdated = self._node is not None

    def stand(self, session_id: int) -> None:
        """Join at the end unless already in line, and see where this stands now.

        Raises `SessionLostError`, `QueueError`.
        """
        if self._session_id != session_id:
            self._forget()
        self._session.require(session_id)
        try:
            with answered():
                if self._took:
                    self._make_way()
                if self._node is None:
                    self._join(session_id)
                while self._outdated:
                    self._look()
        except QueueError:
            # Nobody knows what is watched now.
            self._ahead, self._outdated = None, True
            raise

    def took_work(self) -> None:
        """Leave if somebody stands behind: the next work is for others.

        Where few stand in line they all are heads, and leaving would wake nobody.
        """
        if self._crowded:
            self.leave()
        else:
            self._took = True

    def leave(self) -> None:
        """Leave the line, and so wake the next. Does not wait for an answer."""
        node = self._node
        self._forget()
        if node is not None:
            self._delete(node)

    def _forget(self) -> None:
        self._node = self._ahead = None
        self._head = self._took = self._outdated = False

    def _make_way(self) -> None:
        """Some may have joined since the line was looked at."""
        self._took = False
        stat = self._session.client.exists(self._path)
        if stat is not None and stat.numChildren > HEADS:
            self.leave()

    def _join(self, session_id: int) -> None:
        self._outdated = False
        try:
            node, names = self._create()
        except NoNodeError:
            self._session.client.ensure_path(self._path)
            node, names = self._create()
        # A request of the last session that kazoo sent in this one is found the next time.
        self._session.require(session_id)
        self._session_id, self._node = session_id, node
        for name in names:
            if name != node and self._token in name:
                self._delete(name)
        self._find(node, names)

    def _create(self) -> tuple[str, list[str]]:
        client = self._session.client
        prefix = f"{self._path}/idle-{self._token}-"
        created = client.create_async(prefix, b"", ephemeral=True, sequence=True)
        # Sent at once: ZooKeeper answers a session's requests in order.
        listed = client.get_children_async(self._path)
        return str(created.get()).rpartition("/")[2], listed.get()

    def _look(self) -> None:
        self._outdated = False
        names = self._session.client.get_children(self._path)
        if self._node is not None and self._node in names:
            self._find(self._node, names)
        else:
            # Somebody tidied up. There is no place to defend: stand at the end again.
            self._forget()
            self._join(self._session.id)

    def _find(self, node: str, names: Sequence[str]) -> None:
        """Find the own place, and watch the node that decides when it is at the head."""
        # Others of our own are about to be deleted, and nobody would tell us.
        line = _in_order([n for n in names if n == node or self._token not in n], node)
        place = line.index(node)
        self._crowded = len(line) > HEADS
        self._head = place < HEADS
        if not self._head:
            self._watch(f"{self._path}/{line[place - HEADS]}")

    def _watch(self, ahead: str) -> None:
        if self._ahead == ahead:
            return
        self._ahead = ahead
        try:
            # Not `exists`, which would leave its watch behind on a node that is gone.
            self._session.client.get(ahead, watch=self._on_change)
        except NoNodeError:
            self._ahead = None
            self._outdated = True

    def _on_change(self, event: WatchedEvent) -> None:
        # A watch on a place long left says nothing; the end of a connection ends them all.
        if event.type == EventType.NONE or event.path == self._ahead:
            self._ahead = None
            self._outdated = True
            self._on_moved()

    def _delete(self, name: str) -> None:
        def done(result: Any) -> None:
            # A node that stayed would stand in line for somebody who does not listen.
            if isinstance(result.exception, ConnectionLoss):
                self._delete(name)

        self._session.client.delete_async(f"{self._path}/{name}").rawlink(done)


def _in_order(names: Sequence[str], own: str) -> list[str]:
    """Sort by sequence, modulo 2³² and measured from the own one; leave out what is no place."""
    origin = _sequence(own)
    found = [(s, name) for name in names if (s := _sequence(name)) is not None]
    return [name for _, name in sorted(found, key=lambda p: (p[0] - (origin or 0) + 2**31) % 2**32)]


def _sequence(name: str) -> int | None:
    match = _PLACE.match(name)
    return int(match[2]) if match else None
