"""Claiming ahead of the threads: for short jobs only, and never behind a long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from executor.board import Board
from executor.prefetch import AHEAD, PROVEN, Prefetch
from executor.run import Run
from job_engine.plugins import Action
from tests.unit.executor.support import claim_of, idle, run_of, swift

THREADS = 4
SHORT, LONG = swift.name, idle.name


@pytest.fixture
def board() -> Board:
    """A board of four threads."""
    return Board(THREADS)


@pytest.fixture
def prefetch(board: Board) -> Prefetch:
    """What claims ahead for it."""
    return Prefetch(board, {SHORT})


def prove(prefetch: Prefetch) -> None:
    for _ in range(PROVEN):
        prefetch.saw([SHORT, SHORT])


def fill(board: Board, tmp_path: Path, of: Action[Any], count: int) -> list[Run]:
    runs = [run_of(claim_of(n), tmp_path, of) for n in range(count)]
    for run in runs:
        board.add(run)
    return runs


def test_nothing_is_claimed_ahead_before_all_was_short_for_a_while(prefetch: Prefetch) -> None:
    assert prefetch.wait_room(0) == THREADS
    prove(prefetch)
    assert prefetch.wait_room(0) == THREADS + AHEAD
    prefetch.saw([SHORT, LONG])
    assert prefetch.wait_room(0) == THREADS


def test_claims_that_brought_nothing_to_run_prove_nothing(prefetch: Prefetch) -> None:
    for _ in range(PROVEN):
        prefetch.saw([])
    assert prefetch.wait_room(0) == THREADS


def test_it_is_worth_claiming_once_half_has_gone(
    board: Board, prefetch: Prefetch, tmp_path: Path
) -> None:
    prove(prefetch)
    runs = fill(board, tmp_path, swift, THREADS + AHEAD // 2 + 1)
    assert prefetch.wait_room(0) == AHEAD // 2 - 1
    board.remove(runs[0])
    assert prefetch.wait_room(10) == AHEAD // 2


def test_a_long_job_gets_a_thread_or_goes_back(
    board: Board, prefetch: Prefetch, tmp_path: Path
) -> None:
    fill(board, tmp_path, swift, THREADS - 1)
    assert prefetch.admits(LONG)
    fill(board, tmp_path, swift, 1)
    assert not prefetch.admits(LONG)
    assert prefetch.admits(SHORT)


def test_a_short_job_does_not_wait_where_every_thread_is_taken_for_long(
    board: Board, prefetch: Prefetch, tmp_path: Path
) -> None:
    (first, *_) = fill(board, tmp_path, idle, THREADS)
    assert not prefetch.admits(SHORT)
    board.remove(first)
    assert prefetch.admits(SHORT)
