"""Messages of executors: claims, reports, and tokens of claims."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from job_engine.model.claim import Answer
from job_engine.model.fence import Fence
from job_engine.model.job import OLDEST_VERSION, JobState
from job_engine.model.protocol.message import BATCH_LIMIT, Message, Text


class ClaimItem(Message):
    """An entry whose claim node the executor holds."""

    job: str
    entry: str
    fence: Fence


class ClaimRequest(Message):
    """`POST /api/engine/claim`."""

    executor: str
    actions: list[str]
    """Names of the actions that this executor runs."""
    job_version: int = OLDEST_VERSION
    """The newest job version that it runs; executor and API may be of different releases."""
    claims: list[ClaimItem] = Field(max_length=BATCH_LIMIT)


class ClaimReply(Message):
    """The answer to one claim; `document` is set if the job is to be run."""

    job: str
    answer: Answer
    document: dict[str, Any] | None = None
    attempts: int = 0
    interruptions: int = 0


class ClaimReplies(Message):
    """The answers, in the order of the claims."""

    replies: list[ClaimReply]


class ReportKind(StrEnum):
    """The kind of a report about a claimed job."""

    PROGRESS = "progress"
    """Still running: progress, message, output and log so far."""
    FINISH = "finish"
    """Ended: `state` is SUCCESS or FAILED."""
    RETRY = "retry"
    """A fault of the platform, or a repository's host that is away (`Report.away`): back to QUEUED,
    attempts + 1, due in `retry_after_s`."""
    RELEASE = "release"
    """A drain: back to QUEUED with the same entry; no counter changes."""


class JobNote(Message):
    """An event on a job's stream that is not a log line."""

    kind: str = Field(pattern=r"^[a-z]{1,16}$")
    data: Text
    """A JSON object."""
    staff: bool = False
    """Whether it is for staff only (`acl.STAFF`), not for callers who may only read the job."""
    after: int = Field(0, ge=0)
    """Number of log lines of the same report that come before it."""


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
    # Left out if false, because an API of an older release refuses the key.
    away: bool = Field(default=False, exclude_if=lambda away: not away)
    """Whether a retry is due to a repository's host that is away, which is no platform fault."""
    log: list[Text] = Field(default_factory=list)
    """Lines to add to the job's log."""
    # Left out if empty, because an API of an older release refuses the key.
    events: list[JobNote] = Field(default_factory=list, exclude_if=lambda events: not events)
    """Events to add to the job's stream."""


class ReportRequest(Message):
    """`POST /api/engine/report`."""

    executor: str
    reports: list[Report] = Field(max_length=BATCH_LIMIT)


class ReportReceipt(StrEnum):
    """The API's answer to a report."""

    ACCEPTED = "accepted"
    FINAL = "final"
    """The job is final already, by this claim or by a cancel: consume the entry."""
    LOST = "lost"
    """The claim is not the newest, or the job is no longer RUNNING under it."""


class ReportReplies(Message):
    """The receipts, in the order of the reports."""

    receipts: list[ReportReceipt]


class TokenRequest(Message):
    """`POST /api/engine/token`: issue a token for one claim of one job.

    Its holder may add to the job's log, by `POST /api/job/<uuid>/log` with the header
    `Authorization: Bearer <token>`, as long as the claim runs the job.
    """

    job: str
    fence: Fence


class TokenReply(Message):
    """The token; it becomes invalid when the claim ends."""

    token: str


class LogRequest(Message):
    """`POST /api/job/<uuid>/log`, authorised by the token of a claim."""

    lines: list[Text] = Field([], max_length=BATCH_LIMIT)
    message: Text | None = None
    """For `status-message`: one line for a person."""
