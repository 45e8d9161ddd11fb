"""Claims of executors.

The pure function `decide_claim` decides; this module writes the decisions, each by a
statement that only matches the row it was decided on (one-outcome). `reports.py` writes
reports.
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
from job_engine.store.prepared import PreparedWrite
from job_engine.store.tables import jobs


class Claims:
    """Answers batches of claims and of reports, each batch in one transaction."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def claim(self, request: ClaimRequest, by: str | None = None) -> Sequence[ClaimReply]:
        """Answer claims in their order; the same job may be among them twice.

        `by` is the executor's identity: it becomes `updated-by`, and nobody else may report on
        the run.
        """
        return self.submit_claim(request, by).result()

    def submit_claim(
        self, request: ClaimRequest, by: str | None = None
    ) -> Future[Sequence[ClaimReply]]:
        """Like `claim`, without waiting."""
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

    def report(self, batch: Sequence[Report], by: str | None = None) -> Sequence[ReportReceipt]:
        """Decide on reports in their order; one that is refused writes nothing."""
        return self.submit_report(batch, by).result().receipts

    def submit_report(
        self, batch: Sequence[Report], by: str | None = None
    ) -> Future[reports.Reported]:
        """Like `report`, without waiting; the result also has the runs that ended."""
        return self._database.submit(
            lambda connection: reports.write(connection, batch, by, self._clock())
        )


def _ability(request: ClaimRequest) -> Ability:
    return Ability(frozenset(request.actions), request.job_version)


@dataclass
class _Batch:
    """A batch of claims, decided one after another and then written together."""

    rows: dict[str, Row]
    """Each job's row after the claims decided so far."""
    by: str | None
    now_ms: int
    ability: Ability
    claimed: list[tuple[Row, Row]] = field(default_factory=list)
    """Pairs of old and new row, for claims that run."""
    failed: list[tuple[Row, Row]] = field(default_factory=list)
    """The same for jobs that end with their claim."""
    moved: list[Row] = field(default_factory=list)
    """New rows of jobs that change their state."""
    unmoved: list[Row] = field(default_factory=list)
    """Old rows of the same jobs."""

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
            # Otherwise the same claim was repeated, and everything is written already.
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
                # Only with several writers. The whole batch is undone; the executor repeats
                # the claims, which are then answered from the new rows.
                raise ConflictError("A claimed job was changed meanwhile; claim again.")
        events.append_many(connection, self.now_ms, self.moved)
        tally.replace(connection, self.unmoved, self.moved)
        notify_callbacks(connection, self.moved, self.now_ms)
        # An executor may claim a job before the leader has recorded its entry.
        fairness.charge(connection, [row for row, _ in self.claimed if row["entry"] is None])
        # A job that its claim has failed is not charged for a run.
        unrun = [row for row, _ in self.failed if row["entry"]]
        fairness.settle(connection, unrun, [0.0] * len(unrun))
        starts.count(connection, self.now_ms, Counter(row["action"] for row, _ in self.claimed))

    def _note(self, decided: list[tuple[Row, Row]], row: Row, new: Row) -> Row:
        """Note the columns to write, and return the resulting row."""
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


def _where_unmoved(names: Sequence[str]) -> PreparedWrite:
    """Return an update of these columns that matches only rows unchanged since they were read."""
    unmoved = [jobs.c[name].is_not_distinct_from(bindparam(old)) for name, old in _OLD[1:]]
    return PreparedWrite(update(jobs).where(jobs.c.seq == bindparam("old_seq"), *unmoved), names)


_CLAIM: Final = _where_unmoved(_STARTED)
_FAIL: Final = _where_unmoved(_ENDED)
