"""Logs and streams of jobs.

A log has lines for people. A stream has the same lines, and between them notes for programs,
such as a test that has passed. An offset counts the lines and notes before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, func, insert, select

from job_engine.model.protocol.claims import JobNote
from job_engine.store.base import Database, announce
from job_engine.store.prepared import PreparedRead, PreparedWrite
from job_engine.store.tables import job_log, job_notes, jobs

MAX_LINES: Final = 10_000
"""Lines of a job's log that are kept; the last one says that the rest was dropped."""
MAX_LINE_CHARS: Final = 4_000
MAX_NOTES: Final = 6_000
"""Notes of a job's stream that are kept."""
MAX_NOTE_CHARS: Final = 16_000
LOG: Final = "log"
"""The kind of a stream's item that is a line of the log."""
LOG_TOPIC: Final = "log"
"""Topic that is announced when the log or stream of any job has grown."""

_OFFSET: Final = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})")


@dataclass(frozen=True)
class Offset:
    """A position in a stream: after so many lines and so many notes."""

    line: int = 0
    note: int = 0

    @classmethod
    def parse(cls, text: str) -> Offset | None:
        """Parse what `str` wrote; return None for anything else."""
        match = _OFFSET.fullmatch(text)
        return cls(int(match[1]), int(match[2])) if match else None

    def __str__(self) -> str:
        return f"{self.line}.{self.note}"


@dataclass(frozen=True)
class StreamItem:
    """A line of the log, or a note, whose `text` is JSON."""

    offset: Offset
    """The position after it."""
    kind: str
    text: str
    staff: bool


@dataclass(frozen=True)
class StreamPage:
    """A page of a stream, and the position at which the next page begins."""

    items: Sequence[StreamItem]
    next: Offset


@dataclass(frozen=True)
class LogPage:
    """A page of lines, and the `after` of the next page."""

    lines: Sequence[str]
    next: int


def append(
    connection: Connection, job_seq: int, lines: Sequence[str], notes: Sequence[JobNote] = ()
) -> None:
    """Append lines to a job's log, and notes to its stream, up to the limits of each."""
    before = _LAST_LINE.scalar(connection, seq=job_seq) or 0 if lines or notes else 0
    if lines:
        _append_lines(connection, job_seq, before, lines)
    if notes:
        _append_notes(connection, job_seq, before, notes)
    if lines or notes:
        announce(connection, LOG_TOPIC)


def _append_lines(connection: Connection, job_seq: int, last: int, lines: Sequence[str]) -> None:
    room = MAX_LINES - last
    if room <= 0:
        return
    kept = [line[:MAX_LINE_CHARS] for line in lines[:room]]
    if len(lines) >= room:
        kept[-1] = f"(the log is full at {MAX_LINES} lines; the rest is dropped)"
    _ADD_LINES.later(
        connection,
        [{"job_seq": job_seq, "n": last + i, "line": line} for i, line in enumerate(kept, 1)],
    )


def _append_notes(
    connection: Connection, job_seq: int, last_line: int, notes: Sequence[JobNote]
) -> None:
    last = _LAST_NOTE.scalar(connection, seq=job_seq) or 0
    # More notes are dropped: the job's results have the same information.
    kept = [note for note in notes if len(note.data) <= MAX_NOTE_CHARS][: MAX_NOTES - last]
    if last >= MAX_NOTES or not kept:
        return
    _ADD_NOTES.later(
        connection,
        [
            {
                "job_seq": job_seq,
                "n": last + i,
                "line": min(last_line + note.after, MAX_LINES),
                "kind": note.kind,
                "staff": note.staff,
                "data": note.data,
            }
            for i, note in enumerate(kept, 1)
        ],
    )


def _last(table: Table) -> PreparedRead:
    return PreparedRead(select(func.max(table.c.n)).where(table.c.job_seq == bindparam("seq")))


_LAST_LINE: Final = _last(job_log)
_LAST_NOTE: Final = _last(job_notes)
_ADD_LINES: Final = PreparedWrite(insert(job_log), ("job_seq", "n", "line"))
_ADD_NOTES: Final = PreparedWrite(
    insert(job_notes), ("job_seq", "n", "line", "kind", "staff", "data")
)


class Logs:
    """Reads logs and streams."""

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

    def stream(self, job_id: str, after: Offset, *, staff: bool, limit: int = 1000) -> StreamPage:
        """Return lines and notes of a job that follow an offset, in order.

        Without `staff`, notes for those who manage the job are left out.
        """
        of_job = select(jobs.c.seq).where(jobs.c.id == job_id).scalar_subquery()
        lines = (
            select(job_log.c.n, job_log.c.line)
            .where(job_log.c.job_seq == of_job, job_log.c.n > after.line)
            .order_by(job_log.c.n)
            .limit(limit)
        )
        notes = (
            select(*job_notes.c["n", "line", "kind", "data", "staff"])
            .where(job_notes.c.job_seq == of_job, job_notes.c.n > after.note)
            .order_by(job_notes.c.n)
            .limit(limit)
        )
        found = self._database.read(lambda c: (c.execute(lines).all(), c.execute(notes).all()))
        merged = _in_order(after, *found, limit)
        items = [item for item in merged if staff or not item.staff]
        return StreamPage(items, merged[-1].offset if merged else after)


def _in_order(
    after: Offset, lines: Sequence[Any], notes: Sequence[Any], limit: int
) -> list[StreamItem]:
    """Merge notes and lines, each note after the line that it followed."""
    # If one of the pages is full, what follows its last item is unknown.
    if len(lines) == limit:
        notes = [note for note in notes if note.line <= lines[-1].n]
    if len(notes) == limit:
        lines = [line for line in lines if line.n <= notes[-1].line]
    keyed = [((row.n, 0), row) for row in lines] + [((row.line, row.n), row) for row in notes]
    merged: list[StreamItem] = []
    for (_, note), row in sorted(keyed, key=lambda pair: pair[0]):
        if note:
            after = Offset(after.line, note)
            merged.append(StreamItem(after, row.kind, row.data, row.staff))
        else:
            after = Offset(row.n, after.note)
            merged.append(StreamItem(after, LOG, row.line, staff=False))
    return merged
