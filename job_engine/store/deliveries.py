"""Deliveries of webhooks as their sender sees them: take what is due, say what became of it.

A message that was handed out is held by the claim it was handed out under. So an executor
that dies with messages in its hands leaves them to the next claim of its job, at once and
without a time of their own (fenced), and what a stale one still says is refused. Whatever
happens, a message that was not seen to arrive is sent again: at least once, always under
the same id.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

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
from job_engine.model.webhooks import ACTION, BATCH, SendResult
from job_engine.store.base import Clock, Database, Document
from job_engine.store.jobs import insert_jobs
from job_engine.store.outbox import RETRY, ensure_sender, new_entry
from job_engine.store.resources import load_resource, replace_document
from job_engine.store.tables import inline, jobs, resources
from job_engine.store.tables import webhook_outbox as outbox

KEPT_MS: Final = 7 * 86_400_000
"""How long a delivery is kept after it has ended."""
SHOWN: Final = 20
"""Newest attempts that a delivery shows."""
DESTINATIONS: Final = 64
"""Destinations that one batch is chosen from."""
GONE: Final = 410
"""What a receiver answers that never wants to hear of it again."""
BUSY: Final = frozenset({429, 502, 503, 504})
"""Answers that are about the receiver, and not about the message."""


@dataclass(frozen=True)
class Claimed:
    """The claim that a sender runs under."""

    job: str
    fence: Fence
    by: str | None = None
    """Who made it; None: anybody."""


@dataclass(frozen=True)
class Taken:
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
        self._after = ""
        self._served: dict[str, str] = {}

    def take(self, claim: Claimed, *, closing: bool = False) -> Sequence[Taken]:
        """Hand out what is due, creator by creator and destination by destination in turn.

        Where nothing is, or the sender is closing, another sender is made for what is left.
        Raises `ConflictError` unless the claim is the newest of a job that sends.
        """

        def unit(connection: Connection) -> Sequence[Taken]:
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
            return _Settlement(connection, claim, now_ms, self._luck).write(results)

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

    def _take(self, connection: Connection, claim: Claimed, now_ms: int) -> list[Taken]:
        chosen = self._choose(connection, now_ms)
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
        here = _free(outbox.c.id.in_(chosen))
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
                _end(connection, document, now_ms, "its secret was deleted")
            else:
                taken.append(Taken(document, row["attempts"], secret))
        # Whose delivery somebody has deleted has nothing to send.
        orphans = set(chosen) - {row["id"] for row in rows}
        connection.execute(delete(outbox).where(outbox.c.id.in_(orphans)))
        return taken or self._take(connection, claim, now_ms)

    def _choose(self, connection: Connection, now_ms: int) -> list[str]:
        """Return what to send: a round for each creator, until the batch is full.

        Of a creator's, one for each destination in turn. So a receiver that has ten thousand
        messages waiting, and does not answer, delays the others by no more than its turns;
        and so does a creator who names ten thousand receivers.
        """
        creators = _creators_after(connection, self._after)
        queues: dict[str, deque[tuple[str, list[str]]]] = {}
        served: dict[str, str] = {}
        for creator in creators:
            last, most = self._served.get(creator, ""), DESTINATIONS // len(creators)
            for destination in _destinations_after(connection, creator, last, most):
                served[creator] = destination  # where nothing is due, the next look goes on there
                here = _free(outbox.c.destination == destination, outbox.c.due_ms <= now_ms)
                due = select(outbox.c.id).where(here).order_by(outbox.c.due_ms).limit(BATCH)
                if ids := list(connection.execute(due).scalars()):
                    queues.setdefault(creator, deque()).append((destination, ids[::-1]))
        self._after, self._served = (creators[-1] if creators else ""), served
        chosen: list[str] = []
        while queues:
            for creator, lines in queues.items():
                destination, ids = lines.popleft()
                chosen.append(ids.pop())
                self._after, served[creator] = creator, destination
                if ids:
                    lines.append((destination, ids))
                if len(chosen) == BATCH:
                    return chosen
            queues = {creator: lines for creator, lines in queues.items() if lines}
        return chosen


@dataclass
class _Settlement:
    """Results that are written together."""

    connection: Connection
    claim: Claimed
    now_ms: int
    luck: Callable[[], float]

    def write(self, results: Sequence[SendResult]) -> list[bool]:
        """Write each one that is still the claim's."""
        rows = self._held([result.delivery for result in results])
        arrived = {
            rows[r.delivery]["destination"] for r in results if r.delivery in rows and _ok(r)
        }
        return [self._settle(rows.get(result.delivery), result, arrived) for result in results]

    def _held(self, ids: Sequence[str]) -> dict[str, Any]:
        held = and_(
            outbox.c.id.in_(ids),
            outbox.c.taken_by == self.claim.job,
            outbox.c.taken_incarnation == self.claim.fence.incarnation,
            outbox.c.taken_czxid == self.claim.fence.czxid,
        )
        found = self.connection.execute(select(outbox).where(held)).mappings()
        return {row["id"]: row for row in found}

    def _settle(self, row: Any, result: SendResult, arrived: set[str]) -> bool:
        if row is None or row["attempts"] != result.attempt:
            return False
        found = select(resources.c.document).where(resources.c.id == result.delivery)
        document = self.connection.execute(found).scalar()
        if document is None:
            self.connection.execute(delete(outbox).where(outbox.c.id == result.delivery))
            return False
        document = _noted(document, result, self.now_ms)
        if _ok(result):
            _end(self.connection, document, self.now_ms, None)
        elif result.refused or result.status == GONE or row["tries_left"] <= 0:
            _end(self.connection, document, self.now_ms, _why(result))
        else:
            self._again(row, document, result, arrived)
        return True

    def _again(self, row: Any, document: Document, result: SendResult, arrived: set[str]) -> None:
        tried = RETRY.max_attempts - row["tries_left"]
        due_ms = self.now_ms + round(RETRY.delay_s(max(tried, 1), self.luck()) * 1000)
        freed = {"taken_by": None, "taken_incarnation": None, "taken_czxid": None}
        here = outbox.c.id == row["id"]
        self.connection.execute(update(outbox).where(here).values(**freed, due_ms=due_ms))
        document |= {"next-attempt": format_ms(due_ms), "error": _why(result)}
        replace_document(self.connection, document, self.now_ms, None)
        away = result.status is None or result.status in BUSY
        if away and row["destination"] not in arrived:
            # Nobody is there: one knocks again, and the others need not.
            same = _free(outbox.c.destination == row["destination"], outbox.c.due_ms < due_ms)
            self.connection.execute(update(outbox).where(same).values(due_ms=due_ms))


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


def _free(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return and_(outbox.c.taken_by.is_(None), *conditions)


def _creators_after(connection: Connection, after: str) -> list[str]:
    """Return the creators that follow one, and then from the first, by hops."""
    # What comes after a blank, with which their destinations begin.
    found = _hop(connection, after + "!", lambda name: name.partition(" ")[0] + "!")
    return [name.partition(" ")[0] for name in found]


def _destinations_after(
    connection: Connection, creator: str, after: str, limit: int
) -> Sequence[str]:
    """Return a creator's destinations that follow one, and then from the first, by hops."""
    ours = and_(outbox.c.destination >= creator, outbox.c.destination < creator + "!")
    return _hop(connection, after, lambda name: name, max(1, limit), ours)


def _hop(
    connection: Connection,
    after: str,
    beyond: Callable[[str], str],
    limit: int = DESTINATIONS,
    among: ColumnElement[bool] | None = None,
) -> Sequence[str]:
    found: list[str] = []
    for start, end in ((after, None), ("", after)):
        last = start
        while len(found) < limit:
            query = select(func.min(outbox.c.destination))
            query = query.where(_free(outbox.c.destination > last))
            if among is not None:
                query = query.where(among)
            if end is not None:
                query = query.where(outbox.c.destination <= end)
            if (name := connection.execute(query).scalar()) is None:
                break
            found.append(name)
            last = beyond(name)
    return found


def _secrets(connection: Connection, ids: set[str]) -> dict[str, str]:
    found = select(resources.c.id, resources.c.secret).where(resources.c.id.in_(ids))
    return {row.id: row.secret for row in connection.execute(found)}


def _ok(result: SendResult) -> bool:
    return result.status is not None and 200 <= result.status < 300


def _why(result: SendResult) -> str:
    return result.error or f"It answered {result.status}."


def _noted(document: Document, result: SendResult, now_ms: int) -> Document:
    """Return a delivery with one more attempt."""
    attempt: Document = {
        "attempt": result.attempt,
        "ended": format_ms(now_ms),
        "duration-ms": result.duration_ms,
    }
    if result.status is not None:
        attempt["status"] = result.status
    else:
        attempt["error"] = result.error or "no reason given"
    log = [*document.get("log", []), attempt][-SHOWN:]
    return {**document, "attempts": result.attempt, "log": log}


def _end(connection: Connection, document: Document, now_ms: int, error: str | None) -> None:
    """Take a delivery out of the outbox, as delivered or, with an error, as failed."""
    connection.execute(delete(outbox).where(outbox.c.id == document["id"]))
    dropped = ("next-attempt", "error")
    after = {k: v for k, v in document.items() if k not in dropped}
    after["state"] = "DELIVERED" if error is None else "FAILED"
    if error is not None:
        after["error"] = error
    replace_document(connection, after, now_ms, now_ms + KEPT_MS)
