"""Writing results of messages: delivered, given up, or to be sent again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, delete, select, update

from job_engine.model import Fence
from job_engine.model.timestamps import format_ms
from job_engine.model.webhooks import SendResult
from job_engine.store.base import Document
from job_engine.store.jobs.outbox import RETRY
from job_engine.store.resources import replace_document
from job_engine.store.tables import resources
from job_engine.store.tables import webhook_outbox as outbox
from job_engine.store.webhooks.turns import free

KEPT_MS: Final = 7 * 86_400_000
"""Milliseconds for which a delivery is kept after it has ended."""
SHOWN: Final = 20
"""Attempts that a delivery lists; the newest ones."""
GONE: Final = 410
"""The status with which a receiver ends all attempts of a message."""
BUSY: Final = frozenset({429, 502, 503, 504})
"""Statuses that are about the receiver, not about the message."""


@dataclass(frozen=True)
class Claimed:
    """The claim that a sender runs under."""

    job: str
    fence: Fence
    by: str | None = None
    """The executor that holds it; None: any."""


@dataclass
class Settlement:
    """Writes the results of one batch."""

    connection: Connection
    claim: Claimed
    now_ms: int
    luck: Callable[[], float]

    def write(self, results: Sequence[SendResult]) -> list[bool]:
        """Write the results whose messages the claim still holds; return which these are."""
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
            end(self.connection, document, self.now_ms, None)
        elif result.refused or result.status == GONE or row["tries_left"] <= 0:
            end(self.connection, document, self.now_ms, _why(result))
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
            # The receiver is unreachable: one message is tried again soon, the others wait.
            same = free(outbox.c.destination == row["destination"], outbox.c.due_ms < due_ms)
            self.connection.execute(update(outbox).where(same).values(due_ms=due_ms))


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


def end(connection: Connection, document: Document, now_ms: int, error: str | None) -> None:
    """End a delivery as delivered, or with an error as failed, and remove its outbox entry."""
    connection.execute(delete(outbox).where(outbox.c.id == document["id"]))
    dropped = ("next-attempt", "error")
    after = {k: v for k, v in document.items() if k not in dropped}
    after["state"] = "DELIVERED" if error is None else "FAILED"
    if error is not None:
        after["error"] = error
    replace_document(connection, after, now_ms, now_ms + KEPT_MS)
