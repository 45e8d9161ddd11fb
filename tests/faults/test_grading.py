"""Executors that die while they grade: every submission gets its verdict, nothing is left."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from job_engine.settings import SandboxSettings
from tests.contract.sandbox import bubblewrap_host, docker_host
from tests.support.engine import Engine, eventually
from tests.support.grading import RIGHT, SLOW, WRONG, add_assignment, submission
from tests.support.trace import ACTIONS_DIR, longest_overlap_s, read_trace

JOBS = 200


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("settings", "leftovers"),
    [
        pytest.param(
            bubblewrap_host.settings,
            bubblewrap_host.leftovers,
            marks=pytest.mark.bubblewrap,
            id="bubblewrap",
        ),
        pytest.param(
            docker_host.settings, docker_host.leftovers, marks=pytest.mark.docker, id="docker"
        ),
    ],
)
def test_mixed_jobs_with_one_executor_killed_and_one_stopped(
    tmp_path: Path,
    zk_hosts: str,
    settings: Callable[[], SandboxSettings],
    leftovers: Callable[[str], list[str]],
) -> None:
    sandbox = settings()
    run_id = uuid.uuid4().hex[:8]
    names = [f"e{n}-{run_id}" for n in (1, 2, 3)]
    trace = tmp_path / "trace"

    def start_executor(name: str) -> None:
        engine.start_executor(
            name,
            threads=4,
            actions_dir=ACTIONS_DIR,
            sandbox=sandbox.sandbox,
            bundle_cache_dir=tmp_path / "bundles",
            **({"default_image": sandbox.default_image} if sandbox.default_image else {}),
        )

    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api()
        engine.start_distributor("d1")
        engine.start_distributor("d2")
        for name in names:
            start_executor(name)
        eventually(lambda: all("registered" in engine.log(name) for name in names))
        api = engine.admin()
        assignment = add_assignment(api, tmp_path / "assignment")
        scores: dict[str, float | None] = {}
        for n in range(JOBS):
            if n % 4 == 0:
                program = (RIGHT, WRONG, SLOW)[n // 4 % 3]
                job = engine.submit(api, "grade", submission(assignment, program))
                scores[job] = 0.0 if program == WRONG else 1.0
            else:
                job = engine.submit(api, "trace", {"file": str(trace), "seconds": n % 5 * 0.1})
                scores[job] = None
            if n == JOBS // 2:
                engine.kill(names[0])
            if n == 2 * JOBS // 3:
                engine.signal(names[1], signal.SIGTERM)
        states = engine.wait_final(api, JOBS, timeout_s=240)
        assert states == dict.fromkeys(scores, "SUCCESS")
        for job, score in scores.items():
            if score is not None:
                assert json.loads(api.get(job).data["output"])["score"] == score
        assert engine.processes[names[1]].wait(30) == 0
        # What the killed one left is found by its name, at its next start.
        start_executor(names[0])
        eventually(lambda: engine.log(names[0]).count("executor.started") == 2)
        assert engine.stop(names[0]) == 0
        assert engine.stop(names[2]) == 0
        zk = KazooClient(zk_hosts)
        zk.start()
        assert zk.get_children("/job/entries") == []
        assert zk.get_children("/job/taken") == []
        zk.stop()
        zk.close()
        api.close()
    for name in names:
        assert leftovers(name) == []
        assert not (tmp_path / "scratch" / name).exists()
    for runs in read_trace(trace).values():
        assert any(run.ended for run in runs)
        assert longest_overlap_s(runs) <= 0
