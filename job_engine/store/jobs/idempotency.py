"""Idempotency keys: a repeated create answers with the jobs that the first one created.

The key is stored in the transaction that creates the jobs, so there are both or neither. It
is a primary key, so of two requests at the same time only one creates jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, insert, select
from sqlalchemy.exc import IntegrityError

from job_engine.errors import ConflictError, StoreError
from job_engine.store.audit import Also, nothing
from job_engine.store.base import Clock, Database, Document
from job_engine.store.jobs.inserts import insert_jobs
from job_engine.store.tables import idempotency_keys as keys

KEPT_MS: Final = 24 * 3_600_000
"""Milliseconds for which a key is remembered."""
_BATCH: Final = 500


class KeyReusedError(StoreError):
    """This `Idempotency-Key` was used for another request; use a new key for a new one."""


@dataclass(frozen=True)
class OnceKey:
    """Identifies a request: whose it is, its key, and a digest of what it asks for."""

    owner: str
    key: str
    digest: str


class Idempotency:
    """Stores keys with the ids of the jobs that were created under them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def find(self, once: OnceKey) -> Sequence[str] | None:
        """Return the ids of the jobs that were created under a key; None for a new key.

        Raises `KeyReusedError` if the key was used for another request.
        """
        return self._database.read(lambda c: _find(c, once, self._clock()))

    def add_many(
        self, documents: Sequence[Document], once: OnceKey, also: Also = nothing
    ) -> Sequence[str] | None:
        """Store new jobs as `Jobs.add_many` does, unless the key is known.

        Returns the ids of the jobs created earlier, or None if they are created now.
        Raises `KeyReusedError`, and what `Jobs.add_many` raises.
        """

        def unit(connection: Connection) -> Sequence[str] | None:
            now_ms = self._clock()
            if (made := _find(connection, once, now_ms)) is not None:
                return made
            _remember(connection, once, [d["id"] for d in documents], now_ms)
            insert_jobs(connection, documents, now_ms)
            also(connection)
            return None

        return self._database.write(unit)

    def forget_old(self) -> int:
        """Delete old keys; return how many there were."""
        before_ms = self._clock() - KEPT_MS
        forgotten = 0
        while self._database.read(lambda c: c.execute(_old(before_ms, 1)).first()):
            forgotten += self._database.write(partial(_forget, before_ms))
        return forgotten


def _find(connection: Connection, once: OnceKey, now_ms: int) -> Sequence[str] | None:
    row = connection.execute(select(keys).where(_is(once))).first()
    if row is None or row.created_ms <= now_ms - KEPT_MS:
        return None
    if row.digest != once.digest:
        raise KeyReusedError
    return list(row.jobs)


def _remember(connection: Connection, once: OnceKey, ids: Sequence[str], now_ms: int) -> None:
    connection.execute(delete(keys).where(_is(once)))  # an old key that is not deleted yet
    row = {"owner": once.owner, "key": once.key, "digest": once.digest}
    try:
        connection.execute(insert(keys).values(**row, jobs=list(ids), created_ms=now_ms))
    except IntegrityError as error:
        # Only with several writers: the other request has just created the jobs.
        raise ConflictError("The same request is being served; send it again.") from error


def _forget(before_ms: int, connection: Connection) -> int:
    found = connection.execute(_old(before_ms, _BATCH)).all()
    for owner, key in found:
        connection.execute(delete(keys).where(keys.c.owner == owner, keys.c.key == key))
    return len(found)


def _old(before_ms: int, limit: int) -> Select[Any]:
    return select(keys.c.owner, keys.c.key).where(keys.c.created_ms <= before_ms).limit(limit)


def _is(once: OnceKey) -> ColumnElement[bool]:
    return and_(keys.c.owner == once.owner, keys.c.key == once.key)
