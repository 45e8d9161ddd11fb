"""Messages for periodic upkeep: failing orphaned and expired jobs, deleting old ones."""

from __future__ import annotations

from pydantic import Field

from job_engine.model.protocol.message import Message


class OrphansRequest(Message):
    """`POST /api/engine/orphans`: fail QUEUED jobs whose action no live executor has.

    These are jobs without an entry, not in pull mode, created at least `grace_s` seconds ago,
    whose action is not among `live_actions`.
    """

    live_actions: list[str]
    grace_s: float = Field(ge=0)


class OrphansReply(Message):
    """The number of jobs that were failed."""

    failed: int


class SweepReply(Message):
    """`POST /api/engine/sweep`: the numbers of expired items."""

    expired: int
    """Jobs that were failed, because they still waited when their `expiry` passed."""
    keys: int
    """Idempotency keys that were deleted."""


class CleanupRequest(Message):
    """`POST /api/engine/cleanup`: delete final jobs created at least `older_than_s` seconds ago."""

    older_than_s: float = Field(ge=3600)


class CleanupReply(Message):
    """The number of jobs that were deleted."""

    deleted: int


class CancelChildrenRequest(Message):
    """`POST /api/engine/cancel-children`: cancel the unfinished children of a cancelled job."""

    job: str


class CancelChildrenReply(Message):
    """The number of jobs that were cancelled."""

    cancelled: int
