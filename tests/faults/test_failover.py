"""What one process cannot do, another takes over."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from job_engine.queue import ZooKeeperSession
from tests.support.engine import SESSION_TIMEOUT_S, Engine, eventually
from tests.support.trace import ACTIONS_DIR, read_trace

JOBS = 4


def negotiated_s(hosts: str) -> float:
    """What the server grants whoever asks for the session timeout of these tests."""
    session = ZooKeeperSession(hosts, SESSION_TIMEOUT_S)
    session.start()
    try:
        assert session.wait_alive(10)
        assert session.granted_s is not None
        return session.granted_s
    finally:
        session.stop()


@pytest.mark.parametrize("leaderless", [False, True], ids=["with a leader", "without a leader"])
def test_jobs_of_a_killed_executor_run_elsewhere(
    tmp_path: Path, zk_hosts: str, leaderless: bool
) -> None:
    """They start within the session timeout plus a second."""
    trace = tmp_path / "trace"
    limit_s = negotiated_s(zk_hosts) + 1.0
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start(threads=JOBS, actions_dir=ACTIONS_DIR)
        api = engine.admin()
        payload = {"file": str(trace), "seconds": 30}
        jobs = {engine.submit(api, "trace", payload) for _ in range(JOBS)}
        eventually(lambda: trace.exists() and set(read_trace(trace)) == jobs)
        for name in ("idle1", "idle2"):
            engine.start_executor(name, threads=JOBS, actions_dir=ACTIONS_DIR)
        eventually(lambda: "executor.registered" in engine.log("idle1"))
        eventually(lambda: "executor.registered" in engine.log("idle2"))
        if leaderless:
            engine.kill("distributor")
        killed_at = time.monotonic()
        engine.kill("executor")
        eventually(lambda: all(len(runs) == 2 for runs in read_trace(trace).values()), limit_s + 10)
        took_s = [
            max(r.started_at for r in runs) - killed_at for runs in read_trace(trace).values()
        ]
        assert max(took_s) <= limit_s, took_s
        api.close()


def test_a_leader_whose_key_is_refused_lets_another_lead(tmp_path: Path, zk_hosts: str) -> None:
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api()
        wrong = tmp_path / "credentials" / "executor.json"
        engine.spawn("stranger", "distributor", name="stranger", credentials_file=wrong)
        engine.start_executor()
        eventually(lambda: "leader.elected election=noop" in engine.log("stranger"))
        api = engine.admin()
        engine.submit(api, "noop")
        eventually(lambda: "leader.api_failed" in engine.log("stranger"))
        engine.start_distributor()
        engine.wait_final(api, 1)
        assert "events.refused" in engine.log("stranger")
        api.close()
