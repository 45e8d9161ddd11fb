"""What jobs leave for whoever follows, sees, counts or repeats them."""

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

# What runs tell whoever follows their job, beside the log; `jobs/logs.py` puts the two together.
job_notes: Final = Table(
    "job_notes",
    metadata,
    Column("job_seq", ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    Column("n", INT, primary_key=True, autoincrement=False),
    # The number of the log line that it comes after; 0: before the first.
    Column("line", INT, nullable=False),
    Column("kind", TEXT, nullable=False),
    # Whether it is for those who manage the job only.
    Column("staff", Boolean, nullable=False),
    # JSON, which nobody but its reader reads.
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

# What webhooks still have to be sent. `taken_by` is the job whose claim, that of the fence
# beside it, has the message in its hands; it is free as soon as that claim has ended.
webhook_outbox: Final = Table(
    "webhook_outbox",
    metadata,
    Column("id", TEXT, primary_key=True),
    # Host and port, which take turns.
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

# Who may do what with a job, by its audience; `rights` is a bit set of model/acl.py.
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

# How many jobs there are; `jobs/tally.py` keeps it, and a trigger where jobs are deleted.
job_counts: Final = Table(
    "job_counts",
    metadata,
    Column("audience", TEXT, primary_key=True),
    Column("action", TEXT, primary_key=True),
    Column("state", TEXT, primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
    # Room on each page for what changes most.
    postgresql_with={"fillfactor": 50},
)

# Creates that may be sent again: whose, under which key, what was asked, what it made.
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
