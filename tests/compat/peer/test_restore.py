"""The peer's `job_restore`: every unfinished job is put into the queue anew (§6.6)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient
from kazoo.recipe.queue import LockingQueue
from nuvla.api import Api

from tests.compat.peer.conftest import MakeExecutor, wait_pushed
from tests.support.engine import Engine, eventually
from tests.support.trace import ACTIONS_DIR, read_trace


def restore(api: Api, zookeeper: KazooClient) -> int:
    """Put what is QUEUED or RUNNING, and not in pull mode, without a look at the queue."""
    found = api.search(
        "job",
        filter="state=['QUEUED', 'RUNNING'] and execution-mode!='pull'",
        orderby="created:asc",
        last=10000,
    )
    queue = LockingQueue(zookeeper, "/job")
    for job in found.resources:
        queue.put(job.id.encode(), priority=job.data.get("priority", 100))
    return len(found.resources)


def add(api: Api, action: str, payload: dict[str, Any] | None = None) -> str:
    body = {"action": action} | ({} if payload is None else {"payload": json.dumps(payload)})
    return str(api.add("job", body).data["resource-id"])


def empty(nodes: KazooClient) -> bool:
    return not any(nodes.get_children(f"/job/{kind}") for kind in ("entries", "taken"))


def test_jobs_with_two_entries_run_once(
    api: Api, executor: MakeExecutor, nodes: KazooClient
) -> None:
    jobs = [add(api, "foreign") for _ in range(10)]
    wait_pushed(api, *jobs)
    assert restore(api, nodes) == restore(api, nodes) == 10
    peer = executor({"foreign": lambda _: 0})
    while not empty(nodes):
        peer.run_one(timeout_s=0.5)
    assert sorted(peer.ran) == sorted(jobs)
    assert len(peer.ended) >= 30  # every entry was met; two thirds of them in vain


def test_ours_takes_restored_entries_too(
    engine: Engine, api: Api, nodes: KazooClient, tmp_path: Path
) -> None:
    """Also those of jobs that run: another entry of theirs is no reason to start them again."""
    trace = tmp_path / "trace"
    engine.start_executor("ours", threads=2, actions_dir=ACTIONS_DIR)
    jobs = [add(api, "trace", {"file": str(trace), "seconds": 1.0}) for _ in range(6)]
    eventually(lambda: trace.exists() and len(read_trace(trace)) == 2)
    assert restore(api, nodes) == 6
    filter_ = f"id={jobs} and state='SUCCESS'"
    eventually(lambda: api.search("job", filter=filter_, last=0).count == 6)
    eventually(lambda: empty(nodes), what="an empty queue")
    assert Counter(len(runs) for runs in read_trace(trace).values()) == {1: 6}
    assert engine.stop("ours") == 0


def test_a_lost_queue_is_filled_again_without_it(
    engine: Engine, api: Api, executor: MakeExecutor, nodes: KazooClient
) -> None:
    """Nobody has to run `job_restore` here: the leader compares the store with the queue."""
    jobs = [add(api, "foreign") for _ in range(5)]
    for name in wait_pushed(api, *jobs):
        nodes.delete(f"/job/entries/{name}")
    peer = executor({"foreign": lambda _: 0})
    while len(peer.ran) < 5:
        assert eventually(lambda: peer.run_one(timeout_s=1.0))
    assert sorted(peer.ran) == sorted(jobs)
    assert engine.processes["distributor"].poll() is None
