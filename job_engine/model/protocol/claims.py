"""What an executor claims, and what it reports of the jobs that it runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from job_engine.model.claim import Answer
from job_engine.model.fence import Fence
from job_engine.model.job import OLDEST_VERSION, JobState
from job_engine.model.protocol.message import BATCH_LIMIT, Message, Text


class ClaimItem(Message):
    """One entry that an executor holds the claim node of."""

    job: str
    entry: str
    fence: Fence


class ClaimRequest(Message):
    """`POST /api/engine/claim`."""

    executor: str
    actions: list[str]
    """What this executor can run."""
    job_version: int = OLDEST_VERSION
    """The newest job version that it runs; what answers may be of another release."""
    claims: list[ClaimItem] = Field(max_length=BATCH_LIMIT)


class ClaimReply(Message):
    """The word on one claim; `document` only where the answer says to run it."""

    job: str
    answer: Answer
    document: dict[str, Any] | None = None
    attempts: int = 0
    interruptions: int = 0


class ClaimReplies(Message):
    """In the order of the request's claims."""

    replies: list[ClaimReply]


class ReportKind(StrEnum):
    """What an executor says of a job that it has claimed."""

    PROGRESS = "progress"
    """Still running: progress, message, output and log so far."""
    FINISH = "finish"
    """Ended: `state` is SUCCESS or FAILED."""
    RETRY = "retry"
    """A platform fault: back to QUEUED, attempts + 1, due in `retry_after_s`."""
    RELEASE = "release"
    """A drain: back to QUEUED under the same entry, counted as nothing."""


class JobNote(Message):
    """Something that a run tells those who follow its job, beside its log."""

    kind: str = Field(pattern=r"^[a-z]{1,16}$")
    data: Text
    """A JSON object."""
    staff: bool = False
    """Whether it is for those who manage the job, and not for who may only read it."""
    after: int = Field(0, ge=0)
    """How many of the same report's log lines come before it."""


class Report(Message):
    """One fenced write. Fields that are None leave the document as it is."""

    job: str
    fence: Fence
    kind: ReportKind
    state: JobState | None = None
    progress: int | None = Field(None, ge=0, le=100)
    status_message: Text | None = None
    output: Text | None = None
    return_code: int | None = Field(None, ge=0, lt=2**63)
    retry_after_s: float | None = None
    log: list[Text] = Field(default_factory=list)
    """Lines to add to the job's log."""
    # An API of an older release does not know them.
    events: list[JobNote] = Field(default_factory=list, exclude_if=lambda events: not events)
    """What to tell those who follow the job."""


class ReportRequest(Message):
    """`POST /api/engine/report`."""

    executor: str
    reports: list[Report] = Field(max_length=BATCH_LIMIT)


class ReportReceipt(StrEnum):
    """What became of a report."""

    ACCEPTED = "accepted"
    FINAL = "final"
    """The job is final already, by this claim or by a cancel: consume the entry."""
    LOST = "lost"
    """The claim is not the newest, or the job is no longer RUNNING under it."""


class ReportReplies(Message):
    """In the order of the request's reports."""

    receipts: list[ReportReceipt]


class TokenRequest(Message):
    """`POST /api/engine/token`: a token that speaks for one claim of one job.

    Whoever holds it may add to the job's log, with `POST /api/job/<uuid>/log` and the
    header `Authorization: Bearer <token>`, for as long as the claim runs the job.
    """

    job: str
    fence: Fence


class TokenReply(Message):
    """The token; it is worth nothing once the claim has ended."""

    token: str


class LogRequest(Message):
    """`POST /api/job/<uuid>/log`, under the token of a claim."""

    lines: list[Text] = Field([], max_length=BATCH_LIMIT)
    message: Text | None = None
    """For `status-message`: one line for a person."""
