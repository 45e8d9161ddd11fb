"""The tables. What a row of `jobs` says in a column, its JSON does not say again.

Partial indexes carry the hot paths: the feed reads `jobs_ready` from its start and
never meets a job that is running, pushed, finished or not due; see `feed.py`.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    false,
    literal_column,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata: Final = MetaData()

_BIG = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER is a rowid there
# Of 64 bits everywhere; SQLite's always are.
_INT = Integer().with_variant(BigInteger(), "postgresql")
# Compared and ordered by code point, whatever language a server speaks.
_TEXT = Text().with_variant(Text(collation="C"), "postgresql")
_JSON = JSON().with_variant(JSONB(), "postgresql")

jobs: Final = Table(
    "jobs",
    metadata,
    # Creation order, also within one millisecond; never used again.
    Column("seq", _BIG, primary_key=True, autoincrement=True),
    Column("id", _TEXT, nullable=False, unique=True),
    Column("action", _TEXT, nullable=False),
    Column("state", _TEXT, nullable=False),
    Column("priority", _INT, nullable=False),
    Column("given_priority", _INT),
    Column("execution_mode", _TEXT, nullable=False),
    Column("version", _INT, nullable=False),
    Column("progress", _INT, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("expiry_ms", BigInteger),
    Column("status_changed_ms", BigInteger),
    Column("not_before_ms", BigInteger),
    Column("entry", _TEXT),
    Column("share", _TEXT, nullable=False),
    Column("fence_incarnation", BigInteger),
    Column("fence_czxid", BigInteger),
    Column("resumed", Boolean, nullable=False),
    Column("claimed_by", _TEXT),
    Column("attempts", _INT, nullable=False),
    Column("interruptions", _INT, nullable=False),
    Column("parent", _TEXT),
    Column("parent_job", _TEXT),
    Column("target_href", _TEXT),
    Column("created_by", _TEXT),
    Column("updated_by", _TEXT),
    Column("scheduled_tick_ms", BigInteger),
    Column("return_code", BigInteger),
    Column("duration", BigInteger),
    # Large ones last: a row's hot columns then stay on its first page.
    Column("document", _JSON, nullable=False),
    Column("status_message", _TEXT),
    Column("payload", _TEXT),
    Column("output", _TEXT),
    # When the newest claim was made.
    Column("claimed_ms", BigInteger),
    # Whether it has callbacks: what writes the outbox looks no further where it has none.
    Column("notifies", Boolean, nullable=False, server_default=false()),
    # Who sees it, by `audiences.py`.
    Column("audience", _TEXT, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)


def inline(value: str) -> Any:
    """Write `value`, one of our own constants, into the statement itself.

    SQLite only uses a partial index where the statement repeats its condition, and it
    cannot look into bound values.
    """
    return literal_column(f"'{value}'", Text)


def _unpushed() -> ColumnElement[bool]:
    return and_(
        jobs.c.state == inline("QUEUED"),
        jobs.c.entry.is_(None),
        jobs.c.execution_mode != inline("pull"),
    )


def is_ready() -> ColumnElement[bool]:
    """Due, and not pushed: what the feed chooses from."""
    return and_(_unpushed(), jobs.c.not_before_ms.is_(None))


def is_retrying() -> ColumnElement[bool]:
    """Not pushed, and waiting for the time of a retry, or not yet found due."""
    return and_(_unpushed(), jobs.c.not_before_ms.is_not(None))


def is_waiting() -> ColumnElement[bool]:
    """Pushed, and not claimed: what fills the window."""
    return and_(jobs.c.state == inline("QUEUED"), jobs.c.entry.is_not(None))


def is_expiring() -> ColumnElement[bool]:
    """Not claimed, and worth nothing once its `expiry` has passed."""
    return and_(jobs.c.state == inline("QUEUED"), jobs.c.expiry_ms.is_not(None))


def is_unfinished() -> ColumnElement[bool]:
    """Not in a final state."""
    return jobs.c.state.in_([inline("QUEUED"), inline("RUNNING")])


def holds_entry() -> ColumnElement[bool]:
    """Not final, and carried by a queue entry of ours."""
    return and_(is_unfinished(), jobs.c.entry.is_not(None), jobs.c.execution_mode != inline("pull"))


def _partial(name: str, *columns: Any, where: ColumnElement[bool], unique: bool = False) -> None:
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_c = jobs.c
_partial(
    "jobs_ready",
    *_c["action", "priority", "share", "version", "created_ms", "seq"],
    where=is_ready(),
)
_partial("jobs_retrying", _c.action, _c.not_before_ms, where=is_retrying())
_partial("jobs_waiting", _c.action, _c.priority, _c.version, where=is_waiting())
# With the state, or SQLite takes the index that has it and reads every job that waits.
_partial("jobs_expiring", _c.state, _c.expiry_ms, where=is_expiring())
_partial("jobs_entries", _c.action, _c.id, where=holds_entry())
_partial(
    "jobs_tick",
    _c.action,
    _c.scheduled_tick_ms,
    where=_c.scheduled_tick_ms.is_not(None),
    unique=True,
)
_partial(
    "jobs_scheduled_once",
    _c.action,
    where=and_(_c.scheduled_tick_ms.is_not(None), is_unfinished()),
    unique=True,
)
_partial("jobs_parent_job", _c.parent_job, where=_c.parent_job.is_not(None))
_partial("jobs_target", _c.target_href, where=_c.target_href.is_not(None))
Index("jobs_state_created", _c.state, _c.created_ms)
Index("jobs_created", _c.created_ms)
# For searches: what is compared, then what is sorted by or compared too.
# Not of what waits where PostgreSQL plans: it would take this for the feed, and sort a backlog.
Index(
    "jobs_action",
    *_c["action", "state", "created_ms"],
    postgresql_where=_c.state != inline("QUEUED"),
)
SEARCHED_ACTION: Final[ColumnElement[str]] = _c.action.concat(inline(""))
"""An action as PostgreSQL's searches compare it besides; the feed does not, and so cannot take
an index that is none of its own."""
Index("jobs_searched", SEARCHED_ACTION, _c.created_ms, _table=jobs).ddl_if(dialect="postgresql")
Index("jobs_audience", _c.audience, _c.created_ms)
_partial("jobs_parent", _c.parent, _c.created_ms, _c.state, where=_c.parent.is_not(None))

# Fair share; `fairness.py` says how these three belong together. A share without a row
# has the weight 1. Virtual times are seconds of one thread over the share's weight.
shares: Final = Table(
    "shares",
    metadata,
    Column("name", _TEXT, primary_key=True),
    Column("weight", Float, nullable=False),
)

lanes: Final = Table(
    "lanes",
    metadata,
    Column("action", _TEXT, primary_key=True),
    Column("priority", _INT, primary_key=True),
    Column("share", _TEXT, primary_key=True),
    Column("version", _INT, primary_key=True),
    Column("virtual_s", Float, nullable=False),
    # The same by what runs really took, without what is still waiting or running.
    Column("settled_s", Float, nullable=False),
    # False: nothing waits in it; kept while the share is ahead of the others.
    Column("ready", Boolean, nullable=False),
    Index("lanes_order", "action", "ready", "priority", "virtual_s", "share", "version"),
    sqlite_with_rowid=False,
)

# How far the shares of a queue have come: where one that had nothing waiting joins in.
frontiers: Final = Table(
    "frontiers",
    metadata,
    Column("action", _TEXT, primary_key=True),
    Column("priority", _INT, primary_key=True),
    Column("virtual_s", Float, nullable=False),
)

# Jobs that were started, by slots of time: what waiting times are estimated from.
starts: Final = Table(
    "starts",
    metadata,
    Column("action", _TEXT, primary_key=True),
    Column("slot", BigInteger, primary_key=True),
    Column("count", _INT, nullable=False),
    sqlite_with_rowid=False,
)

# Creates that may be sent again: whose, under which key, what was asked, what it made.
idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("owner", _TEXT, primary_key=True),
    Column("key", _TEXT, primary_key=True),
    Column("digest", _TEXT, nullable=False),
    Column("jobs", JSON, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("idempotency_keys_created", "created_ms"),
)

job_log: Final = Table(
    "job_log",
    metadata,
    Column("job_seq", ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    Column("n", _INT, primary_key=True, autoincrement=False),
    Column("line", _TEXT, nullable=False),
    sqlite_with_rowid=False,
)

# What runs tell whoever follows their job, beside the log; `logs.py` puts the two together.
job_notes: Final = Table(
    "job_notes",
    metadata,
    Column("job_seq", ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    Column("n", _INT, primary_key=True, autoincrement=False),
    # The number of the log line that it comes after; 0: before the first.
    Column("line", _INT, nullable=False),
    Column("kind", _TEXT, nullable=False),
    # Whether it is for those who manage the job only.
    Column("staff", Boolean, nullable=False),
    # JSON, which nobody but its reader reads.
    Column("data", _TEXT, nullable=False),
    sqlite_with_rowid=False,
)

events: Final = Table(
    "events",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("job", _TEXT, nullable=False),
    Column("action", _TEXT, nullable=False),
    Column("state", _TEXT, nullable=False),
    Column("priority", _INT, nullable=False),
    Column("entry", _TEXT),
    sqlite_autoincrement=True,
)

# Who may do what with a job, by its audience; `rights` is a bit set of model/acl.py.
audiences: Final = Table(
    "audiences",
    metadata,
    Column("principal", _TEXT, primary_key=True),
    Column("audience", _TEXT, primary_key=True),
    Column("rights", _INT, nullable=False),
    Index("audiences_audience", "audience"),
    sqlite_with_rowid=False,
)

EVERYBODY: Final = "*"
"""The audience that stands for all jobs, in `job_counts`."""

# How many jobs there are; `tally.py` keeps it, and a trigger where jobs are deleted.
job_counts: Final = Table(
    "job_counts",
    metadata,
    Column("audience", _TEXT, primary_key=True),
    Column("action", _TEXT, primary_key=True),
    Column("state", _TEXT, primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    # Room on each page for what changes most.
    postgresql_with={"fillfactor": 50},
)

# Who may do what with any other resource.
access: Final = Table(
    "access",
    metadata,
    Column("principal", _TEXT, primary_key=True),
    Column("resource", _TEXT, primary_key=True),
    Column("rights", _INT, nullable=False),
    Index("access_resource", "resource"),
    sqlite_with_rowid=False,
)

resources: Final = Table(
    "resources",
    metadata,
    Column("id", _TEXT, primary_key=True),
    Column("type", _TEXT, nullable=False),
    # What makes it unique among its type, beside the id: a user's name, for one.
    Column("key", _TEXT),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("document", _JSON, nullable=False),
    # Password and key digests: never part of a document, so never shown.
    Column("secret", _TEXT),
    Index("resources_key", "type", "key", unique=True),
    Index("resources_created", "type", "created_ms"),
)
# Every login looks for what has expired.
Index(
    "resources_expiring",
    resources.c.expires_ms,
    sqlite_where=resources.c.expires_ms.is_not(None),
    postgresql_where=resources.c.expires_ms.is_not(None),
)

# Who asked for what, beside the feed of `events`: `audit.py` says what is told, and how long.
audit: Final = Table(
    "audit",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("name", _TEXT, nullable=False),
    Column("resource", _TEXT),
    Column("user_id", _TEXT),
    Column("document", _JSON, nullable=False),
    Index("audit_at", "at_ms"),
    Index("audit_resource", "resource"),
    Index("audit_user", "user_id"),
    sqlite_autoincrement=True,
)

# What webhooks still have to be sent. `taken_by` is the job whose claim, that of the fence
# beside it, has the message in its hands; it is free as soon as that claim has ended.
webhook_outbox: Final = Table(
    "webhook_outbox",
    metadata,
    Column("id", _TEXT, primary_key=True),
    # Host and port, which take turns.
    Column("destination", _TEXT, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("attempts", _INT, nullable=False),
    Column("tries_left", _INT, nullable=False),
    Column("taken_by", _TEXT),
    Column("taken_incarnation", BigInteger),
    Column("taken_czxid", BigInteger),
    sqlite_with_rowid=False,
)
_partial(
    "webhook_outbox_free",
    *webhook_outbox.c["destination", "due_ms"],
    where=webhook_outbox.c.taken_by.is_(None),
)
_partial(
    "webhook_outbox_taken",
    webhook_outbox.c.taken_by,
    where=webhook_outbox.c.taken_by.is_not(None),
)

blobs: Final = Table(
    "blobs",
    metadata,
    Column("digest", _TEXT, primary_key=True),
    # One row an owner: nobody learns that somebody else uploaded the same bytes.
    Column("owner", _TEXT, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("media_type", _TEXT, nullable=False),
    Column("name", _TEXT),
    Column("created_ms", BigInteger, nullable=False),
    # What each owner has, all together.
    Index("blobs_owner", "owner", "size"),
)

actions: Final = Table(
    "actions",
    metadata,
    Column("name", _TEXT, primary_key=True),
    Column("description", _JSON, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
)

schedules: Final = Table(
    "schedules",
    metadata,
    Column("action", _TEXT, primary_key=True),
    Column("last_tick_ms", BigInteger, nullable=False),
)

counters: Final = Table(
    "counters",
    metadata,
    Column("name", _TEXT, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

secrets: Final = Table(
    "secrets",
    metadata,
    Column("name", _TEXT, primary_key=True),
    Column("value", _TEXT, nullable=False),
)
