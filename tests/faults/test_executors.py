"""Executors that are killed, stopped and paused: nothing lost, nothing graded twice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from kazoo.client import KazooClient

from tests.support.engine import SESSION_TIMEOUT_S, Engine, eventually
from tests.support.trace import ACTIONS_DIR, longest_overlap_s, read_trace


def test_two_hundred_jobs_with_one_executor_killed_and_one_stopped(
    tmp_path: Path, zk_hosts: str
) -> None:
    trace = tmp_path / "trace"
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api()
        engine.start_distributor("d1")
        engine.start_distributor("d2")
        for name in ("e1", "e2", "e3"):
            engine.start_executor(name, threads=4, actions_dir=ACTIONS_DIR)
        api = engine.admin()
        expected = {}
        for n in range(200):
            fail = n % 7 == 0
            job = engine.submit(
                api, "trace", {"file": str(trace), "seconds": n % 5 * 0.1, "fail": fail}
            )
            expected[job] = "FAILED" if fail else "SUCCESS"
            if n == 100:
                engine.kill("e1")
            if n == 130:
                engine.signal("e2", signal.SIGTERM)
        engine.wait_final(api, 200, timeout_s=90)
        assert engine.states(api) == expected
        assert engine.processes["e2"].wait(20) == 0
        zk = KazooClient(zk_hosts)
        zk.start()
        eventually(
            lambda: not zk.get_children("/job/entries") and not zk.get_children("/job/taken"),
            what="an empty queue",
        )
        zk.stop()
        zk.close()
        api.close()
        assert engine.stop("e3") == 0
        assert list((tmp_path / "scratch" / "e2").glob("*")) == []
    executions = read_trace(trace)
    assert set(executions) == set(expected)
    for runs in executions.values():
        # Only what e1 was killed in runs again, and never at the same time.
        assert any(run.ended for run in runs)
        assert longest_overlap_s(runs) <= 0


def test_a_paused_executor_writes_nothing_that_is_accepted(tmp_path: Path, zk_hosts: str) -> None:
    trace = tmp_path / "trace"
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api()
        engine.start_distributor()
        engine.start_executor("paused", threads=1, actions_dir=ACTIONS_DIR)
        api = engine.admin()
        job = engine.submit(api, "trace", {"file": str(trace), "seconds": 3})
        eventually(trace.exists)
        (first,) = read_trace(trace)[job]
        engine.signal("paused", signal.SIGSTOP)
        engine.start_executor("other", threads=1, actions_dir=ACTIONS_DIR)
        engine.wait_final(api, 1, timeout_s=SESSION_TIMEOUT_S + 30)
        before = api.get(job).data
        engine.signal("paused", signal.SIGCONT)
        eventually(lambda: "zookeeper.lost" in engine.log("paused"))
        again = engine.submit(api, "trace", {"file": str(trace)})
        engine.wait_final(api, 2)
        assert api.get(job).data == before
        assert before["state"] == "SUCCESS"
        assert before["status-message"] != first.run
        assert api.get(again).data["state"] == "SUCCESS"
        api.close()


def test_every_kind_of_process_may_be_killed(tmp_path: Path, zk_hosts: str) -> None:
    trace = tmp_path / "trace"
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start(actions_dir=ACTIONS_DIR)
        api = engine.admin()
        jobs = []

        def submit() -> None:
            jobs.append(engine.submit(api, "trace", {"file": str(trace), "seconds": 0.5}))

        restarts: dict[str, Callable[[], None]] = {
            "api": engine.start_api,
            "distributor": engine.start_distributor,
            "executor": lambda: engine.start_executor(actions_dir=ACTIONS_DIR),
        }
        for name, start in restarts.items():
            for _ in range(5):
                submit()
            engine.kill(name)
            start()
            for _ in range(5):
                submit()
        states = engine.wait_final(api, len(jobs))
        assert set(states.values()) == {"SUCCESS"}
        assert set(states) == set(jobs)
        api.close()
    for runs in read_trace(trace).values():
        assert longest_overlap_s(runs) <= 0
