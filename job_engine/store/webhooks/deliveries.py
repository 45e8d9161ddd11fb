"""Deliveries for the action that sends webhooks: take due messages, settle their results.

A message that was handed out is held by the claim of the sending job (fenced). If the
executor dies, the next claim of the job gets the message at once, without a lease of its own,
and results of the stale claim are refused. A message whose arrival was not reported is sent
again under the same id: delivery is at least once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from job_engine.errors import ConflictError
from job_engine.model import Fence, JobState
from job_engine.model.timestamps import format_ms
from job_engine.model.webhooks import ACTION, SendResult
from job_engine.store.base import Clock, Database, Document
from job_engine.store.jobs.inserts import insert_jobs
from job_engine.store.jobs.outbox import ensure_sender, new_entry
from job_engine.store.resources import load_resource, replace_document
from job_engine.store.tables import inline, jobs, resources
from job_engine.store.tables import webhook_outbox as outbox
from job_engine.store.webhooks.results import Claimed, Settlement, end
from job_engine.store.webhooks.turns import Turns, free


@dataclass(frozen=True)
class DueMessage:
    """A message that was handed out, with the secret that signs it."""

    delivery: Document
    attempt: int
    secret: str


class Deliveries:
    """Hands out messages of the outbox, and takes in results."""

    def __init__(
        self, database: Database, clock: Clock, luck: Callable[[], float] = random.random
    ) -> None:
        """`luck` returns a random number from 0 to 1, drawn for each delay."""
        self._database = database
        self._clock = clock
        self._luck = luck
        # Remembers the last creator and destination; the next batch continues there.
        self._turns = Turns()

    def take(self, claim: Claimed, *, closing: bool = False) -> Sequence[DueMessage]:
        """Hand out what is due, creator by creator and destination by destination in turn.

        If nothing is due, or the sender is closing, another sending job is created for the rest.
        Raises `ConflictError` unless the claim is the newest of a job that sends.
        """

        def unit(connection: Connection) -> Sequence[DueMessage]:
            now_ms = self._clock()
            _require(connection, claim)
            _free_lost(connection, claim.job)
            taken = [] if closing else self._take(connection, claim, now_ms)
            if not taken:
                self._hand_over(connection, now_ms)
            return taken

        return self._database.write(unit)

    def settle(self, claim: Claimed, results: Sequence[SendResult]) -> Sequence[bool]:
        """Write the results of messages; false for messages that the claim no longer holds.

        Raises `ConflictError` as `take` does.
        """

        def unit(connection: Connection) -> Sequence[bool]:
            now_ms = self._clock()
            _require(connection, claim)
            return Settlement(connection, claim, now_ms, self._luck).write(results)

        return self._database.write(unit)

    def replay(self, delivery_id: str, authorise: Callable[[Document], None]) -> Document:
        """Have a delivery sent again at once, with as many attempts as a new one.

        Raises `NotFoundError`, and what `authorise` raises.
        """

        def unit(connection: Connection) -> Document:
            now_ms = self._clock()
            before = load_resource(connection, delivery_id).document
            authorise(before)
            connection.execute(delete(outbox).where(outbox.c.id == delivery_id))
            connection.execute(insert(outbox).values(new_entry(before, now_ms)))
            ensure_sender(connection, now_ms, now_ms, insert_jobs)
            after = {**before, "state": "PENDING", "next-attempt": format_ms(now_ms)}
            return replace_document(connection, after, now_ms, None)

        return self._database.write(unit)

    def watch_over(self) -> None:
        """Create a sending job for messages that a cancelled or failed one left behind."""
        if self._database.read(lambda c: c.execute(select(outbox.c.id).limit(1)).first()) is None:
            return

        def unit(connection: Connection) -> None:
            # A running one takes them, or creates the next one.
            if connection.execute(running_senders()).first() is None:
                _free_lost(connection, None)
                self._hand_over(connection, self._clock())

        self._database.write(unit)

    def _hand_over(self, connection: Connection, now_ms: int) -> None:
        """Create a sending job for the remaining messages, for the time when they are due."""
        left = select(func.min(outbox.c.due_ms)).where(outbox.c.taken_by.is_(None))
        due_ms = connection.execute(left).scalar()
        if due_ms is not None:
            ensure_sender(connection, max(due_ms, now_ms), now_ms, insert_jobs)

    def _take(self, connection: Connection, claim: Claimed, now_ms: int) -> list[DueMessage]:
        chosen = self._turns.choose(connection, now_ms)
        if not chosen:
            return []
        mine = {
            "taken_by": claim.job,
            "taken_incarnation": claim.fence.incarnation,
            "taken_czxid": claim.fence.czxid,
            "attempts": outbox.c.attempts + 1,
            "tries_left": outbox.c.tries_left - 1,
        }
        # Another process may choose the same messages; the first to write gets them.
        here = free(outbox.c.id.in_(chosen))
        taking = update(outbox).where(here).values(mine).returning(outbox.c.id)
        chosen = list(connection.execute(taking).scalars())
        found = select(resources, outbox.c.attempts).join(outbox, outbox.c.id == resources.c.id)
        rows = connection.execute(found.where(outbox.c.id.in_(chosen))).mappings().all()
        secrets = _secrets(connection, {row["document"]["secret"] for row in rows})
        taken = []
        for row in rows:
            document = row["document"]
            secret = secrets.get(document["secret"])
            if secret is None:
                end(connection, document, now_ms, "its secret was deleted")
            else:
                taken.append(DueMessage(document, row["attempts"], secret))
        # A message whose delivery was deleted is not sent.
        orphans = set(chosen) - {row["id"] for row in rows}
        connection.execute(delete(outbox).where(outbox.c.id.in_(orphans)))
        return taken or self._take(connection, claim, now_ms)


def _require(connection: Connection, claim: Claimed) -> None:
    """Raise `ConflictError` unless a claim is the newest of a job that sends."""
    found = select(jobs.c.id).where(
        jobs.c.id == claim.job, jobs.c.action == ACTION, _runs_under(claim.fence)
    )
    if claim.by is not None:
        found = found.where(jobs.c.claimed_by == claim.by)
    if connection.execute(found).first() is None:
        raise ConflictError(f"{claim.job} does not run under this claim, or sends no webhooks")


def _runs_under(fence: Fence) -> ColumnElement[bool]:
    return and_(
        jobs.c.state == JobState.RUNNING,
        jobs.c.fence_incarnation == fence.incarnation,
        jobs.c.fence_czxid == fence.czxid,
    )


def running_senders() -> Select[Any]:
    """Select a running job of the sending action."""
    # By state first: few jobs run, but the action may have any number of jobs.
    running = jobs.c.state == inline("RUNNING")
    return select(jobs.c.id).where(running, jobs.c.action == ACTION).limit(1)


def _free_lost(connection: Connection, asking: str | None) -> None:
    """Free messages held by claims that have ended, and by the claim that asks for more.

    A sender reports all its messages before it asks again, so what it still holds was in a
    reply that it never received.
    """
    runs = exists().where(
        jobs.c.id == outbox.c.taken_by,
        jobs.c.state == JobState.RUNNING,
        jobs.c.fence_incarnation == outbox.c.taken_incarnation,
        jobs.c.fence_czxid == outbox.c.taken_czxid,
    )
    freed = {"taken_by": None, "taken_incarnation": None, "taken_czxid": None}
    lost = and_(outbox.c.taken_by.is_not(None), or_(~runs, outbox.c.taken_by == asking))
    connection.execute(update(outbox).where(lost).values(freed))


def _secrets(connection: Connection, ids: set[str]) -> dict[str, str]:
    found = select(resources.c.id, resources.c.secret).where(resources.c.id.in_(ids))
    return {row.id: row.secret for row in connection.execute(found)}
