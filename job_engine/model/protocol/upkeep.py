"""What services have the API do now and then, for jobs that nobody else ends or deletes."""

from __future__ import annotations

from pydantic import Field

from job_engine.model.protocol.message import Message


class OrphansRequest(Message):
    """`POST /api/engine/orphans`: fail QUEUED jobs whose action no live executor has.

    Fails those without an entry, not of pull mode, created at least `grace_s` ago,
    whose action is not in `live_actions`.
    """

    live_actions: list[str]
    grace_s: float = Field(ge=0)


class OrphansReply(Message):
    """How many jobs were failed."""

    failed: int


class SweepReply(Message):
    """`POST /api/engine/sweep`: what was put away, for it was out of date.

    `expired` jobs were failed: they still waited when their `expiry` had passed.
    """

    expired: int
    keys: int
    """Idempotency keys that were forgotten."""


class CleanupRequest(Message):
    """`POST /api/engine/cleanup`: delete final jobs that were created that long ago."""

    older_than_s: float = Field(ge=3600)


class CleanupReply(Message):
    """How many jobs were deleted."""

    deleted: int


class CancelChildrenRequest(Message):
    """`POST /api/engine/cancel-children`: cancel what a cancelled job had started."""

    job: str


class CancelChildrenReply(Message):
    """How many jobs were cancelled."""

    cancelled: int
