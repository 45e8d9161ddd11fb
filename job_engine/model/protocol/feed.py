"""Messages of distributors: jobs to push, recorded entries, foreign runs, and shares."""

from __future__ import annotations

from pydantic import Field

from job_engine.model.protocol.message import BATCH_LIMIT, Message


class FeedItem(Message):
    """A job that is due and not pushed."""

    job: str
    priority: int


class FeedReply(Message):
    """`GET /api/engine/feed?action=A&window=N&version=V`: the jobs to push now.

    A job is included while fewer than `window` waiting entries of its action are at least as
    urgent. Jobs and entries with a version above `version` are ignored.
    """

    jobs: list[FeedItem]
    """The most urgent first."""
    next_due_ms: int | None = None
    """When the next retry of this action is due; None: there is none."""
    more: bool = False
    """Whether the window is full, so that more jobs may wait behind it."""
    waiting: int = 0
    """Entries that were waiting already; counted up to some thousand."""


class EntryItem(Message):
    """A job and its queue entry."""

    job: str
    entry: str


class EntriesRequest(Message):
    """`POST /api/engine/pushed` records entries; `POST /api/engine/cleared` clears them.

    Both are compare-and-set. `pushed` needs a job without an entry that is QUEUED, or that a
    foreign consumer (without a fence) has claimed meanwhile. `cleared` needs an unfinished job
    with this very entry; if it runs under a fence, it is QUEUED again, which counts as an
    interruption.
    """

    entries: list[EntryItem] = Field(max_length=BATCH_LIMIT)


class EntriesReply(Message):
    """Whether each item was written, in the order of the request."""

    written: list[bool]


class RecordedEntries(Message):
    """`GET /api/engine/entries?action=A&after=ID`: a page of the entries of unfinished jobs.

    Jobs in pull mode, and those that a foreign consumer runs, are left out. `next` is the
    `after` of the next page; None: this is the last one.
    """

    entries: list[EntryItem]
    next: str | None = None


class ForeignRun(Message):
    """A job that a foreign consumer runs, as it was at its last change."""

    job: str
    entry: str | None
    updated_ms: int


class ForeignRuns(Message):
    """`GET /api/engine/foreign?action=A&silent_s=S`: foreign runs that are silent.

    These are jobs that are RUNNING without a fence and have not changed for `silent_s`
    seconds, except those in pull mode and those under a monitor. `POST /api/engine/foreign`
    queues jobs again if they have not changed since, which counts as an interruption; it
    answers with an `EntriesReply`.
    """

    runs: list[ForeignRun] = Field(max_length=BATCH_LIMIT)


class IncarnationReply(Message):
    """`POST /api/engine/incarnation`: a number greater than all that were drawn before."""

    incarnation: int


class Share(Message):
    """`PUT /api/engine/shares`: the weight of a share, relative to others; by default 1.

    `name` is the `parent` of its jobs, or their creator if they have none.
    """

    name: str = Field(min_length=1, max_length=1000)
    weight: float = Field(ge=0.001, le=1000)


class SharesReply(Message):
    """`GET /api/engine/shares?after=NAME`: a page of shares with a weight of their own, by name.

    `next` is the `after` of the next page; None: this is the last one.
    """

    shares: list[Share]
    next: str | None = None
