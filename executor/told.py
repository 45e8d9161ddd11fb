"""What is told of a run to the API, and how little of it when the API takes exception."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from executor.outcome import Outcome, decide_outcome, retry_of
from executor.run import Run
from job_engine.errors import PlatformFaultError
from job_engine.model.protocol.claims import Report, ReportKind
from job_engine.model.protocol.message import BATCH_LIMIT

CHARACTERS: Final = 1 << 21
"""Characters of log and output that one request carries, unless a single report has
more: the API refuses bodies beyond a limit (16 MiB unless set), and a character may
take six bytes."""


@dataclass(frozen=True)
class Told:
    """One report of a run: its progress, or with an `outcome` its end."""

    run: Run
    outcome: Outcome | None
    report: Report
    bare: bool = False
    """Whether nothing is in it that came from the action."""

    @classmethod
    def progress(cls, run: Run) -> Told:
        """What is new of a run that goes on."""
        return cls(run, None, run.take_update())

    @classmethod
    def end(cls, run: Run, outcome: Outcome) -> Told:
        """What became of a run, with what was new of it."""
        update = run.take_update()
        try:
            return cls(run, outcome, _final(update, outcome))
        except ValidationError as error:
            problems = "; ".join(e["msg"] for e in error.errors())
            return cls(run, outcome, update).stripped(f"The action's result is none: {problems}")

    @property
    def characters(self) -> int:
        """About how large it is."""
        told = sum(map(len, self.report.log)) + sum(len(note.data) for note in self.report.events)
        return told + len(self.report.output or "")

    def stripped(self, why: str) -> Told:
        """The same run without a word of its action's, for when its words were refused.

        An end becomes a fault that is counted (no-silent-loss): it may have been a
        success, but one that cannot be written down.
        """
        run = self.run
        kept = Report(job=run.job.id, fence=run.claim.fence, kind=ReportKind.PROGRESS)
        if self.outcome is None:
            return Told(run, None, kept, bare=True)
        fault = PlatformFaultError(why)
        retry = retry_of(run.job, run.action.retry)
        outcome = decide_outcome(fault, None, run.job.attempts, retry, luck=random.random())
        return Told(run, outcome, _final(kept, outcome), bare=True)


def batches(told: Sequence[Told]) -> Iterator[Sequence[Told]]:
    """Cut into requests that the API takes."""
    batch: list[Told] = []
    characters = 0
    for one in told:
        characters += one.characters
        if batch and (len(batch) == BATCH_LIMIT or characters > CHARACTERS):
            yield batch
            batch, characters = [], one.characters
        batch.append(one)
    if batch:
        yield batch


def _final(update: Report, outcome: Outcome) -> Report:
    assert outcome.kind is not None
    # Made anew, not copied: a copy is not validated, and one report that the API cannot
    # read would have it refuse the whole batch.
    return Report(
        job=update.job,
        fence=update.fence,
        kind=outcome.kind,
        state=outcome.state,
        status_message=outcome.message or update.status_message,
        output=outcome.output,
        return_code=outcome.return_code,
        retry_after_s=outcome.retry_after_s,
        log=update.log,
        events=update.events,
    )
