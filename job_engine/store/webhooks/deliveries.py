"""Deliveries of webhooks as their sender sees them: take what is due, say what became of it.

A message that was handed out is held by the claim it was handed out under. So an executor
that dies with messages in its hands leaves them to the next claim of its job, at once and
without a time of their own (fenced), and what a stale one still says is refused. Whatever
happens, a message that was not seen to arrive is sent again: at least once, always under
the same id.
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
    """A message that was handed out, and what it is signed with."""

    delivery: Document
    attempt: int
    secret: str


class Deliveries:
    """The outbox, from its other end."""

    def __init__(
        self, database: Database, clock: Clock, luck: Callable[[], float] = random.random
    ) -> None:
        """`luck`, from 0 to 1, is drawn for each wait."""
        self._database = database
        self._clock = clock
        self._luck = luck
        # Who was served last, and which of their destinations: the next batch goes on there.
        self._turns = Turns()

    def take(self, claim: Claimed, *, closing: bool = False) -> Sequence[DueMessage]:
        """Hand out what is due, creator by creator and destination by destination in turn.

        Where nothing is, or the sender is closing, another sender is made for what is left.
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
        """Write what became of messages; false for those that are no longer the claim's.

        Raises `ConflictError` as `take` does.
        """

        def unit(connection: Connection) -> Sequence[bool]:
            now_ms = self._clock()
            _require(connection, claim)
            return Settlement(connection, claim, now_ms, self._luck).write(results)

        return self._database.write(unit)

    def replay(self, delivery_id: str, authorise: Callable[[Document], None]) -> Document:
        """Have a delivery sent again, at once and as often as a new one.

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
        """Have a sender made for what waits, where a cancelled or failed one left it behind."""
        if self._database.read(lambda c: c.execute(select(outbox.c.id).limit(1)).first()) is None:
            return

        def unit(connection: Connection) -> None:
            # One that runs comes to it, or has another made.
            if connection.execute(running_senders()).first() is None:
                _free_lost(connection, None)
                self._hand_over(connection, self._clock())

        self._database.write(unit)

    def _hand_over(self, connection: Connection, now_ms: int) -> None:
        """Have a sender made for what is left, and for when it is due."""
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
        # Another process may be choosing the same: who writes first has it.
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
        # Whose delivery somebody has deleted has nothing to send.
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
    """Return the senders that run."""
    # By its state first: there are as many of those as threads, and any number of an action.
    running = jobs.c.state == inline("RUNNING")
    return select(jobs.c.id).where(running, jobs.c.action == ACTION).limit(1)


def _free_lost(connection: Connection, asking: str | None) -> None:
    """Free what is held by claims that have ended, and by the one that asks for more.

    A sender has told of all it was given before it asks again, so what it still holds was
    in an answer that it never got.
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
