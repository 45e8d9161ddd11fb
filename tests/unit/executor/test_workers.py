"""Worker threads outlive whatever an action does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from executor.board import Board
from executor.outcome import Disposal, Outcome
from executor.reporter import Reporter
from executor.run import Run
from executor.workers import Workers, outcome_of
from job_engine.errors import Cancelled, ClaimLost, Drained, Interruption
from job_engine.model.protocol.claims import ReportKind
from job_engine.plugins import Action, Context, action
from tests.unit.executor.support import claim_of, idle, run_of


class UnreadableError(Exception):
    """Breaks whoever looks at it."""

    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


@action("unreadable")
def unreadable(_context: Context[Any]) -> None:
    """Raise what cannot be printed."""
    raise UnreadableError


@action("five")
def five(_context: Context[Any]) -> None:
    """Return something that is no result."""
    return cast(None, 5)


class Ends:
    """Collects outcomes where a reporter would write them."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def end(self, _run: Run, outcome: Outcome) -> None:
        """See `Reporter`."""
        self.outcomes.append(outcome)


@pytest.mark.parametrize("breaks", [unreadable, five])
def test_a_thread_survives_what_its_action_does(breaks: Action[Any], tmp_path: Path) -> None:
    board, ends = Board(1), Ends()
    workers = Workers(1, board, cast(Reporter, ends))
    workers.start()
    for number, of in enumerate((breaks, idle)):
        run = run_of(claim_of(number), tmp_path, of)
        board.add(run)
        workers.submit(run)
        assert board.wait_idle(10)
    workers.stop(5)
    assert [outcome.kind for outcome in ends.outcomes] == [ReportKind.RETRY, ReportKind.FINISH]


@pytest.mark.parametrize(
    ("order", "outcome"),
    [
        (Drained(), Outcome(kind=ReportKind.RELEASE)),
        (ClaimLost(), Outcome(disposal=Disposal.RELEASE)),
        (Cancelled(), Outcome(disposal=Disposal.CONSUME)),
    ],
)
def test_a_run_that_is_given_back_before_it_began_is_no_success(
    order: Interruption, outcome: Outcome, tmp_path: Path
) -> None:
    run = run_of(claim_of(0), tmp_path, idle)
    run.interrupt(order)
    assert outcome_of(run) == outcome
