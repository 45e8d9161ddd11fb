"""What is on the board when sessions come and go under it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from executor.board import Board
from job_engine.errors import ClaimLost
from tests.unit.executor.support import claim_of, run_of


def test_the_next_run_of_an_entry_stays_when_the_last_one_ends(tmp_path: Path) -> None:
    """lost-means-stop: whatever runs can be found, to be interrupted, timed and counted."""
    board = Board(2)
    lost = run_of(claim_of(1, session_id=1), tmp_path)
    board.add(lost)
    lost.interrupt(ClaimLost())
    again = run_of(claim_of(1, session_id=2, czxid=9), tmp_path)
    board.add(again)
    assert board.wait_room(0, 1, 0) == 0
    assert board.of_job("job/1") == [lost, again]
    board.remove(lost)
    assert board.runs() == [again]
    assert not board.wait_idle(0)


def test_claims_outlive_an_incarnation_that_is_drawn_anew_under_their_session() -> None:
    board = Board(1)
    claim = claim_of(1)
    board.hold([claim])
    assert board.held(replace(claim.registration, incarnation=2)) == [claim]
    assert board.held(claim_of(1, session_id=2).registration) == []
