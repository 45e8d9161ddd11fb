"""Jobs as executors see them: claims and fenced reports.

`decide_claim` is the pure function that answers; here its decisions are written, each
by a statement that only meets the row it was decided on (one-outcome). Every report is
one statement that names its fence (fenced).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    func,
    select,
    update,
)

from job_engine.errors import ConflictError, InvalidResourceError
from job_engine.model import Ability, Answer, Claim, Decision, Fence, JobState, decide_claim
from job_engine.model.protocol import ClaimReply, ClaimRequest, Receipt, Report, ReportKind
from job_engine.store import events, fairness, logs, starts
from job_engine.store.base import Clock, Database
from job_engine.store.documents import assemble, to_job
from job_engine.store.many import Many, by_id
from job_engine.store.tables import jobs
from job_engine.store.transitions import finished, message_columns, touch, truncate

Row = Mapping[str, Any]

MAX_WAIT_S: Final = 366 * 86_400.0
"""Longest that a retry waits for its time."""


class Claims:
    """Batches of claims and reports, each batch in one transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def claim(self, request: ClaimRequest, by: str | None = None) -> Sequence[ClaimReply]:
        """Answer claims in their order; the same job may be among them twice.

        `by` is who `updated-by` names.
        """
        return self.submit_claim(request, by).result()

    def submit_claim(
        self, request: ClaimRequest, by: str | None = None
    ) -> Future[Sequence[ClaimReply]]:
        """Do as `claim`, without waiting."""
        claims = [Claim(item.job, item.entry, item.fence) for item in request.claims]

        def unit(connection: Connection) -> Sequence[ClaimReply]:
            found = connection.execute(_WHOLE, {"ids": [claim.job_id for claim in claims]})
            rows: dict[str, Row] = {**by_id(found)}
            batch = _Batch(rows, request.executor, by, self._clock(), _ability(request))
            replies = [batch.answer(claim) for claim in claims]
            batch.write(connection)
            return replies

        return self._database.submit(unit)

    def report(self, reports: Sequence[Report], by: str | None = None) -> Sequence[Receipt]:
        """Write reports in their order; one that is refused writes nothing."""
        return self.submit_report(reports, by).result()

    def submit_report(
        self, reports: Sequence[Report], by: str | None = None
    ) -> Future[Sequence[Receipt]]:
        """Do as `report`, without waiting."""

        def unit(connection: Connection) -> Sequence[Receipt]:
            found = connection.execute(_HOT, {"ids": [report.job for report in reports]})
            rows = by_id(found)
            batch = _Reports(rows, by, self._clock())
            receipts = [batch.take(report) for report in reports]
            batch.write(connection)
            return receipts

        return self._database.submit(unit)


# --- claims -------------------------------------------------------------------


def _ability(request: ClaimRequest) -> Ability:
    return Ability(frozenset(request.actions), request.job_version)


@dataclass
class _Batch:
    """Claims that are decided one after the other, then written together."""

    rows: dict[str, Row]
    """Each job as the claims so far leave it."""
    executor: str
    by: str | None
    now_ms: int
    ability: Ability
    updates: list[tuple[Row, dict[str, Any]]] = field(default_factory=list)
    """What to write, on top of which row."""

    def answer(self, claim: Claim) -> ClaimReply:
        """Decide one claim."""
        row = self.rows.get(claim.job_id)
        job = None if row is None else to_job(row, whole=False)
        decision = decide_claim(job, claim, self.ability, self.now_ms)
        if row is None or job is None:
            return ClaimReply(job=claim.job_id, answer=decision.answer)
        again = decision.answer.runs and job.state is JobState.RUNNING and job.fence == claim.fence
        columns = {} if again else self._columns(row, claim, decision)
        if columns:
            self.updates.append((row, columns))
            row = self.rows[claim.job_id] = {**row, **columns}
        return ClaimReply(
            job=claim.job_id,
            answer=decision.answer,
            document=assemble(row) if decision.answer.runs else None,
            attempts=row["attempts"],
            interruptions=row["interruptions"],
        )

    def write(self, connection: Connection) -> None:
        """Write the decisions, each where its row is as it was when it was decided on."""
        for fields in (_CLAIMED, _FAILED):
            values = [_guarded(row, new) for row, new in self.updates if new.keys() == set(fields)]
            if not values:
                continue
            written = _WRITE[fields].run(connection, values)
            if written != len(values):
                # Only where several write at once. All of it is undone; the same claims
                # may be made again, and are then answered by what is there.
                raise ConflictError("Somebody else wrote to a claimed job; claim again.")
        changed = [(row, new) for row, new in self.updates if new["state"] != row["state"]]
        changes = [
            _event(row, new["state"], new.get("entry", row["entry"])) for row, new in changed
        ]
        events.append_many(connection, self.now_ms, changes)
        # A claimer may be faster than the leader with its word that the job was pushed.
        fed = [row for row, new in self.updates if row["entry"] is None and "entry" in new]
        fairness.charge(connection, fed)
        # One that its claim failed was fed for nothing.
        unrun = [row for row, new in self.updates if "entry" not in new and row["entry"]]
        fairness.settle(connection, unrun, [0.0] * len(unrun))
        started = Counter(row["action"] for row, new in self.updates if "entry" in new)
        starts.count(connection, self.now_ms, started)

    def _columns(self, row: Row, claim: Claim, decision: Decision) -> dict[str, Any]:
        """Return what a decision writes; nothing for one that writes nothing."""
        if decision.failure is not None:
            return {
                "duration": None,
                **message_columns(decision.failure, self.now_ms),
                **finished(row, JobState.FAILED, self.now_ms),
                **touch(self.now_ms, self.by),
            }
        if not decision.answer.runs:
            return {}
        return {
            "state": str(JobState.RUNNING),
            "entry": claim.entry,
            "fence_incarnation": claim.fence.incarnation,
            "fence_czxid": claim.fence.czxid,
            "resumed": decision.answer is Answer.RESUME,
            "claimed_by": self.executor,
            "claimed_ms": self.now_ms,
            "interruptions": decision.interruptions,
            "not_before_ms": None,
            "started_ms": self.now_ms if row["started_ms"] is None else row["started_ms"],
            "given_priority": None,
            **touch(self.now_ms, self.by),
        }


_NAMED: Final = jobs.c.id.in_(bindparam("ids", expanding=True))
_WHOLE: Final = select(jobs).where(_NAMED)

_CLAIMED: Final = (
    "state",
    "entry",
    "fence_incarnation",
    "fence_czxid",
    "resumed",
    "claimed_by",
    "claimed_ms",
    "interruptions",
    "not_before_ms",
    "started_ms",
    "given_priority",
    "updated_ms",
    "updated_by",
)
_FAILED: Final = (
    "state",
    "progress",
    "duration",
    "status_message",
    "status_changed_ms",
    "updated_ms",
    "updated_by",
)
_GUARDS: Final = ("state", "entry", "fence_incarnation", "fence_czxid")


def _write_where_unmoved(fields: Sequence[str]) -> Many:
    unmoved = [jobs.c[name].is_not_distinct_from(bindparam(f"old_{name}")) for name in _GUARDS]
    return Many(
        update(jobs)
        .where(jobs.c.seq == bindparam("old_seq"), *unmoved)
        .values({name: bindparam(f"new_{name}") for name in fields})
    )


_WRITE: Final = {fields: _write_where_unmoved(fields) for fields in (_CLAIMED, _FAILED)}


def _guarded(row: Row, columns: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{f"old_{name}": row[name] for name in ("seq", *_GUARDS)},
        **{f"new_{name}": value for name, value in columns.items()},
    }


def _event(row: Any, state: str, entry: str | None) -> dict[str, Any]:
    return {
        "job": row["id"],
        "action": row["action"],
        "priority": row["priority"],
        "state": state,
        "entry": entry,
    }


# --- reports ------------------------------------------------------------------

_REPORTED: Final = (
    *("seq", "id", "action", "priority", "share", "version", "state", "entry", "not_before_ms"),
    *("execution_mode", "fence_incarnation", "fence_czxid", "claimed_ms"),
)
"""Columns that reports are decided by."""
_HOT: Final = select(*jobs.c[_REPORTED]).where(_NAMED)


def _fenced(values: Mapping[str, Any]) -> Many:
    """Return the statement of a report, with what every kind of report may say."""
    message: ColumnElement[Any] = func.coalesce(bindparam("message"), jobs.c.status_message)
    now: ColumnElement[Any] = bindparam("now_ms")
    return Many(
        update(jobs)
        .where(
            jobs.c.seq == bindparam("old_seq"),
            jobs.c.state == JobState.RUNNING,
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
# In the order in which they are written: a job's end comes after its progress.
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
class _Reports:
    """Reports that are decided one after the other, then written together."""

    rows: dict[str, dict[str, Any]]
    """Each job as the reports so far leave it."""
    by: str | None
    now_ms: int
    values: dict[ReportKind, list[dict[str, Any]]] = field(default_factory=dict)
    lines: list[tuple[int, Sequence[str]]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    over: list[dict[str, Any]] = field(default_factory=list)
    """Jobs whose run has used up its turn."""

    def take(self, report: Report) -> Receipt:
        """Decide one report."""
        row = self.rows.get(report.job)
        if row is None:
            return Receipt.LOST
        fence = Fence(row["fence_incarnation"] or 0, row["fence_czxid"] or 0)
        if row["state"] != JobState.RUNNING or row["fence_czxid"] is None or fence != report.fence:
            return Receipt.FINAL if JobState(row["state"]).is_final else Receipt.LOST
        values = {**_values(report, self.now_ms), "by": self.by, "now_ms": self.now_ms}
        values["old_seq"] = row["seq"]
        self.values.setdefault(report.kind, []).append(values)
        if report.log:
            self.lines.append((row["seq"], report.log))
        if report.kind is ReportKind.FINISH:
            row["state"] = values["end"]
        elif report.kind is ReportKind.RETRY:
            row |= {"entry": None, "not_before_ms": values["due_ms"]}
        if report.kind in (ReportKind.RETRY, ReportKind.RELEASE):
            row["state"] = JobState.QUEUED
        if report.kind is not ReportKind.PROGRESS:
            self.changed.append(row)
        if report.kind in (ReportKind.FINISH, ReportKind.RETRY):
            self.over.append(row)
        return Receipt.ACCEPTED

    def write(self, connection: Connection) -> None:
        """Write what was accepted, each where its fence still holds."""
        for kind, statement in _REPORT.items():
            values = self.values.get(kind, [])
            if statement.run(connection, values) != len(values):
                # As for claims: only where several write at once, and all of it is undone.
                raise ConflictError("Somebody else wrote to a reported job; report again.")
        for seq, lines in self.lines:
            logs.append(connection, seq, lines)
        changes = [_event(row, row["state"], row["entry"]) for row in self.changed]
        events.append_many(connection, self.now_ms, changes)
        taken_s = [
            max(0, self.now_ms - (row["claimed_ms"] or self.now_ms)) / 1000 for row in self.over
        ]
        fairness.settle(connection, self.over, taken_s)
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
