"""Services that come back without what they knew: a wiped ZooKeeper, a restored store."""

from __future__ import annotations

import shutil
from pathlib import Path

from kazoo.client import KazooClient

from job_engine.queue.local import LocalZooKeeper
from tests.support.engine import Engine, eventually
from tests.support.trace import ACTIONS_DIR, longest_overlap_s, read_trace


def _queue_is_empty(hosts: str) -> None:
    client = KazooClient(hosts)
    client.start()
    eventually(
        lambda: not client.get_children("/job/entries") and not client.get_children("/job/taken"),
        what="an empty queue",
    )
    client.stop()
    client.close()


def test_zookeeper_is_wiped_while_jobs_run_and_wait(
    tmp_path: Path, zookeeper: LocalZooKeeper
) -> None:
    trace = tmp_path / "trace"
    with Engine(tmp_path, zookeeper.hosts) as engine:
        engine.start(threads=2, actions_dir=ACTIONS_DIR)
        api = engine.admin()
        jobs = {engine.submit(api, "trace", {"file": str(trace), "seconds": 2.0}) for _ in range(8)}
        eventually(lambda: trace.exists() and len(read_trace(trace)) >= 2)
        zookeeper.stop()
        shutil.rmtree(zookeeper.data_dir)
        zookeeper.start()
        jobs |= {engine.submit(api, "trace", {"file": str(trace)}) for _ in range(4)}
        states = engine.wait_final(api, len(jobs), timeout_s=90)
        assert states == dict.fromkeys(jobs, "SUCCESS")
        _queue_is_empty(zookeeper.hosts)
        api.close()
    for runs in read_trace(trace).values():
        assert longest_overlap_s(runs) <= 0


def test_the_store_is_restored_from_an_older_copy(tmp_path: Path, zk_hosts: str) -> None:
    trace, data = tmp_path / "trace", tmp_path / "data"
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start(threads=2, actions_dir=ACTIONS_DIR)
        api = engine.admin()
        known = engine.submit(api, "trace", {"file": str(trace)})
        engine.wait_final(api, 1)
        half_known = engine.submit(api, "trace", {"file": str(trace), "seconds": 4.0})
        eventually(lambda: api.get(half_known).data["state"] == "RUNNING")
        assert engine.stop("api") == 0
        shutil.copy(data / "store.sqlite", tmp_path / "copy.sqlite")
        engine.start_api()
        forgotten = engine.submit(api, "trace", {"file": str(trace), "seconds": 4.0})
        eventually(lambda: forgotten in read_trace(trace))
        engine.kill("api")
        for file in data.glob("store.sqlite*"):
            file.unlink()
        shutil.copy(tmp_path / "copy.sqlite", data / "store.sqlite")
        engine.start_api()
        later = engine.submit(api, "trace", {"file": str(trace)})
        states = engine.wait_final(api, 3, timeout_s=60)
        assert states == dict.fromkeys([known, half_known, later], "SUCCESS")
        # The entry of the job that nobody knows any more goes, too.
        _queue_is_empty(zk_hosts)
        api.close()
