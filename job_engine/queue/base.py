"""The abstract locking queue: the executor's side, the leader's side, and their value types."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from job_engine.model import Fence

_ENTRY: Final = re.compile(r"entry-(\d{3})-(-?\d+)\Z")


class EntryName(NamedTuple):
    """A parsed `entry-PPP-SSSSSSSSSS`.

    The sequence is a signed 32-bit counter of ZooKeeper's that can turn negative;
    two of them compare modulo 2³² (serial number arithmetic, RFC 1982).
    """

    priority: int
    sequence: int
    text: str

    @staticmethod
    @lru_cache(maxsize=4096)  # consecutive listings of a queue have most names in common
    def parse(text: str) -> EntryName | None:
        """Parse a node's name; return None for one that is not an entry."""
        match = _ENTRY.match(text)
        return EntryName(int(match[1]), int(match[2]), text) if match else None


def in_order(names: Sequence[str]) -> list[EntryName]:
    """Sort entries by priority, then by sequence modulo 2³²; leave out other names.

    The sequences of a window lie close together on the circle of numbers, so it hardly
    matters from which one the others are measured.
    """
    entries = [entry for name in names if (entry := EntryName.parse(name))]
    if not entries:
        return []
    origin = entries[0].sequence
    # Distance from the origin, folded to the half circle on either side of it.
    return sorted(
        entries,
        key=lambda e: (e.priority, (e.sequence - origin + 2**31) % 2**32),
    )


def job_id_of(data: bytes) -> str:
    """Read the job's id from an entry's data: `job/<uuid>`, or a bare uuid."""
    # A zero byte is no part of any id, and no database takes one.
    text = data.decode("utf-8", "replace").replace("\0", "\ufffd").strip()
    return text if text.startswith("job/") else f"job/{text}"


@dataclass(frozen=True)
class Registration:
    """The registration of this executor, for the life of one ZooKeeper session."""

    session_id: int
    node: str
    """Path of its own ephemeral node; every transaction of the session checks it."""
    incarnation: int


@dataclass(frozen=True)
class QueueClaim:
    """An entry whose claim node this session holds."""

    entry: str
    job_id: str
    fence: Fence
    registration: Registration


class ClaimQueue(ABC):
    """The executor's side of the queue.

    `consume`, `release` and `wake` are for any thread; everything else is for one thread.

    Every method may raise `SessionLostError` (all claims of the session are void) or
    `QueueError` (no answer; call `recover` before the next claim).
    """

    @abstractmethod
    def register(self, about: Mapping[str, object]) -> Registration:
        """Create this session's own node, with `about` as JSON, and read the incarnation.

        Raises `QueueError` while no leader has drawn an incarnation.
        """

    @abstractmethod
    def describe(self, registration: Registration, about: Mapping[str, object]) -> None:
        """Write new data to this session's own node, for example that this executor drains."""

    @abstractmethod
    def claim(
        self, registration: Registration, limit: int, skip: Callable[[str], bool]
    ) -> list[QueueClaim]:
        """Claim entries from the head, except those for which `skip` is true.

        Claims up to `limit`, and up to `job_engine.queue.paths.BATCH` in one call.
        """

    @abstractmethod
    def consume(self, claims: Sequence[QueueClaim]) -> None:
        """Delete entries and claim nodes, each pair in one transaction. Idempotent."""

    @abstractmethod
    def release(self, claims: Sequence[QueueClaim]) -> None:
        """Delete the claim nodes, so that others may claim. Idempotent."""

    @abstractmethod
    def recover(self, registration: Registration, held: Sequence[QueueClaim]) -> None:
        """After a lost reply: delete every claim node of this session that is not in `held`."""

    @abstractmethod
    def wait(self, timeout_s: float) -> None:
        """Wait until there may be something to claim, `wake` is called, or `timeout_s` passes.

        The executor that has waited longest is woken first, so call this only when ready to
        claim.
        """

    @abstractmethod
    def stand_aside(self) -> None:
        """Leave the line of idle executors: this one will not claim for a while."""

    @abstractmethod
    def wake(self) -> None:
        """Make `wait` return, from any thread."""


class PushQueue(ABC):
    """The leader's side of the queue; `leader_node` is its own election node.

    Raises `LeadershipLostError` when that node is gone, `QueueError` when no answer
    came: then what was pushed is unknown, and `entries` must be listed first.
    """

    @abstractmethod
    def push(self, leader_node: str, jobs: Sequence[tuple[str, int]]) -> list[str]:
        """Push (job id, priority) pairs in one transaction; return the entries' names."""

    @abstractmethod
    def entries(self) -> set[str]:
        """Return the names of all entries, after a sync: none that was pushed before is missing."""

    @abstractmethod
    def jobs(self, entries: Sequence[str]) -> dict[str, str]:
        """Read the job id of each entry that still exists."""

    @abstractmethod
    def claimed(self) -> set[str]:
        """Return the ids of jobs whose entries are claimed, after a sync."""

    @abstractmethod
    def remove(self, leader_node: str, entry: str) -> bool:
        """Delete an entry unless it is claimed; return whether it was deleted."""
