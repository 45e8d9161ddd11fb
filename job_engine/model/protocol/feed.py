"""What a leader pushes, whose turn it is, and which entries carry which jobs."""

from __future__ import annotations

from pydantic import Field

from job_engine.model.protocol.message import BATCH_LIMIT, Message


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
