"""Jobs that wait for their time, or for too long, among the real processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from job_engine.client import Api
from job_engine.model import EXPIRED
from job_engine.model.timestamps import format_ms, parse_ms
from tests.support.engine import Engine, eventually


@pytest.fixture
def engine(tmp_path: Path, zk_hosts: str) -> Iterator[Engine]:
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api()
        engine.start_distributor()
        yield engine


@pytest.fixture
def api(engine: Engine) -> Iterator[Api]:
    api = engine.admin()
    yield api
    api.close()


def in_a_second() -> str:
    return format_ms(time.time_ns() // 1_000_000 + 1_000)


def add(api: Api, **attributes: Any) -> str:
    return str(api.add("job", {"action": "noop", **attributes}).data["resource-id"])


def test_expired_jobs_fail_without_an_executor(engine: Engine, api: Api) -> None:
    job = add(api, expiry=in_a_second())
    waits = add(api)
    document = eventually(lambda: (d := api.get(job).data)["state"] != "QUEUED" and d)
    assert (document["state"], document["status-message"]) == ("FAILED", EXPIRED)
    assert api.get(waits).data["queue-position"] == 1


def test_a_job_starts_at_its_time_and_may_be_sent_again(engine: Engine, api: Api) -> None:
    due = in_a_second()
    job = add(api, **{"not-before": due})
    engine.start_executor()
    engine.wait_final(api, 1)
    document = api.get(job).data
    assert document["state"] == "SUCCESS"
    assert parse_ms(document["started"]) >= parse_ms(due)
    again = api.operation(api.get(job), "resubmit").data["resource-id"]
    engine.wait_final(api, 2)
    assert api.get(again).data["state"] == "SUCCESS"
