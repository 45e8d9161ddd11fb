"""Claiming ahead of the threads: for short jobs only, and never behind a long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from executor.board import Board
from executor.prefetch import PARTS, PROVEN, Prefetch
from executor.run import Run
from job_engine.model.ahead import AHEAD_S, LEAST_AHEAD, MOST_AHEAD
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
    assert prefetch.wait_room(0) == LEAST_AHEAD // 2
    prefetch.saw([SHORT, LONG])
    assert prefetch.wait_room(0) == THREADS


def test_claims_that_brought_nothing_to_run_prove_nothing(prefetch: Prefetch) -> None:
    for _ in range(PROVEN):
        prefetch.saw([])
    assert prefetch.wait_room(0) == THREADS


def test_it_is_worth_claiming_once_a_part_has_gone(
    board: Board, prefetch: Prefetch, tmp_path: Path
) -> None:
    prove(prefetch)
    part = LEAST_AHEAD // PARTS
    runs = fill(board, tmp_path, swift, THREADS + LEAST_AHEAD - part + 1)
    assert prefetch.wait_room(0) == part - 1
    assert prefetch.room_beyond(0) == 0
    board.remove(runs[0])
    assert prefetch.wait_room(10) == part
    assert prefetch.room_beyond(0) == part
    assert prefetch.room_beyond(1) == 0


def test_a_fast_executor_prefetches_more(board: Board) -> None:
    now_s = 0.0
    prefetch = Prefetch(board, {SHORT}, lambda: now_s)
    prove(prefetch)
    for _ in range(4):
        prefetch.saw([SHORT] * LEAST_AHEAD)
    assert prefetch.wait_room(0) == (4 * LEAST_AHEAD + 2 * PROVEN) // 2
    prefetch.saw([SHORT] * MOST_AHEAD)
    assert prefetch.wait_room(0) == MOST_AHEAD // 2
    now_s += 2 * AHEAD_S
    assert prefetch.wait_room(0) == LEAST_AHEAD // 2


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
