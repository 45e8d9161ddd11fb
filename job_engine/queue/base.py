"""What a locking queue does for the engine, and the values it deals in."""

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
    @lru_cache(maxsize=4096)  # one look at a queue finds most of what the last one found
    def parse(text: str) -> EntryName | None:
        """Parse a node's name; None for one that is no entry."""
        match = _ENTRY.match(text)
        return EntryName(int(match[1]), int(match[2]), text) if match else None


def in_order(names: Sequence[str]) -> list[EntryName]:
    """Sort entries as they are to be worked off: priority, then sequence modulo 2³².

    The entries of a window lie close together on the circle of sequences, so the
    one that the others are measured from hardly matters; names that are no entries
    are left out.
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
    text = data.decode("utf-8", "replace").strip()
    return text if text.startswith("job/") else f"job/{text}"


@dataclass(frozen=True)
class Registration:
    """This process among the executors, for the life of one ZooKeeper session."""

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


Ahead = Callable[[], list[QueueClaim]]
"""Collects the claims that `claim_ahead` began to make; none where somebody was faster."""


class ClaimQueue(ABC):
    """The executor's side of the queue. Called by one claimer thread, but for `wake`.

    Every method may raise `SessionLostError` (nothing of this session holds any
    more) or `QueueError` (no answer; call `recover` before the next claim).
    """

    @abstractmethod
    def register(self, about: Mapping[str, object]) -> Registration:
        """Create this session's own node, with `about` as JSON, and read the incarnation.

        Raises `QueueError` while no leader has drawn an incarnation.
        """

    @abstractmethod
    def describe(self, registration: Registration, about: Mapping[str, object]) -> None:
        """Write new data to the own node (for example that this executor drains)."""

    @abstractmethod
    def claim(
        self, registration: Registration, limit: int, skip: Callable[[str], bool]
    ) -> list[QueueClaim]:
        """Claim up to `limit` entries from the head, but those whose name `skip` accepts."""

    @abstractmethod
    def claim_ahead(
        self, registration: Registration, limit: int, skip: Callable[[str], bool]
    ) -> Ahead | None:
        """Begin to claim what the last look left over, `limit` entries of it, without waiting.

        None where that is not enough, or too old. Before the next call of this object's,
        but for `consume` and `release`, the claims have to be collected.
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
        """Return when it is time to claim again: there may be something, or on `wake`.

        Who waits longest is told first, so whoever waits must be about to claim.
        """

    @abstractmethod
    def stand_aside(self) -> None:
        """Claim nothing for a while: what comes in is for others to hear of."""

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
        """Names of all entries, after a sync: nothing that was pushed before is missing."""

    @abstractmethod
    def jobs(self, entries: Sequence[str]) -> dict[str, str]:
        """Read the job id of each entry that still exists."""

    @abstractmethod
    def claimed(self) -> set[str]:
        """Ids of the jobs whose entries somebody has claimed, after a sync."""

    @abstractmethod
    def remove(self, leader_node: str, entry: str) -> bool:
        """Delete an entry unless it is claimed; return whether it was deleted."""
