"""The executor's side of the queue, wire-compatible with kazoo's `LockingQueue`.

kazoo's recipe lists everything for every claim, leaves watches behind, and lets all waiters
race for the same node. Here several entries are claimed in one transaction, only the head of
a line of idle executors watches, and an executor that loses a race skips ahead.
Tested against ZooKeeper 3.8 and kazoo 2.11's own `LockingQueue`.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kazoo.exceptions import NoNodeError, NotEmptyError

from job_engine.errors import QueueError, SessionLostError
from job_engine.model import Fence
from job_engine.queue import layout
from job_engine.queue.base import (
    ClaimQueue,
    EntryName,
    QueueClaim,
    Registration,
    in_order,
    job_id_of,
)
from job_engine.queue.lookout import Lookout
from job_engine.queue.multiread import Reading
from job_engine.queue.paths import BATCH, QueuePaths
from job_engine.queue.session import ZooKeeperSession
from job_engine.queue.transaction import GUARD, Outcome, Transaction, answered

LOOK_S: Final = 0.1
"""Seconds for which a listing of the queue is used; urgent entries are not seen meanwhile."""


class ZooKeeperClaimQueue(ClaimQueue):
    """See `ClaimQueue`."""

    def __init__(self, session: ZooKeeperSession, root: str, name: str) -> None:
        self._session = session
        self._paths = QueuePaths(session, root)
        self._name = name
        self._lookout = Lookout(session, layout.line(root))
        self._left: list[EntryName] = []
        self._looked_at = 0.0

    # --- registration ---------------------------------------------------------

    def register(self, about: Mapping[str, object]) -> Registration:
        """See the base class; an existing node of this very session is kept."""
        session_id = self._session.id
        self._paths.ensure(layout.EXECUTORS)
        node = layout.executor(self._name, session_id)
        client = self._session.client
        with answered():
            stat = client.exists(node)
            if stat is None:
                self._create_own(node, session_id, _encode(about))
            elif stat.ephemeralOwner == session_id:
                client.set(node, _encode(about))
            else:
                # kazoo has sent a request of the last session in this one.
                raise SessionLostError
            try:
                data, _ = client.get(layout.INCARNATION)
            except NoNodeError:
                raise QueueError("No leader has drawn an incarnation yet.") from None
        self._session.require(session_id)
        return Registration(session_id, node, int(data))

    def _create_own(self, node: str, session_id: int, data: bytes) -> None:
        """Create this executor's node in this very session, or not at all.

        kazoo may have a new session that has not been noticed yet. A node created in that one
        would vouch for claims of the old session, and their late deletions would hit claims
        of others. So it is created together with a check on a node that certainly belongs to
        this session.
        """
        client = self._session.client
        probe = client.create(f"{layout.EXECUTORS}/probe-", b"", ephemeral=True, sequence=True)
        stat = client.exists(probe)
        if stat is None or stat.ephemeralOwner != session_id:
            raise SessionLostError
        transaction = Transaction(client, probe)
        transaction.create(node, data, ephemeral=True)
        transaction.delete(probe)
        transaction.commit().unless_lost(SessionLostError)

    def describe(self, registration: Registration, about: Mapping[str, object]) -> None:
        """See the base class."""
        self._session.require(registration.session_id)
        with answered():
            # Called while stopping, so do not wait for a ZooKeeper that is gone.
            self._session.client.set_async(registration.node, _encode(about)).get(timeout=1.0)

    # --- claiming -------------------------------------------------------------

    def claim(
        self, registration: Registration, limit: int, skip: Callable[[str], bool]
    ) -> list[QueueClaim]:
        """See the base class."""
        self._session.require(registration.session_id)
        limit = min(limit, BATCH)
        waiting = self._left_over(limit, skip)
        claims = self._take(registration, waiting[:limit]) if waiting else None
        if claims is None:
            waiting = self._waiting(limit, skip)
            if not waiting:
                return []
            claims = self._take(registration, waiting[:limit])
        self._left = waiting[limit:] if claims is not None else []
        if claims is None:
            claims = self._claim_singly(registration, waiting, limit)
        self._lookout.claimed(len(waiting), len(claims), limit)
        return claims

    def _left_over(self, limit: int, skip: Callable[[str], bool]) -> list[EntryName]:
        """Return entries that the last listing left over, if they are enough for a claim.

        Listing a full window costs as much as claiming from it. If another executor was
        faster, the claim fails.
        """
        left, self._left = self._left, []
        if len(left) < limit or time.monotonic() - self._looked_at > LOOK_S:
            return []
        return [entry for entry in left if not skip(entry.text)]

    def _waiting(self, limit: int, skip: Callable[[str], bool]) -> list[EntryName]:
        """Return unclaimed entries in order, except those for which `skip` is true."""
        on_entries, on_taken = self._lookout.look()
        client = self._session.client
        with answered():
            # Both are sent before either is awaited. Claims first: otherwise an entry that is
            # consumed between the two reads would look unclaimed.
            claimed = client.get_children_async(self._paths.taken, watch=on_taken)
            entries = client.get_children_async(self._paths.entries, watch=on_entries)
            taken = set(claimed.get())
            names = entries.get()
        free = [name for name in names if name not in taken]
        skipped = {name for name in free if skip(name)}
        waiting = in_order([name for name in free if name not in skipped])
        self._lookout.found(names, skipped, surplus=len(waiting) > limit)
        self._looked_at = time.monotonic()
        return waiting

    def _take(
        self, registration: Registration, entries: Sequence[EntryName]
    ) -> list[QueueClaim] | None:
        """Create the claim nodes of all `entries`, or of none and return None.

        Returns the claims whose entries still exist, and releases the others. A transaction
        has one zxid, so the fence of one node is that of all.
        """
        transaction = Transaction(self._session.client, registration.node)
        for entry in entries:
            transaction.check(self._paths.entry(entry.text))
            transaction.create(self._paths.claim(entry.text), self._name.encode(), ephemeral=True)
        pending = transaction.send()
        # Sent before the transaction is answered, and answered after it.
        read = [self._paths.claim(entries[0].text), *(self._paths.entry(e.text) for e in entries)]
        reading = Reading(self._session.client, read)
        if not pending.outcome().unless_lost(SessionLostError).done:
            return None  # another executor was faster
        first, *nodes = reading.nodes()
        if first is None or first.stat.ephemeralOwner != registration.session_id:
            # This executor's node was deleted from outside. `recover` finds the other claims.
            raise QueueError("A claim was gone as soon as it was made.")
        fence = Fence(registration.incarnation, first.stat.czxid)
        claims = [
            QueueClaim(entry.text, job_id_of(node.data) if node else "", fence, registration)
            for entry, node in zip(entries, nodes, strict=True)
        ]
        # A foreign consumer may delete entries without looking at claims.
        self.release([claim for claim in claims if not claim.job_id])
        return [claim for claim in claims if claim.job_id]

    def _claim_singly(
        self, registration: Registration, waiting: Sequence[EntryName], limit: int
    ) -> list[QueueClaim]:
        """Claim one entry at a time after a lost race, skipping ahead at random."""
        claims: list[QueueClaim] = []
        position = 0
        # Lost races show how many rivals there are; counting them would need a long listing.
        rivals = 1
        while position < len(waiting) and len(claims) < limit:
            got = self._take(registration, [waiting[position]])
            if got is not None:
                claims += got
                position += 1
            else:
                rivals = min(2 * rivals, BATCH)
                position += random.randint(1, rivals)
        return claims

    # --- consuming and releasing ----------------------------------------------

    def consume(self, claims: Sequence[QueueClaim]) -> None:
        """See the base class."""
        for registration, batch in _batches(claims):
            self._session.require(registration.session_id)
            transaction = Transaction(self._session.client, registration.node)
            for claim in batch:
                transaction.delete(self._paths.entry(claim.entry))
                transaction.delete(self._paths.claim(claim.entry))
            if not transaction.commit().unless_lost(SessionLostError).done:
                for claim in batch:
                    self._consume_one(claim)

    def _consume_one(self, claim: QueueClaim) -> None:
        outcome = self._try_to_consume(claim)
        if isinstance(outcome.error, NotEmptyError):
            # As long as it stays it is claimed, answered and given back, over and over.
            self._paths.empty(claim.entry)
            outcome = self._try_to_consume(claim)
        if outcome.failed == GUARD + 1:
            self._release_one(claim)  # the entry was gone: only the claim is left

    def _try_to_consume(self, claim: QueueClaim) -> Outcome:
        transaction = Transaction(self._session.client, claim.registration.node)
        transaction.delete(self._paths.entry(claim.entry))
        transaction.delete(self._paths.claim(claim.entry))
        return transaction.commit().unless_lost(SessionLostError)

    def release(self, claims: Sequence[QueueClaim]) -> None:
        """See the base class."""
        for registration, batch in _batches(claims):
            self._session.require(registration.session_id)
            held = self._still_held(batch)
            transaction = Transaction(self._session.client, registration.node)
            for claim in held:
                transaction.delete(self._paths.claim(claim.entry))
            if not transaction.commit().unless_lost(SessionLostError).done:
                for claim in held:
                    self._release_one(claim)

    def _release_one(self, claim: QueueClaim) -> None:
        if not self._still_held([claim]):
            return
        transaction = Transaction(self._session.client, claim.registration.node)
        transaction.delete(self._paths.claim(claim.entry))
        transaction.commit().unless_lost(SessionLostError)

    def _still_held(self, claims: Sequence[QueueClaim]) -> list[QueueClaim]:
        """Return the claims whose nodes are still the ones that were created.

        A release whose reply was lost is repeated, and by then the entry may be claimed
        again, perhaps by this very session. ZooKeeper deletes nodes by name, regardless of their
        owner, so the czxid is checked first. While the node is ours, it cannot be replaced.
        """
        reading = Reading(self._session.client, [self._paths.claim(c.entry) for c in claims])
        held = [
            claim
            for claim, node in zip(claims, reading.nodes(), strict=True)
            if node is not None and node.stat.czxid == claim.fence.czxid
        ]
        return held

    def recover(self, registration: Registration, held: Sequence[QueueClaim]) -> None:
        """See the base class."""
        self._session.require(registration.session_id)
        keep = {claim.entry for claim in held}
        client = self._session.client
        with answered():
            client.sync(self._paths.taken)
            names = [n for n in client.get_children(self._paths.taken) if n not in keep]
        nodes = Reading(client, [self._paths.claim(name) for name in names]).nodes()
        lost = [
            QueueClaim(name, "", Fence(registration.incarnation, node.stat.czxid), registration)
            for name, node in zip(names, nodes, strict=True)
            if node and node.stat.ephemeralOwner == registration.session_id
        ]
        self.release(lost)

    # --- waiting --------------------------------------------------------------

    def wait(self, timeout_s: float) -> None:
        """See the base class."""
        self._lookout.wait(timeout_s)

    def stand_aside(self) -> None:
        """See the base class."""
        self._lookout.stand_aside()

    def wake(self) -> None:
        """See the base class."""
        self._lookout.wake()


def _batches(
    claims: Sequence[QueueClaim],
) -> list[tuple[Registration, Sequence[QueueClaim]]]:
    """Split claims into transactions, each of one registration and up to `BATCH` claims."""
    by_registration: dict[Registration, list[QueueClaim]] = {}
    for claim in claims:
        by_registration.setdefault(claim.registration, []).append(claim)
    return [
        (registration, held[start : start + BATCH])
        for registration, held in by_registration.items()
        for start in range(0, len(held), BATCH)
    ]


def _encode(about: Mapping[str, Any]) -> bytes:
    return json.dumps(about, separators=(",", ":")).encode()
