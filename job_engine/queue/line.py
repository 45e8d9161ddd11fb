"""The line of idle executors: only the `HEADS` first ones watch the queue.

Each executor has an ephemeral, sequential node in the line, and watches one other node: the
one `HEADS` places ahead of its own. So an executor that leaves wakes exactly one other,
however long the line is. When one leaves from the middle, because it died for instance, fewer
than `HEADS` may know that they are at the head until they poll. At least one always knows,
because the first has no node ahead to wait for.

A node's name contains a token of this `Line` object, so it is unique in all sessions. A node
that a lost reply left behind is recognised by it (the technique of Netflix Curator, also in
kazoo's recipe/lock.py), and deleting it twice, or late, does no harm.
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
"""Executors at the head. Two, so that one that hangs does not stop the queue; each further one
would add a read of the queue for every job."""

_PLACE: Final = re.compile(r"idle-([0-9a-f]{16})-(-?\d+)\Z")


class Line:
    """One place in the line at `path`; for one thread, apart from ZooKeeper's callbacks.

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
        """Path of the watched node; None: nothing is watched."""
        self._head = False
        self._crowded = False
        self._took = False
        self._outdated = False

    @property
    def head(self) -> str | None:
        """This executor's node if it is at the head, else None."""
        return self._node if self._head else None

    @property
    def outdated(self) -> bool:
        """Whether the position in the line has to be read again."""
        return self._outdated

    def check(self) -> None:
        """Have the next `stand` read the position again."""
        self._outdated = self._node is not None

    def stand(self, session_id: int) -> None:
        """Join the end of the line unless in it already, and update the position.

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
            # Without an answer it is unknown which node is watched.
            self._ahead, self._outdated = None, True
            raise

    def took_work(self) -> None:
        """Leave the line if another executor is behind: the next entries are for others.

        In a short line all are heads, and leaving would wake nobody.
        """
        if self._crowded:
            self.leave()
        else:
            self._took = True

    def leave(self) -> None:
        """Leave the line, which wakes the next one. Does not wait for the answer."""
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
        # kazoo may have sent a request of the last session in this one; the next call finds it.
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
            # The node was deleted from outside: join the end of the line again.
            self._forget()
            self._join(self._session.id)

    def _find(self, node: str, names: Sequence[str]) -> None:
        """Find this executor's position, and watch the node `HEADS` places ahead."""
        # Our other nodes are about to be deleted, and watching them would be pointless.
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
            # Not `exists`, which would leave a watch behind if the node is gone.
            self._session.client.get(ahead, watch=self._on_change)
        except NoNodeError:
            self._ahead = None
            self._outdated = True

    def _on_change(self, event: WatchedEvent) -> None:
        # Watches of earlier positions do not count; a lost connection ends all watches.
        if event.type == EventType.NONE or event.path == self._ahead:
            self._ahead = None
            self._outdated = True
            self._on_moved()

    def _delete(self, name: str) -> None:
        def done(result: Any) -> None:
            # A node that stays would block the line for an executor that does not watch it.
            if isinstance(result.exception, ConnectionLoss):
                self._delete(name)

        self._session.client.delete_async(f"{self._path}/{name}").rawlink(done)


def _in_order(names: Sequence[str], own: str) -> list[str]:
    """Sort by sequence modulo 2³², measured from the node `own`; leave out other names."""
    origin = _sequence(own)
    found = [(s, name) for name in names if (s := _sequence(name)) is not None]
    return [name for _, name in sorted(found, key=lambda p: (p[0] - (origin or 0) + 2**31) % 2**32)]


def _sequence(name: str) -> int | None:
    match = _PLACE.match(name)
    return int(match[2]) if match else None
