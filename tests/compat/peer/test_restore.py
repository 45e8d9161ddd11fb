"""The peer's `job_restore` puts every unfinished job into the queue again (docs/cimi.md §6.6)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient
from kazoo.recipe.queue import LockingQueue
from nuvla.api import Api

from tests.compat.peer.conftest import MakeExecutor, wait_pushed
from tests.support.engine import Engine, eventually
from tests.support.trace import ACTIONS_DIR, longest_overlap_s, read_trace


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


def add(api: Api, action: str, **attributes: Any) -> str:
    return str(api.add("job", {"action": action, **attributes}).data["resource-id"])


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
    # Entries were met in vain too; the leader takes out the one it knows of as a job ends.
    assert len(peer.ended) >= 20


def test_ours_takes_restored_entries_too(
    engine: Engine, api: Api, nodes: KazooClient, tmp_path: Path
) -> None:
    """Also those of jobs that run: another entry of theirs is no reason to start them again."""
    trace = tmp_path / "trace"
    engine.start_executor("ours", threads=2, actions_dir=ACTIONS_DIR)
    payload = json.dumps({"file": str(trace), "seconds": 1.0})
    jobs = [add(api, "trace", payload=payload) for _ in range(6)]
    eventually(trace.exists, 60)
    assert restore(api, nodes)
    filter_ = f"id={jobs} and state='SUCCESS'"
    eventually(lambda: api.search("job", filter=filter_, last=0).count == 6, 60)
    eventually(lambda: empty(nodes), what="an empty queue")
    executions = read_trace(trace)
    assert set(executions) == set(jobs)
    for runs in executions.values():
        assert sum(run.ended for run in runs) == 1
        assert longest_overlap_s(runs) <= 0
    assert engine.stop("ours") == 0


def test_a_lost_queue_is_filled_again_without_it(
    engine: Engine, api: Api, executor: MakeExecutor, nodes: KazooClient
) -> None:
    """Nobody has to run `job_restore` here: the leader compares the store with the queue.

    Each job has the priority that it was created with, though its first edit has taken it
    off the document (D3).
    """
    jobs = [add(api, "foreign", priority=priority) for priority in (30, 10, 20)]
    for job in jobs:
        assert "priority" not in api.edit(job, {"name": "edited"}).data
    lost = wait_pushed(api, *jobs)
    for name in lost:
        nodes.delete(f"/job/entries/{name}")
    eventually(lambda: set(wait_pushed(api, *jobs)).isdisjoint(lost))
    assert [name[:9] for name in wait_pushed(api, *jobs)] == ["entry-030", "entry-010", "entry-020"]
    peer = executor({"foreign": lambda _: 0})
    while len(peer.ran) < len(jobs):
        assert peer.run_one()
    assert peer.ran == [jobs[1], jobs[2], jobs[0]]


def test_a_job_that_a_peer_puts_back_is_pushed_again(api: Api, executor: MakeExecutor) -> None:
    """An edit to QUEUED is enough, though its entry was consumed (D5)."""
    job = add(api, "foreign")
    (before,) = wait_pushed(api, job)
    peer = executor({"foreign": lambda _: 0})
    api.edit(job, {"state": "RUNNING"})
    api.edit(job, {"state": "QUEUED"})
    assert peer.queue.get(timeout=5) == job.encode()
    assert peer.queue.consume()
    eventually(lambda: wait_pushed(api, job) != [before], what="another entry")
    assert peer.run_one() == (job, "consumed")
    assert api.get(job).data["state"] == "SUCCESS"
