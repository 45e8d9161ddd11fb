"""Executors of two releases that share a queue, and jobs of versions that not all of them run."""

from __future__ import annotations

import time
from pathlib import Path

from job_engine.client import Api
from job_engine.model import OLDEST_VERSION, SUPPORTED_VERSION
from tests.support.engine import Engine, eventually
from tests.support.trace import ACTIONS_DIR, read_trace

NEWER = SUPPORTED_VERSION + 1


def submit(engine: Engine, api: Api, trace: Path, version: int) -> str:
    payload = f'{{"file": "{trace}"}}'
    job = {"action": "trace", "payload": payload, "version": version}
    return str(api.add("job", job).data["resource-id"])


def start_newer(engine: Engine) -> int:
    """Start an executor of a newer release; returns its process id."""
    process = engine.spawn(
        "newer",
        "tests.faults.newer_executor",
        name="newer",
        credentials_file=engine.directory / "credentials" / "executor.json",
        threads=1,
        actions_dir=ACTIONS_DIR,
    )
    eventually(lambda: "executor.registered" in engine.log("newer"))
    return process.pid


def test_each_job_finds_an_executor_of_its_version(tmp_path: Path, zk_hosts: str) -> None:
    trace = tmp_path / "trace"
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start(threads=1, actions_dir=ACTIONS_DIR)
        newer = start_newer(engine)
        api = engine.admin()
        versions = [SUPPORTED_VERSION, NEWER] * 5
        jobs = {submit(engine, api, trace, version): version for version in versions}
        states = engine.wait_final(api, len(jobs))
        api.close()
        assert set(states.values()) == {"SUCCESS"}
    for job, (run,) in read_trace(trace).items():
        if jobs[job] == NEWER:
            assert run.pid == newer


def test_a_job_too_new_waits_for_its_executor_without_a_hot_loop(
    tmp_path: Path, zk_hosts: str
) -> None:
    trace = tmp_path / "trace"
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start(threads=1, actions_dir=ACTIONS_DIR)
        start_newer(engine)
        api = engine.admin()
        # Only while somebody lives who can run it, it is pushed; then nobody is left.
        engine.signal("newer", 19)
        job = submit(engine, api, trace, NEWER)
        claimed = f"job.claimed job={job}"
        eventually(lambda: claimed in engine.log("executor"))
        engine.kill("newer")
        time.sleep(6)
        # After 1 s and 2 s more: three with the back-off, and a loop would make thousands.
        assert 2 <= engine.log("executor").count(claimed) <= 4
        assert api.get(job).data["state"] == "QUEUED"
        # It holds nobody up meanwhile, and runs once somebody can.
        other = submit(engine, api, trace, SUPPORTED_VERSION)
        eventually(lambda: api.get(other).data["state"] == "SUCCESS", 10)
        start_newer(engine)
        eventually(lambda: api.get(job).data["state"] == "SUCCESS")
        api.close()


def test_a_job_too_old_fails_and_says_so(tmp_path: Path, zk_hosts: str) -> None:
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start(threads=1, actions_dir=ACTIONS_DIR)
        api = engine.admin()
        job = submit(engine, api, tmp_path / "trace", OLDEST_VERSION - 1)
        assert engine.wait_final(api, 1) == {job: "FAILED"}
        assert "v1 is not supported" in api.get(job).data["status-message"]
        api.close()
    assert not (tmp_path / "trace").exists()
