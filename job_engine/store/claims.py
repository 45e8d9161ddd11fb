"""Jobs as executors see them: claims and fenced reports.

`decide_claim` is the pure function that answers; here its decisions are written, each
by a statement that only meets the row it was decided on (one-outcome). Every report is
one statement that names its fence (fenced).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, select, update

from job_engine.errors import InvalidResourceError
from job_engine.model import Answer, Claim, Decision, JobState, decide_claim
from job_engine.model.protocol import ClaimReply, ClaimRequest, Receipt, Report, ReportKind
from job_engine.store import events, logs
from job_engine.store.base import Clock, Database
from job_engine.store.documents import assemble, to_job
from job_engine.store.tables import jobs
from job_engine.store.transitions import (
    finished,
    finished_blind,
    message_columns,
    message_columns_blind,
    touch,
)


class Claims:
    """Batches of claims and reports, each batch in one transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def claim(self, request: ClaimRequest) -> Sequence[ClaimReply]:
        """Answer claims in their order; the same job may be among them twice."""
        actions = frozenset(request.actions)

        def unit(connection: Connection) -> Sequence[ClaimReply]:
            now_ms = self._clock()
            return [
                _claim(
                    connection,
                    Claim(item.job, item.entry, item.fence),
                    actions,
                    request.executor,
                    now_ms,
                )
                for item in request.claims
            ]

        return self._database.write(unit)

    def report(self, executor: str, reports: Sequence[Report]) -> Sequence[Receipt]:
        """Write reports in their order; one that is refused writes nothing."""

        def unit(connection: Connection) -> Sequence[Receipt]:
            now_ms = self._clock()
            return [_report(connection, executor, report, now_ms) for report in reports]

        return self._database.write(unit)


def _claim(
    connection: Connection, claim: Claim, actions: frozenset[str], executor: str, now_ms: int
) -> ClaimReply:
    row = connection.execute(select(jobs).where(jobs.c.id == claim.job_id)).mappings().first()
    job = None if row is None else to_job(row)
    decision = decide_claim(job, claim, actions, now_ms)
    reply = ClaimReply(job=claim.job_id, answer=decision.answer)
    if row is None or job is None:
        return reply
    columns = _decided(row, claim, decision, executor, now_ms)
    again = decision.answer.runs and job.state is JobState.RUNNING and job.fence == claim.fence
    if columns and not again:
        if not _write_where_unmoved(connection, row, columns, now_ms):
            # Only where several write at once: somebody else was first.
            return ClaimReply(job=claim.job_id, answer=Answer.STALE)
        row_after: dict[str, Any] = {**row, **columns}
    else:
        row_after = dict(row)
    if not decision.answer.runs:
        return reply
    return ClaimReply(
        job=claim.job_id,
        answer=decision.answer,
        document=assemble(row_after),
        attempts=row_after["attempts"],
        interruptions=row_after["interruptions"],
    )


def _decided(
    row: RowMapping, claim: Claim, decision: Decision, executor: str, now_ms: int
) -> dict[str, Any]:
    """Return the columns that a decision writes; none for one that writes nothing."""
    if decision.failure is not None:
        return {
            **message_columns(decision.failure, now_ms),
            **finished(row, JobState.FAILED, now_ms),
            **touch(now_ms, executor),
        }
    if not decision.answer.runs:
        return {}
    return {
        "state": JobState.RUNNING,
        "entry": claim.entry,
        "fence_incarnation": claim.fence.incarnation,
        "fence_czxid": claim.fence.czxid,
        "resumed": decision.answer is Answer.RESUME,
        "claimed_by": executor,
        "interruptions": decision.interruptions,
        "not_before_ms": None,
        "started_ms": now_ms if row["started_ms"] is None else row["started_ms"],
        "given_priority": None,
        **touch(now_ms, executor),
    }


def _write_where_unmoved(
    connection: Connection, row: RowMapping, columns: dict[str, Any], now_ms: int
) -> bool:
    unmoved = and_(
        jobs.c.seq == row["seq"],
        jobs.c.state == row["state"],
        jobs.c.entry.is_not_distinct_from(row["entry"]),
        jobs.c.fence_incarnation.is_not_distinct_from(row["fence_incarnation"]),
        jobs.c.fence_czxid.is_not_distinct_from(row["fence_czxid"]),
    )
    if connection.execute(update(jobs).where(unmoved).values(columns)).rowcount != 1:
        return False
    if columns["state"] != row["state"]:
        entry = columns.get("entry", row["entry"])
        events.append(connection, now_ms, row, JobState(columns["state"]), entry)
    return True


def _report(connection: Connection, executor: str, report: Report, now_ms: int) -> Receipt:
    fenced = and_(
        jobs.c.id == report.job,
        jobs.c.state == JobState.RUNNING,
        jobs.c.fence_incarnation == report.fence.incarnation,
        jobs.c.fence_czxid == report.fence.czxid,
    )
    statement = (
        update(jobs)
        .where(fenced)
        .values({**_reported(report, now_ms), **touch(now_ms, executor)})
        .returning(*jobs.c["seq", "id", "action", "priority", "state", "entry"])
    )
    row = connection.execute(statement).mappings().first()
    if row is None:
        return _refusal(connection, report.job)
    logs.append(connection, row["seq"], report.log)
    if report.kind is not ReportKind.PROGRESS:
        events.append(connection, now_ms, row, JobState(row["state"]), row["entry"])
    return Receipt.ACCEPTED


def _reported(report: Report, now_ms: int) -> dict[str, Any]:
    """Return the columns that a report writes."""
    columns = message_columns_blind(report.status_message, now_ms)
    for name in ("progress", "output", "return_code"):
        value = getattr(report, name)
        if value is not None:
            columns[name] = value
    match report.kind:
        case ReportKind.PROGRESS:
            pass
        case ReportKind.FINISH:
            if report.state not in (JobState.SUCCESS, JobState.FAILED):
                raise InvalidResourceError(f"{report.job}: a finish says SUCCESS or FAILED")
            columns |= finished_blind(report.state, now_ms)
        case ReportKind.RETRY:
            wait_ms = round((report.retry_after_s or 0.0) * 1000)
            columns |= {
                "state": JobState.QUEUED,
                "attempts": jobs.c.attempts + 1,
                "entry": None,
                "not_before_ms": now_ms + wait_ms if wait_ms > 0 else None,
            }
        case ReportKind.RELEASE:
            columns |= {"state": JobState.QUEUED}
    return columns


def _refusal(connection: Connection, job_id: str) -> Receipt:
    state = connection.execute(select(jobs.c.state).where(jobs.c.id == job_id)).scalar()
    return Receipt.FINAL if state is not None and JobState(state).is_final else Receipt.LOST
