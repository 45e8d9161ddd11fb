"""Places in the line, idle executors, and what the line looks like."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from kazoo.client import KazooClient

from job_engine.errors import QueueError
from job_engine.queue import layout
from job_engine.queue.line import Line
from tests.contract.queue.conftest import Member
from tests.support.engine import eventually

Join = Callable[[str], Member]
Watches = Callable[[], int]

LINE = layout.line("/job")
SOON_S = 5.0
"""Far less than any poll: what happens within it was woken."""


class Placed:
    """A session's place in line, moved by hand."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.told = threading.Event()
        self.line = Line(member.session, LINE, self.told.set)

    def stand(self) -> Placed:
        """Look where this stands."""
        self.told.clear()
        self.line.stand(self.member.session.id)
        return self

    @property
    def at_head(self) -> bool:
        """Whether this stands at the head, as far as it knows."""
        return self.line.head is not None

    def promoted(self) -> bool:
        """Wait to be told, look again, and say whether this is at the head now."""
        assert self.told.wait(SOON_S)
        return self.stand().at_head


class Idle:
    """An executor with one thread, which keeps what it claims; it claims and waits."""

    def __init__(self, member: Member, skip: Callable[[str], bool] = lambda _: False) -> None:
        self.member = member
        self.skip = skip
        self.looks = 0
        self.got: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Idle:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        while self._thread.is_alive():
            self.member.claims.wake()
            self._thread.join(0.1)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.looks += 1
            try:
                claims = self.member.claims.claim(self.member.registration, 1, self.skip)
                if not claims:
                    self.member.claims.wait(60)
            except QueueError:
                return
            for claim in claims:
                self.got.put(claim.job_id)


def standing(client: KazooClient) -> list[str]:
    if not client.exists(LINE):
        return []
    return sorted(client.get_children(LINE), key=lambda name: int(name.rpartition("-")[2]))


def at_rest(client: KazooClient) -> int:
    """How often the line has changed, once it changes no more."""
    seen: list[int] = []

    def unchanged() -> bool:
        seen.append(client.exists(LINE).cversion)
        return len(seen) > 10 and len(set(seen[-10:])) == 1

    eventually(unchanged, 20, "a line at rest")
    return seen[-1]
