"""Talking to the API: a `nuvla.api.Api` that adds batches, streams, typed jobs and retries.

Nothing here uses ZooKeeper. Every request has a time limit, and is retried if that is safe; all
of the engine's own messages may be sent twice.
"""

from job_engine.client.api import Api, job_document
from job_engine.client.events import (
    Seen,
    SeenEvent,
    change_stream,
    event_stream,
    follow_events,
    follow_job,
)
from job_engine.client.jobs import Job, JobFailedError
from job_engine.client.refusals import RefusedError, UnansweredError, unwelcome

__all__ = [
    "Api",
    "Job",
    "JobFailedError",
    "RefusedError",
    "Seen",
    "SeenEvent",
    "UnansweredError",
    "change_stream",
    "event_stream",
    "follow_events",
    "follow_job",
    "job_document",
    "unwelcome",
]
