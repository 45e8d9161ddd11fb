"""The window and the ticks: pure functions of what is measured and of the clock."""

from __future__ import annotations

import pytest

from distributor.ticks import newest_tick_ms
from distributor.window import LARGEST, DrainMeter, window_size
from job_engine.model.ahead import MOST_AHEAD
from job_engine.model.protocol.actions import ActionDescription


@pytest.mark.parametrize(
    ("threads", "drained", "window"),
    [(4, 0.0, 8), (4, 100.0, 100), (4, 1e6, LARGEST), (2000, 0.0, LARGEST)],
)
def test_window(threads: int, drained: float, window: int) -> None:
    assert window_size(threads, drained) == window


@pytest.mark.parametrize(
    ("threads", "drained", "window"),
    [
        (16, 0.0, 32),
        (16, 100.0, 36),
        (16, 1000.0, 1000 - 200),
        (16, 1e6, LARGEST - MOST_AHEAD),
        (2000, 1e6, LARGEST),
    ],
)
def test_prefetched_jobs_are_part_of_the_window(threads: int, drained: float, window: int) -> None:
    assert window_size(threads, drained, short=True) == window


def test_the_meter_forgets_after_a_second() -> None:
    meter = DrainMeter()
    meter.add(10, now=100.0)
    meter.add(5, now=100.5)
    assert meter.per_s(101.0) == 15
    assert meter.per_s(101.2) == 5
    assert meter.per_s(110.0) == 0


def test_the_meter_need_not_wait_for_a_second() -> None:
    meter = DrainMeter()
    meter.add(16, now=100.0)
    meter.add(32, now=100.1)
    meter.add(32, now=100.2)
    assert meter.per_s(100.2) == pytest.approx(64 / 0.2)


def test_a_burst_of_claims_by_idle_threads_is_no_rate() -> None:
    meter = DrainMeter()
    meter.add(16, now=100.0)
    meter.add(0, now=100.01)
    assert meter.per_s(100.01) == 16


def described(**schedule: object) -> ActionDescription:
    return ActionDescription.model_validate(
        {"name": "a", "payload_schema": {}, "timeout_s": 1, **schedule}
    )


@pytest.mark.parametrize(
    ("schedule", "now_ms", "tick_ms"),
    [
        ({}, 123_456, None),
        ({"interval_s": 60}, 123_456, 120_000),
        ({"interval_s": 60}, 120_000, 120_000),
        ({"interval_s": 60}, 119_999, 60_000),
        ({"cron": "*/5 * * * *"}, 601_000, 600_000),
        ({"cron": "*/5 * * * *"}, 600_000, 600_000),
        ({"cron": "0 3 * * *"}, 86_400_000, 3 * 3_600_000),
    ],
)
def test_ticks(schedule: dict[str, object], now_ms: int, tick_ms: int | None) -> None:
    assert newest_tick_ms(described(**schedule), now_ms) == tick_ms
