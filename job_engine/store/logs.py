"""The log lines of jobs: what their runs said, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, insert, select

from job_engine.store.base import Database
from job_engine.store.tables import job_log, jobs

MAX_LINES: Final = 10_000
"""Lines that a job's log keeps; what comes after is dropped, and the last line says so."""
MAX_LINE_CHARS: Final = 4_000


@dataclass(frozen=True)
class LogPage:
    """Lines, and the `after` of the next page."""

    lines: Sequence[str]
    next: int


def append(connection: Connection, job_seq: int, lines: Sequence[str]) -> None:
    """Add lines to a job's log, up to its limits."""
    if not lines:
        return
    last = connection.execute(
        select(func.max(job_log.c.n)).where(job_log.c.job_seq == job_seq)
    ).scalar()
    first = (last or 0) + 1
    room = MAX_LINES - first + 1
    if room <= 0:
        return
    kept = [line[:MAX_LINE_CHARS] for line in lines[:room]]
    if len(lines) >= room:
        kept[-1] = f"(the log is full at {MAX_LINES} lines; the rest is dropped)"
    connection.execute(
        insert(job_log),
        [{"job_seq": job_seq, "n": first + i, "line": line} for i, line in enumerate(kept)],
    )


class Logs:
    """Reading logs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, job_id: str, after: int = 0, limit: int = 1000) -> LogPage:
        """Return up to `limit` lines of a job that follow line number `after`."""
        query = (
            select(job_log.c.n, job_log.c.line)
            .join(jobs, jobs.c.seq == job_log.c.job_seq)
            .where(jobs.c.id == job_id, job_log.c.n > after)
            .order_by(job_log.c.n)
            .limit(limit)
        )
        rows = self._database.read(lambda c: c.execute(query).all())
        return LogPage([row.line for row in rows], rows[-1].n if rows else after)
