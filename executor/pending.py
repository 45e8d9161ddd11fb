"""Reports that wait to be sent to the API, cut into batches, and stripped where it refuses one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from executor.outcome import Outcome, decide_outcome, retry_of
from executor.run import Run, Update
from job_engine.errors import PlatformFaultError
from job_engine.model.protocol.claims import Report, ReportKind
from job_engine.model.protocol.message import BATCH_LIMIT

CHARACTERS: Final = 1 << 21
"""Characters of log and output that one request carries, unless a single report has
more: the API refuses bodies beyond a limit (16 MiB unless set), and a character may
take six bytes."""


@dataclass(frozen=True)
class PendingReport:
    """One report of a run: its progress, or with an `outcome` its end."""

    run: Run
    outcome: Outcome | None
    report: Report
    bare: bool = False
    """Whether nothing is in it that came from the action."""

    @classmethod
    def progress(cls, run: Run) -> PendingReport:
        """Report what is new of a run that goes on."""
        return cls(run, None, _progress(run, run.take_update()))

    @classmethod
    def end(cls, run: Run, outcome: Outcome) -> PendingReport:
        """Report the outcome of a run, together with what is new of it."""
        update = run.take_update()
        try:
            return cls(run, outcome, _final(run, update, outcome))
        except ValidationError as error:
            problems = "; ".join(e["msg"] for e in error.errors())
            report = _progress(run, update)
            return cls(run, outcome, report).stripped(f"The action's result is invalid: {problems}")

    @property
    def characters(self) -> int:
        """Characters of log, events and output, which bound the size of a request."""
        logged = sum(map(len, self.report.log))
        noted = sum(len(note.data) for note in self.report.events)
        return logged + noted + len(self.report.output or "")

    def stripped(self, why: str) -> PendingReport:
        """Return the report without anything that the action wrote, which the API refused.

        An outcome becomes a counted platform fault with `why` as its message
        (no-silent-loss): the run may have succeeded, but its result cannot be stored.
        """
        run = self.run
        nothing = Update(None, None, [], [])
        if self.outcome is None:
            return PendingReport(run, None, _progress(run, nothing), bare=True)
        fault = PlatformFaultError(why)
        retry = retry_of(run.job, run.action.retry)
        outcome = decide_outcome(fault, None, run.job.attempts, retry, luck=random.random())
        return PendingReport(run, outcome, _final(run, nothing, outcome), bare=True)


def batches(pending: Sequence[PendingReport]) -> Iterator[Sequence[PendingReport]]:
    """Cut reports into requests that stay within the API's limits."""
    batch: list[PendingReport] = []
    characters = 0
    for item in pending:
        characters += item.characters
        if batch and (len(batch) == BATCH_LIMIT or characters > CHARACTERS):
            yield batch
            batch, characters = [], item.characters
        batch.append(item)
    if batch:
        yield batch


def _progress(run: Run, update: Update) -> Report:
    return Report(
        job=run.job.id, fence=run.claim.fence, kind=ReportKind.PROGRESS, **update._asdict()
    )


def _final(run: Run, update: Update, outcome: Outcome) -> Report:
    assert outcome.kind is not None
    # Validated here: one report that the API cannot read would have it refuse the whole batch.
    return Report(
        job=run.job.id,
        fence=run.claim.fence,
        kind=outcome.kind,
        state=outcome.state,
        status_message=outcome.message or update.status_message,
        output=outcome.output,
        return_code=outcome.return_code,
        retry_after_s=outcome.retry_after_s,
        away=outcome.away,
        log=update.log,
        events=update.events,
    )
