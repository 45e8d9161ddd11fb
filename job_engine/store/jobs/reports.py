"""Reports of executors about claimed jobs: progress, ends, retries and releases.

Every report is one statement that names its fence (fenced); a refused one writes nothing.
In a batch, progress is written before ends, whatever their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, select, update

from job_engine.errors import ConflictError, InvalidResourceError
from job_engine.model import Fence, JobState
from job_engine.model.protocol.claims import Report, ReportKind, ReportReceipt
from job_engine.store.fair_share import fairness
from job_engine.store.jobs import events, logs, tally
from job_engine.store.jobs.changes import notify_callbacks
from job_engine.store.jobs.transitions import truncate
from job_engine.store.prepared import PreparedRead, PreparedWrite
from job_engine.store.tables import inline, jobs

MAX_WAIT_S: Final = 366 * 86_400.0
"""Longest delay of a retry, in seconds."""


@dataclass(frozen=True)
class EndedRun:
    """A run that a report has ended: with a verdict, or to be run again."""

    action: str
    state: JobState
    """QUEUED: the job is to be run again."""
    away: bool
    """Whether that is due to a repository's host; if not, to a fault of the platform."""
    took_s: float
    """Seconds since its claim, by the API's clock."""


@dataclass(frozen=True)
class Reported:
    """What became of a batch of reports."""

    receipts: Sequence[ReportReceipt]
    """One for each report, in their order."""
    ended: Sequence[EndedRun]


def write(
    connection: Connection, reports: Sequence[Report], by: str | None, now_ms: int
) -> Reported:
    """Decide on reports in their order, and write those that are accepted."""
    rows = _NAMED.by_id(connection, ids=[report.job for report in reports])
    batch = _Batch(rows, by, now_ms)
    receipts = [batch.take(report) for report in reports]
    batch.write(connection)
    return Reported(receipts, batch.ended)


_REPORTED: Final = (
    *("seq", "id", "action", "priority", "share", "version", "state", "entry", "not_before_ms"),
    *("execution_mode", "fence_incarnation", "fence_czxid", "claimed_ms", "notifies", "audience"),
    "claimed_by",
)
"""Columns that deciding on reports needs."""
_NAMED: Final = PreparedRead(
    select(*jobs.c[_REPORTED]).where(jobs.c.id.in_(bindparam("ids", expanding=True))), many="ids"
)


def _fenced(values: Mapping[str, Any]) -> PreparedWrite:
    """Return the fenced statement of one kind of report."""
    message: ColumnElement[Any] = func.coalesce(bindparam("message"), jobs.c.status_message)
    now: ColumnElement[Any] = bindparam("now_ms")
    return PreparedWrite(
        update(jobs)
        .where(
            jobs.c.seq == bindparam("old_seq"),
            jobs.c.state == inline("RUNNING"),
            jobs.c.fence_incarnation == bindparam("incarnation"),
            jobs.c.fence_czxid == bindparam("czxid"),
        )
        .values(
            {
                "status_message": message,
                "status_changed_ms": case((message.is_not(None), now), else_=None),
                "progress": func.coalesce(bindparam("percent"), jobs.c.progress),
                "output": func.coalesce(bindparam("text"), jobs.c.output),
                "return_code": func.coalesce(bindparam("code"), jobs.c.return_code),
                "updated_ms": now,
                "updated_by": bindparam("by"),
                **values,
            }
        )
    )


_elapsed_s: Final[ColumnElement[Any]] = (bindparam("now_ms") - jobs.c.started_ms) // 1000
# In the order in which they are written: progress before ends.
_REPORT: Final = {
    ReportKind.PROGRESS: _fenced({}),
    ReportKind.FINISH: _fenced(
        {
            "state": bindparam("end"),
            "progress": 100,
            "duration": case((_elapsed_s < 0, 0), else_=_elapsed_s),
        }
    ),
    ReportKind.RETRY: _fenced(
        {
            "state": JobState.QUEUED,
            "attempts": jobs.c.attempts + 1,
            "entry": None,
            "not_before_ms": bindparam("due_ms"),
        }
    ),
    ReportKind.RELEASE: _fenced({"state": JobState.QUEUED}),
}


@dataclass
class _Batch:
    """A batch of reports, decided one after another and then written together."""

    rows: dict[str, dict[str, Any]]
    """Each job's row after the reports decided so far."""
    by: str | None
    now_ms: int
    values: dict[ReportKind, list[dict[str, Any]]] = field(default_factory=dict)
    lines: list[tuple[int, Report]] = field(default_factory=list)
    """Reports with log lines or notes, by the job's `seq`."""
    changed: list[dict[str, Any]] = field(default_factory=list)
    over: list[dict[str, Any]] = field(default_factory=list)
    """Rows of jobs whose run has ended, to be charged to their share."""
    ended: list[EndedRun] = field(default_factory=list)
    """The same runs, for the API's metrics."""

    def take(self, report: Report) -> ReportReceipt:
        """Decide one report."""
        row = self.rows.get(report.job)
        if row is None:
            return ReportReceipt.LOST
        fence = Fence(row["fence_incarnation"] or 0, row["fence_czxid"] or 0)
        if row["state"] != JobState.RUNNING or row["fence_czxid"] is None or fence != report.fence:
            return ReportReceipt.FINAL if JobState(row["state"]).is_final else ReportReceipt.LOST
        if None not in (self.by, row["claimed_by"]) and self.by != row["claimed_by"]:
            return ReportReceipt.LOST  # fences can be guessed, so check whose key claimed the job
        values = {**_values(report, self.now_ms), "by": self.by, "now_ms": self.now_ms}
        values["old_seq"] = row["seq"]
        self.values.setdefault(report.kind, []).append(values)
        if report.log or report.events:
            self.lines.append((row["seq"], report))
        if report.kind is ReportKind.FINISH:
            # The executor that reports it consumes the entry, so the event needs no entry.
            row |= {"state": values["end"], "entry": None}
        elif report.kind is ReportKind.RETRY:
            row |= {"entry": None, "not_before_ms": values["due_ms"]}
        if report.kind in (ReportKind.RETRY, ReportKind.RELEASE):
            row["state"] = JobState.QUEUED
        if report.kind is not ReportKind.PROGRESS:
            self.changed.append(row)
        if report.kind in (ReportKind.FINISH, ReportKind.RETRY):
            took_s = max(0, self.now_ms - (row["claimed_ms"] or self.now_ms)) / 1000
            self.over.append(row)
            state = JobState(row["state"])
            self.ended.append(EndedRun(row["action"], state, report.away, took_s))
        return ReportReceipt.ACCEPTED

    def write(self, connection: Connection) -> None:
        """Write what was accepted, each where its fence still holds."""
        for kind, statement in _REPORT.items():
            values = self.values.get(kind, [])
            if statement.run(connection, values) != len(values):
                # Only with several writers; the whole batch is undone, as for claims.
                raise ConflictError("A reported job was changed meanwhile; report again.")
        for seq, report in self.lines:
            logs.append(connection, seq, report.log, report.events)
        events.append_many(connection, self.now_ms, self.changed)
        tally.move(connection, self.changed, JobState.RUNNING)
        notify_callbacks(connection, self.changed, self.now_ms)
        fairness.settle(connection, self.over, [run.took_s for run in self.ended])
        fairness.open_lanes(connection, self.over)


def _values(report: Report, now_ms: int) -> dict[str, Any]:
    values = {
        "incarnation": report.fence.incarnation,
        "czxid": report.fence.czxid,
        "message": None if report.status_message is None else truncate(report.status_message),
        "percent": report.progress,
        "text": report.output,
        "code": report.return_code,
    }
    if report.kind is ReportKind.FINISH:
        if report.state not in (JobState.SUCCESS, JobState.FAILED):
            raise InvalidResourceError(f"{report.job}: a finish says SUCCESS or FAILED")
        values["end"] = report.state
    elif report.kind is ReportKind.RETRY:
        wait_ms = round(min(report.retry_after_s or 0.0, MAX_WAIT_S) * 1000)
        values["due_ms"] = now_ms + wait_ms if wait_ms > 0 else None
    return values
