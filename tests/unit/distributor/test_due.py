"""Waiting for retries by a clock that is not the API's."""

from __future__ import annotations

from distributor.due import LEAST_S, DueTimer

HOUR_S = 3600.0


def test_a_right_clock_waits_until_the_retry_is_due() -> None:
    timer = DueTimer()
    assert timer.wait_s(due_ms=10_000, wall_s=4.0, now=0.0) == 6.0
    assert timer.wait_s(due_ms=10_000, wall_s=9.99, now=5.99) == LEAST_S


def test_a_clock_that_is_an_hour_ahead_asks_seldom() -> None:
    timer = DueTimer()
    now, asked = 0.0, 0
    while now < HOUR_S:
        now += timer.wait_s(due_ms=0, wall_s=HOUR_S + now, now=now)
        asked += 1
    assert asked < 20


def test_being_woken_meanwhile_does_not_lengthen_the_wait() -> None:
    timer = DueTimer()
    waits = [timer.wait_s(due_ms=1000, wall_s=1.0, now=n / 1000) for n in range(50)]
    assert set(waits) == {LEAST_S}


def test_the_next_retry_is_waited_for_anew() -> None:
    timer = DueTimer()
    waits = [timer.wait_s(due, wall_s=10.0, now=n) for due, n in ((1, 0), (1, 4), (2, 5), (2, 7))]
    assert waits == [LEAST_S, 4.0, LEAST_S, 2.0]
