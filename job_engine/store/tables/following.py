"""Tables that belong to jobs: logs, events, webhooks, rights, counts, idempotency keys."""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Index, Table

from job_engine.store.tables.columns import BIG, INT, TEXT, metadata, partial_index

job_log: Final = Table(
    "job_log",
    metadata,
    Column("job_seq", ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    Column("n", INT, primary_key=True, autoincrement=False),
    Column("line", TEXT, nullable=False),
    sqlite_with_rowid=False,
)

# Events of a job's stream that are not log lines; `jobs/logs.py` merges both.
job_notes: Final = Table(
    "job_notes",
    metadata,
    Column("job_seq", ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    Column("n", INT, primary_key=True, autoincrement=False),
    # The number of the log line that it comes after; 0: before the first.
    Column("line", INT, nullable=False),
    Column("kind", TEXT, nullable=False),
    # Whether it is for staff only.
    Column("staff", Boolean, nullable=False),
    # JSON, which the database does not parse.
    Column("data", TEXT, nullable=False),
    sqlite_with_rowid=False,
)

events: Final = Table(
    "events",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("job", TEXT, nullable=False),
    Column("action", TEXT, nullable=False),
    Column("state", TEXT, nullable=False),
    Column("priority", INT, nullable=False),
    Column("entry", TEXT),
    sqlite_autoincrement=True,
)

# Messages of webhooks that are still to be sent. `taken_by` is the sending job that holds the
# message, under the claim with that fence; the message is free once the claim has ended.
webhook_outbox: Final = Table(
    "webhook_outbox",
    metadata,
    Column("id", TEXT, primary_key=True),
    # Host and port; destinations take turns.
    Column("destination", TEXT, nullable=False),
    Column("due_ms", BigInteger, nullable=False),
    Column("attempts", INT, nullable=False),
    Column("tries_left", INT, nullable=False),
    Column("taken_by", TEXT),
    Column("taken_incarnation", BigInteger),
    Column("taken_czxid", BigInteger),
    sqlite_with_rowid=False,
)
partial_index(
    "webhook_outbox_free",
    *webhook_outbox.c["destination", "due_ms"],
    where=webhook_outbox.c.taken_by.is_(None),
)
partial_index(
    "webhook_outbox_taken",
    webhook_outbox.c.taken_by,
    where=webhook_outbox.c.taken_by.is_not(None),
)

# Rights on jobs, by audience; `rights` is a `Right` of model/acl.py.
audiences: Final = Table(
    "audiences",
    metadata,
    Column("principal", TEXT, primary_key=True),
    Column("audience", TEXT, primary_key=True),
    Column("rights", INT, nullable=False),
    Index("audiences_audience", "audience"),
    sqlite_with_rowid=False,
)

EVERYBODY: Final = "*"
"""The audience that stands for all jobs, in `job_counts`."""

# Number of jobs; updated by `jobs/tally.py`, and by a trigger for deletions.
job_counts: Final = Table(
    "job_counts",
    metadata,
    Column("audience", TEXT, primary_key=True),
    Column("action", TEXT, primary_key=True),
    Column("state", TEXT, primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    # Free space on each page for updates in place, because these rows change most often.
    postgresql_with={"fillfactor": 50},
)

# Requests with an idempotency key: the caller, a digest of the request, and the created jobs.
idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("owner", TEXT, primary_key=True),
    Column("key", TEXT, primary_key=True),
    Column("digest", TEXT, nullable=False),
    Column("jobs", JSON, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("idempotency_keys_created", "created_ms"),
)
