"""What executors, distributors and the API say to each other, as typed messages.

All of it is JSON over HTTP under `/api/engine/…`; names on the wire are those of
the fields. Times are epoch milliseconds, durations seconds.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from job_engine.model.claim import Answer
from job_engine.model.fence import Fence
from job_engine.model.job import OLDEST_VERSION, JobState

BATCH_LIMIT = 1000
"""Most items that one request may carry."""


_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def _storable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)


Text = Annotated[str, AfterValidator(_storable)]
"""Text from anywhere: what JSON or a database cannot hold (NUL, lone surrogates) is replaced."""


class Message(BaseModel):
    """A message is immutable, and has no key but those it declares."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
    log: list[Text] = []
    """Lines to add to the job's log."""
    # An API of an older release does not know them.
    events: list[JobNote] = Field([], exclude_if=lambda events: not events)
    """What to tell those who follow the job."""


class ReportRequest(Message):
    """`POST /api/engine/report`."""

    executor: str
    reports: list[Report] = Field(max_length=BATCH_LIMIT)


class Receipt(StrEnum):
    """What became of a report."""

    ACCEPTED = "accepted"
    FINAL = "final"
    """The job is final already, by this claim or by a cancel: consume the entry."""
    LOST = "lost"
    """The claim is not the newest, or the job is no longer RUNNING under it."""


class ReportReplies(Message):
    """In the order of the request's reports."""

    receipts: list[Receipt]


class FeedItem(Message):
    """A job that is due and waits to be pushed."""

    job: str
    priority: int


class FeedReply(Message):
    """`GET /api/engine/feed?action=A&window=N&version=V`: what to push now, most urgent first.

    A job is in it while fewer than `window` waiting entries of its action are as
    urgent or more. Versions beyond `version` are passed over, waiting or not.
    `next_due_ms` is when the next retry of this action falls due; `more` says that
    the window is full, so that jobs may wait behind it; `waiting` counts the entries
    that wait already, up to some thousand.
    """

    jobs: list[FeedItem]
    next_due_ms: int | None = None
    more: bool = False
    waiting: int = 0


class EntryItem(Message):
    """A job, and the queue entry that carries it."""

    job: str
    entry: str


class EntriesRequest(Message):
    """`POST /api/engine/pushed` records entries; `POST /api/engine/cleared` forgets them.

    Both are compare-and-set: `pushed` only where the job has no entry and is QUEUED, or
    was taken meanwhile by a foreign consumer, which has no fence; `cleared` only where the
    job is not final and still has this very entry. A job that is cleared while it runs
    under a fence is QUEUED again, counted as interrupted.
    """

    entries: list[EntryItem] = Field(max_length=BATCH_LIMIT)


class EntriesReply(Message):
    """In the order of the request: whether it was written."""

    written: list[bool]


class RecordedEntries(Message):
    """`GET /api/engine/entries?action=A&after=ID`: entries on jobs that are not final.

    Jobs of pull mode, and those that a foreign consumer runs, are left out. `next`
    is the `after` of the next page; None: this was the last.
    """

    entries: list[EntryItem]
    next: str | None = None


class ForeignRun(Message):
    """A job that a foreign consumer runs, as it was when somebody touched it last."""

    job: str
    entry: str | None
    updated_ms: int


class ForeignRuns(Message):
    """`GET /api/engine/foreign?action=A&silent_s=S`: foreign runs that say nothing.

    Those are jobs that are RUNNING without a fence, and that nobody has touched for
    `silent_s`. Jobs of pull mode, and those under a monitor, are left out.
    `POST /api/engine/foreign` queues the ones that nothing carries any more again, each
    where it is as it was then, counted as interrupted; it answers an `EntriesReply`.
    """

    runs: list[ForeignRun] = Field(max_length=BATCH_LIMIT)


class IncarnationReply(Message):
    """`POST /api/engine/incarnation`: a number above all that were ever drawn."""

    incarnation: int


class ActionDescription(Message):
    """What an executor tells of an action that it has."""

    name: str
    payload_schema: dict[str, Any]
    """JSON Schema of the payload."""
    timeout_s: float
    cost: float = 1.0
    short: bool = False
    restricted: bool = False
    """Whether only administrators may create jobs of it."""
    interval_s: float | None = None
    cron: str | None = None
    terms: dict[str, dict[str, Any]] = {}
    """What operators let it be asked for, by the names of executors (`Action.terms`)."""


class ActionsRequest(Message):
    """`PUT /api/engine/actions` publishes; `GET` answers the same, with all that are known."""

    actions: list[ActionDescription]


class ScheduleRequest(Message):
    """`POST /api/engine/schedule`: create the job of one tick, unless there is one.

    `tick_ms` is the time the job was due. (action, tick) is unique, and a second
    unfinished scheduled job of the action is not created.
    """

    action: str = Field(pattern=r"\S")
    tick_ms: int


class ScheduleReply(Message):
    """`job` is None where nothing had to be created; `last_tick_ms` is the newest tick known."""

    job: str | None = None
    last_tick_ms: int | None = None


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


class Share(Message):
    """`PUT /api/engine/shares`: how much of the turns a share is given, against others.

    `name` is what jobs name as `parent`, else who created them. Whoever has no weight
    has 1.
    """

    name: str = Field(min_length=1, max_length=1000)
    weight: float = Field(ge=0.001, le=1000)


class SharesReply(Message):
    """`GET /api/engine/shares?after=NAME`: shares with a weight of their own, by name.

    `next` is the `after` of the next page; None: this was the last.
    """

    shares: list[Share]
    next: str | None = None


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


class Cancelled(Message):
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

    waiting: list[str] = []
    """Actions of which jobs were created, or are QUEUED again."""
    moving: list[str] = []
    """Actions of which jobs were claimed, so that there is room in the window."""
    cancelled: list[Cancelled] = []
    new: list[NewJob] = []
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
