"""Nodes that somebody deletes in ZooKeeper by hand, under an engine that runs."""

from __future__ import annotations

import contextlib
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.exceptions import NotEmptyError

from tests.support.engine import Engine, eventually

RECONCILE_S = 2.0


def test_whatever_is_deleted_by_hand_comes_back(tmp_path: Path, zk_hosts: str) -> None:
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api()
        engine.start_distributor(reconcile_s=RECONCILE_S)
        engine.start_executor(threads=2)
        api = engine.admin()
        client = KazooClient(zk_hosts)
        client.start()
        jobs = [engine.submit(api, "noop")]
        engine.wait_final(api, 1)
        # With nothing to claim, only its own node tells an executor.
        with contextlib.suppress(NotEmptyError):
            client.delete("/executors", recursive=True)
        eventually(lambda: engine.log("executor").count("executor.registered") == 2, 20)
        for path in ("/executors", "/job/taken", "/job", "/election", "/job-engine"):
            jobs.append(engine.submit(api, "noop", {"seconds": 1.0}))
            eventually(lambda: "RUNNING" in engine.states(api).values())
            jobs += [engine.submit(api, "noop") for _ in range(5)]
            with contextlib.suppress(NotEmptyError):  # some of it is back already
                client.delete(path, recursive=True)
            states = engine.wait_final(api, len(jobs), timeout_s=40)
            assert states == dict.fromkeys(jobs, "SUCCESS"), path
        eventually(lambda: not client.get_children("/job/entries"))
        assert not client.get_children("/job/taken")
        client.stop()
        client.close()
        api.close()
        for name in ("executor", "distributor"):
            assert "Traceback" not in engine.log(name), engine.log(name)
            assert engine.stop(name) == 0
