"""All tables: `metadata` is complete once this package is imported."""

from job_engine.store.tables.columns import inline, metadata
from job_engine.store.tables.feeding import frontiers, lanes, schedules, shares, starts
from job_engine.store.tables.following import (
    EVERYBODY,
    audiences,
    events,
    idempotency_keys,
    job_counts,
    job_log,
    job_notes,
    webhook_outbox,
)
from job_engine.store.tables.job import (
    SEARCHED_ACTION,
    holds_entry,
    is_expiring,
    is_ready,
    is_retrying,
    is_unfinished,
    is_waiting,
    jobs,
)
from job_engine.store.tables.resource import (
    access,
    actions,
    audit,
    blobs,
    counters,
    resources,
    secrets,
)

__all__ = [
    "EVERYBODY",
    "SEARCHED_ACTION",
    "access",
    "actions",
    "audiences",
    "audit",
    "blobs",
    "counters",
    "events",
    "frontiers",
    "holds_entry",
    "idempotency_keys",
    "inline",
    "is_expiring",
    "is_ready",
    "is_retrying",
    "is_unfinished",
    "is_waiting",
    "job_counts",
    "job_log",
    "job_notes",
    "jobs",
    "lanes",
    "metadata",
    "resources",
    "schedules",
    "secrets",
    "shares",
    "starts",
    "webhook_outbox",
]
