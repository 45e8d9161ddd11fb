"""Messages on the API's event streams."""

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
    """A job that has just become ready to be pushed."""

    action: str
    version: int


class Changes(Message):
    """A server-sent event of `GET /api/engine/changes`, for leaders.

    It summarises all job events since the previous one; its SSE `id` is that of the newest.
    """

    waiting: list[str] = Field([])
    """Actions with jobs that were created or became QUEUED again."""
    moving: list[str] = Field([])
    """Actions with jobs that were claimed, so that their windows have room."""
    cancelled: list[CancelledEntry] = Field([])
    new: list[NewJob] = Field([])
    """The jobs that became ready, if they are few: leaders need not ask for these."""


class JobEvent(Message):
    """A server-sent event of `GET /api/engine/events`: a job was created or changed state.

    Its SSE `id` is the event's id. Ids become visible in increasing order. The query
    parameters `action` and `state` (both repeatable) filter the stream.
    """

    job: str
    action: str
    state: JobState
    priority: int
    entry: str | None = None
    """The job's queue entry, also one that is still in the queue after the job has ended; None:
    there is none, or the executor that claimed it consumes it."""
