"""Jobs as executors see them: claims and fenced reports.

`decide_claim` is the pure function that answers; here its decisions are written, each
by a statement that only meets the row it was decided on (one-outcome). What reports
write is in `reports.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, bindparam, update

from job_engine.errors import ConflictError
from job_engine.model import (
    Ability,
    Answer,
    Claim,
    Decision,
    Failure,
    FinalVerdict,
    JobState,
    decide_claim,
)
from job_engine.model.protocol.claims import ClaimReply, ClaimRequest, Report, ReportReceipt
from job_engine.store.base import Clock, Database, Row
from job_engine.store.fair_share import fairness, starts
from job_engine.store.jobs import events, reports, tally
from job_engine.store.jobs.changes import WHOLE, notify_callbacks
from job_engine.store.jobs.documents import assemble, to_job
from job_engine.store.jobs.transitions import finished, message_columns, touch
from job_engine.store.many import Many
from job_engine.store.tables import jobs


class Claims:
    """Batches of claims and reports, each batch in one transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def claim(self, request: ClaimRequest, by: str | None = None) -> Sequence[ClaimReply]:
        """Answer claims in their order; the same job may be among them twice.

        `by` is who asks: `updated-by` names them, and nobody else may report on the run.
        """
        return self.submit_claim(request, by).result()

    def submit_claim(
        self, request: ClaimRequest, by: str | None = None
    ) -> Future[Sequence[ClaimReply]]:
        """Do as `claim`, without waiting."""
        claims = [Claim(item.job, item.entry, item.fence) for item in request.claims]

        def unit(connection: Connection) -> Sequence[ClaimReply]:
            rows: dict[str, Row] = {
                **WHOLE.by_id(connection, ids=[claim.job_id for claim in claims])
            }
            batch = _Batch(rows, by, self._clock(), _ability(request))
            replies = [batch.answer(claim) for claim in claims]
            batch.write(connection)
            return replies

        return self._database.submit(unit)

    def report(self, told: Sequence[Report], by: str | None = None) -> Sequence[ReportReceipt]:
        """Write reports in their order; one that is refused writes nothing."""
        return self.submit_report(told, by).result()

    def submit_report(
        self, told: Sequence[Report], by: str | None = None
    ) -> Future[Sequence[ReportReceipt]]:
        """Do as `report`, without waiting."""
        return self._database.submit(
            lambda connection: reports.write(connection, told, by, self._clock())
        )


def _ability(request: ClaimRequest) -> Ability:
    return Ability(frozenset(request.actions), request.job_version)


@dataclass
class _Batch:
    """Claims that are decided one after the other, then written together."""

    rows: dict[str, Row]
    """Each job as the claims so far leave it."""
    by: str | None
    now_ms: int
    ability: Ability
    claimed: list[tuple[Row, Row]] = field(default_factory=list)
    """What claims that run write, after the row that it is written on top of."""
    failed: list[tuple[Row, Row]] = field(default_factory=list)
    """The same of jobs that their claim ends."""
    moved: list[Row] = field(default_factory=list)
    """Those of them that are in another state then, as they are then."""
    unmoved: list[Row] = field(default_factory=list)
    """The same as they were before."""

    def answer(self, claim: Claim) -> ClaimReply:
        """Decide one claim."""
        row = self.rows.get(claim.job_id)
        job = None if row is None else to_job(row, whole=False)
        decision = decide_claim(job, claim, self.ability, self.now_ms)
        if row is None or job is None:
            return ClaimReply(job=claim.job_id, answer=decision.answer)
        runs = decision.answer.runs
        if decision.failure is not None:
            row = self._note(self.failed, row, self._end(row, decision.failure, decision.verdict))
        elif runs and (job.state is not JobState.RUNNING or job.fence != claim.fence):
            # Otherwise it is the same claim again, which has written all that it writes.
            row = self._note(self.claimed, row, self._start(row, claim, decision))
        return ClaimReply(
            job=claim.job_id,
            answer=decision.answer,
            document=assemble(row) if runs else None,
            attempts=row["attempts"],
            interruptions=row["interruptions"],
        )

    def write(self, connection: Connection) -> None:
        """Write the decisions, each where its row is as it was when it was decided on."""
        for statement, decided in ((_CLAIM, self.claimed), (_FAIL, self.failed)):
            values = [{**{guard: row[name] for name, guard in _OLD}, **new} for row, new in decided]
            if statement.run(connection, values) != len(values):
                # Only where several write at once. All of it is undone; the same claims
                # may be made again, and are then answered by what is there.
                raise ConflictError("Somebody else wrote to a claimed job; claim again.")
        events.append_many(connection, self.now_ms, self.moved)
        tally.replace(connection, self.unmoved, self.moved)
        notify_callbacks(connection, self.moved, self.now_ms)
        # A claimer may be faster than the leader with its word that the job was pushed.
        fairness.charge(connection, [row for row, _ in self.claimed if row["entry"] is None])
        # One that its claim failed was fed for nothing.
        unrun = [row for row, _ in self.failed if row["entry"]]
        fairness.settle(connection, unrun, [0.0] * len(unrun))
        starts.count(connection, self.now_ms, Counter(row["action"] for row, _ in self.claimed))

    def _note(self, decided: list[tuple[Row, Row]], row: Row, new: Row) -> Row:
        """Note what is to be written, and return the row as it is then."""
        decided.append((row, new))
        after = self.rows[row["id"]] = {**row, **new}
        if new["state"] != row["state"]:
            self.moved.append(after)
            self.unmoved.append(row)
        return after

    def _end(self, row: Row, why: str, verdict: FinalVerdict | None) -> Row:
        output = row["output"]
        if output is None and verdict is not None:
            output = Failure.of(verdict, why).model_dump_json()
        return {
            "output": output,
            "duration": None,
            **message_columns(why, self.now_ms),
            **finished(row, JobState.FAILED, self.now_ms),
            **touch(self.now_ms, self.by),
        }

    def _start(self, row: Row, claim: Claim, decision: Decision) -> Row:
        return {
            "state": "RUNNING",
            "entry": claim.entry,
            "fence_incarnation": claim.fence.incarnation,
            "fence_czxid": claim.fence.czxid,
            "resumed": decision.answer is Answer.RESUME,
            "claimed_by": self.by,
            "claimed_ms": self.now_ms,
            "interruptions": decision.interruptions,
            "not_before_ms": None,
            "started_ms": self.now_ms if row["started_ms"] is None else row["started_ms"],
            "given_priority": None,
            "updated_ms": self.now_ms,
            "updated_by": self.by,
        }


_STARTED: Final = (
    *("state", "entry", "fence_incarnation", "fence_czxid", "resumed", "claimed_by"),
    *("claimed_ms", "interruptions", "not_before_ms", "started_ms", "given_priority"),
    *("updated_ms", "updated_by"),
)
_ENDED: Final = (
    *("state", "progress", "duration", "status_message", "status_changed_ms", "output"),
    *("updated_ms", "updated_by"),
)
_GUARDS: Final = ("seq", "state", "entry", "fence_incarnation", "fence_czxid")
_OLD: Final = [(name, f"old_{name}") for name in _GUARDS]


def _where_unmoved(names: Sequence[str]) -> Many:
    """Return the update of these columns of rows that are as they were when they were read."""
    unmoved = [jobs.c[name].is_not_distinct_from(bindparam(old)) for name, old in _OLD[1:]]
    return Many(update(jobs).where(jobs.c.seq == bindparam("old_seq"), *unmoved), names)


_CLAIM: Final = _where_unmoved(_STARTED)
_FAIL: Final = _where_unmoved(_ENDED)
