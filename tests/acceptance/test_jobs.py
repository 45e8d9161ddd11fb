"""A job's way through the real processes, seen by a client."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from job_engine.client import Api
from job_engine.queue import ZooKeeperPushQueue, ZooKeeperSession
from tests.support.engine import SESSION_TIMEOUT_S, Engine, eventually
from tests.support.trace import ACTIONS_DIR, read_trace


@pytest.fixture
def engine(tmp_path: Path, zk_hosts: str) -> Iterator[Engine]:
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start(actions_dir=ACTIONS_DIR)
        yield engine


@pytest.fixture
def api(engine: Engine) -> Iterator[Api]:
    api = engine.admin()
    yield api
    api.close()


def test_a_job_runs_and_leaves_nothing_in_the_queue(
    engine: Engine, api: Api, zk_hosts: str
) -> None:
    job = engine.submit(api, "noop")
    engine.wait_final(api, 1)
    document = api.get(job).data
    assert document["state"] == "SUCCESS"
    assert document["return-code"] == 0
    assert document["progress"] == 100
    zk = KazooClient(zk_hosts)
    zk.start()
    eventually(lambda: not zk.get_children("/job/entries") and not zk.get_children("/job/taken"))
    zk.stop()
    zk.close()


def test_scheduled_jobs_come_by_themselves_and_once(engine: Engine, api: Api) -> None:
    def scheduled() -> list[str]:
        found = api.search("job", filter="action='cleanup_jobs'", select="id,state")
        return [resource.data["state"] for resource in found.resources]

    eventually(lambda: scheduled() == ["SUCCESS"])
    engine.kill("distributor")
    engine.start_distributor()
    engine.submit(api, "noop")
    engine.wait_final(api, 1)
    assert scheduled() == ["SUCCESS"]


def test_a_failing_job_says_why(engine: Engine, api: Api) -> None:
    job = engine.submit(api, "noop", {"fail": "the reason"})
    engine.wait_final(api, 1)
    document = api.get(job).data
    assert (document["state"], document["status-message"]) == ("FAILED", "the reason")


def test_urgent_jobs_overtake(engine: Engine, api: Api, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    blockers = [engine.submit(api, "trace", {"file": str(trace), "seconds": 2}) for _ in range(4)]
    eventually(lambda: all(engine.states(api)[b] == "RUNNING" for b in blockers))
    late = [engine.submit(api, "trace", {"file": str(trace)}) for _ in range(8)]
    urgent = api.add(
        "job", {"action": "trace", "priority": 1, "payload": f'{{"file": "{trace}"}}'}
    ).data["resource-id"]
    engine.wait_final(api, 13)
    executions = read_trace(trace)
    starts = sorted(late, key=lambda job: executions[job][0].started_at)
    # One thread may have taken a less urgent job in the same breath.
    assert executions[urgent][0].started_at <= executions[starts[3]][0].started_at


def test_cancelling_a_running_job_frees_its_thread_within_a_second(
    engine: Engine, api: Api, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    job = engine.submit(api, "trace", {"file": str(trace), "seconds": 60})
    eventually(lambda: trace.exists() and read_trace(trace).get(job))
    cancelled_at = time.monotonic()
    api.operation(api.get(job), "cancel")
    eventually(lambda: time.monotonic() - read_trace(trace)[job][0].last_at > 1.0)
    assert read_trace(trace)[job][0].last_at - cancelled_at < 1.0
    assert not read_trace(trace)[job][0].ended
    assert api.get(job).data["state"] == "CANCELED"


def test_cancelling_a_waiting_job_takes_its_entry_out(
    engine: Engine, api: Api, tmp_path: Path, zk_hosts: str
) -> None:
    trace = tmp_path / "trace"
    blockers = [engine.submit(api, "trace", {"file": str(trace), "seconds": 60}) for _ in range(4)]
    eventually(lambda: all(engine.states(api)[b] == "RUNNING" for b in blockers))
    job = engine.submit(api, "trace", {"file": str(trace)})
    session = ZooKeeperSession(zk_hosts, SESSION_TIMEOUT_S)
    session.start()
    assert session.wait_alive(10)

    entries = ZooKeeperPushQueue(session, "/job", "test")
    eventually(lambda: job in entries.jobs(sorted(entries.entries())).values())
    api.operation(api.get(job), "cancel")
    eventually(lambda: job not in entries.jobs(sorted(entries.entries())).values())
    session.stop()
    for blocker in blockers:
        api.operation(api.get(blocker), "cancel")
    assert job not in read_trace(trace)


def test_a_payload_that_does_not_fit_is_refused_at_creation(engine: Engine, api: Api) -> None:
    eventually(lambda: "executor.registered" in engine.log("executor"))
    with pytest.raises(Exception, match="seconds"):
        engine.submit(api, "noop", {"seconds": "long"})


def test_jobs_of_an_action_that_nobody_has_are_failed(tmp_path: Path, zk_hosts: str) -> None:
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api()
        engine.start_distributor("d", orphan_grace_s=1)
        engine.start_executor("e")
        api = engine.admin()
        job = engine.submit(api, "no_such_action")
        engine.wait_final(api, 1)
        document = api.get(job).data
        api.close()
    assert document["state"] == "FAILED"
    assert "no_such_action" in document["status-message"]


def test_a_drain_lets_running_jobs_finish(engine: Engine, api: Api, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    job = engine.submit(api, "trace", {"file": str(trace), "seconds": 2})
    eventually(trace.exists)
    assert engine.stop("executor") == 0
    assert api.get(job).data["state"] == "SUCCESS"


def test_a_second_signal_gives_running_jobs_back(engine: Engine, api: Api, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    job = engine.submit(api, "trace", {"file": str(trace), "seconds": 8})
    eventually(trace.exists)
    engine.signal("executor", signal.SIGTERM)
    eventually(lambda: "executor.draining" in engine.log("executor"))
    assert engine.stop("executor") == 0
    given_back = api.get(job).data
    assert given_back["state"] == "QUEUED"
    engine.start_executor("another", actions_dir=ACTIONS_DIR)
    engine.wait_final(api, 1)
    assert api.get(job).data["state"] == "SUCCESS"
    assert len(read_trace(trace)[job]) == 2


def test_an_action_that_ignores_its_interruption_ends_the_process(
    engine: Engine, api: Api, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    job = engine.submit(api, "trace", {"file": str(trace), "deaf_s": 60})
    eventually(trace.exists)
    api.operation(api.get(job), "cancel")
    assert engine.processes["executor"].wait(20) == 86
