"""What the API tells of jobs as it happens, on its event streams."""

from __future__ import annotations

from pydantic import Field

from job_engine.model.job import JobState
from job_engine.model.protocol.feed import FeedItem
from job_engine.model.protocol.message import Message


class CancelledEntry(Message):
    """The queue entry of a job that was cancelled, deleted, expired or ended by a client."""

    action: str
    entry: str


class NewJob(FeedItem):
    """A job that became ready just now."""

    action: str
    version: int


class Changes(Message):
    """One server-sent event of `GET /api/engine/changes`: what leaders have to look at.

    It sums up every event since the last one; its SSE `id` is that of the newest.
    """

    waiting: list[str] = Field([])
    """Actions of which jobs were created, or are QUEUED again."""
    moving: list[str] = Field([])
    """Actions of which jobs were claimed, so that there is room in the window."""
    cancelled: list[CancelledEntry] = Field([])
    new: list[NewJob] = Field([])
    """What became ready, where that is little: it need not be asked for."""


class JobEvent(Message):
    """One server-sent event of `GET /api/engine/events`: a job was created or changed state.

    Its SSE `id` is the event's id: ids grow, and none becomes visible after a
    greater one. Query parameters narrow the stream: `action`, `state` (repeatable).
    """

    job: str
    action: str
    state: JobState
    priority: int
    entry: str | None = None
    """The queue entry that carries the job, or that its end left behind; None: there is none,
    or whoever claimed it consumes it."""
