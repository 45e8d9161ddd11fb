"""The table of jobs. Attributes that have a column are not in the JSON.

The hot paths use partial indexes: the feed reads `jobs_ready`, which contains no job that is
running, pushed, finished or not due; see `jobs/feed.py`.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Index,
    Table,
    and_,
    false,
)

from job_engine.store.tables.columns import (
    BIG,
    DOCUMENT,
    INT,
    TEXT,
    inline,
    metadata,
    partial_index,
)

jobs: Final = Table(
    "jobs",
    metadata,
    # Order of creation, also within one millisecond; numbers are never reused.
    Column("seq", BIG, primary_key=True, autoincrement=True),
    Column("id", TEXT, nullable=False, unique=True),
    Column("action", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("priority", INT, nullable=False),
    Column("given_priority", INT),
    Column("execution_mode", TEXT, nullable=False),
    Column("version", INT, nullable=False),
    Column("progress", INT, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("expiry_ms", BigInteger),
    Column("status_changed_ms", BigInteger),
    Column("not_before_ms", BigInteger),
    Column("entry", TEXT),
    Column("share", TEXT, nullable=False),
    Column("fence_incarnation", BigInteger),
    Column("fence_czxid", BigInteger),
    Column("resumed", Boolean, nullable=False),
    Column("claimed_by", TEXT),
    Column("attempts", INT, nullable=False),
    Column("interruptions", INT, nullable=False),
    Column("parent", TEXT),
    Column("parent_job", TEXT),
    Column("target_href", TEXT),
    Column("created_by", TEXT),
    Column("updated_by", TEXT),
    Column("scheduled_tick_ms", BigInteger),
    Column("return_code", BigInteger),
    Column("duration", BigInteger),
    # Large ones last: a row's hot columns then stay on its first page.
    Column("document", DOCUMENT, nullable=False),
    Column("status_message", TEXT),
    Column("payload", TEXT),
    Column("output", TEXT),
    # When the newest claim was made.
    Column("claimed_ms", BigInteger),
    # Whether it has callbacks; if not, the outbox is not looked at.
    Column("notifies", Boolean, nullable=False, server_default=false()),
    # Digest of its ACL; see `access/audiences.py`.
    Column("audience", TEXT, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)


def _unpushed() -> ColumnElement[bool]:
    return and_(
        jobs.c.state == inline("QUEUED"),
        jobs.c.entry.is_(None),
        jobs.c.execution_mode != inline("pull"),
    )


def is_ready() -> ColumnElement[bool]:
    """Due and not pushed: the jobs that the feed chooses from."""
    return and_(_unpushed(), jobs.c.not_before_ms.is_(None))


def is_retrying() -> ColumnElement[bool]:
    """Not pushed, with a time before which it must not run."""
    return and_(_unpushed(), jobs.c.not_before_ms.is_not(None))


def is_waiting() -> ColumnElement[bool]:
    """Pushed and not claimed: the jobs in the window."""
    return and_(jobs.c.state == inline("QUEUED"), jobs.c.entry.is_not(None))


def is_expiring() -> ColumnElement[bool]:
    """Waiting, with an `expiry` at which it fails."""
    return and_(jobs.c.state == inline("QUEUED"), jobs.c.expiry_ms.is_not(None))


def is_unfinished() -> ColumnElement[bool]:
    """Not in a final state."""
    return jobs.c.state.in_([inline("QUEUED"), inline("RUNNING")])


def holds_entry() -> ColumnElement[bool]:
    """Unfinished, with a queue entry (not a job in pull mode)."""
    return and_(is_unfinished(), jobs.c.entry.is_not(None), jobs.c.execution_mode != inline("pull"))


_c = jobs.c
partial_index(
    "jobs_ready",
    *_c["action", "priority", "share", "version", "created_ms", "seq"],
    where=is_ready(),
)
partial_index("jobs_retrying", _c.action, _c.not_before_ms, where=is_retrying())
partial_index("jobs_waiting", _c.action, _c.priority, _c.version, where=is_waiting())
# Starts with the state: otherwise SQLite chooses another index with the state, and reads every
# waiting job.
partial_index("jobs_expiring", _c.state, _c.expiry_ms, where=is_expiring())
partial_index("jobs_entries", _c.action, _c.id, where=holds_entry())
partial_index(
    "jobs_tick",
    _c.action,
    _c.scheduled_tick_ms,
    where=_c.scheduled_tick_ms.is_not(None),
    unique=True,
)
partial_index(
    "jobs_scheduled_once",
    _c.action,
    where=and_(_c.scheduled_tick_ms.is_not(None), is_unfinished()),
    unique=True,
)
partial_index("jobs_parent_job", _c.parent_job, where=_c.parent_job.is_not(None))
partial_index("jobs_target", _c.target_href, where=_c.target_href.is_not(None))
Index("jobs_state_created", _c.state, _c.created_ms)
Index("jobs_created", _c.created_ms)
# For searches: compared columns first, then those to sort by. On PostgreSQL without waiting jobs,
# because its planner would use the index for the feed, and sort the whole backlog.
Index(
    "jobs_action",
    *_c["action", "state", "created_ms"],
    postgresql_where=_c.state != inline("QUEUED"),
)
SEARCHED_ACTION: Final[ColumnElement[str]] = _c.action.concat(inline(""))
"""An expression equal to the action, which only searches on PostgreSQL use, so that the feed
cannot choose their index."""
Index("jobs_searched", SEARCHED_ACTION, _c.created_ms, _table=jobs).ddl_if(dialect="postgresql")
Index("jobs_audience", _c.audience, _c.created_ms)
partial_index("jobs_parent", _c.parent, _c.created_ms, _c.state, where=_c.parent.is_not(None))
