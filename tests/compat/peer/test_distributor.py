"""The peer's distributors beside ours: statements 151 and 152, and bulk jobs to their end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from kazoo.client import KazooClient
from nuvla.api import Api

from tests.compat.peer.conftest import ADMIN, Connect, MakeExecutor, wait_pushed
from tests.compat.peer.distributor import (
    Distribution,
    Generate,
    active,
    monitor_bulk_jobs,
    once_active,
)
from tests.compat.peer.executor import (
    Bulk,
    Executor,
    Job,
    by_header,
    cancel_children_jobs,
    cleanup_jobs,
    monitor_bulk_job,
)
from tests.support.engine import Engine, eventually

Distribute = Callable[[str, str, Generate], Distribution]


@pytest.fixture
def distribute(engine: Engine, connect: Connect) -> Iterator[Distribute]:
    """Starts distributions, each with a session of its own; they resign with the test."""
    started: list[Distribution] = []

    def start(name: str, identifier: str, generate: Generate) -> Distribution:
        api = by_header(engine.url, ADMIN)
        distribution = Distribution(name, api, connect(), identifier, generate)
        distribution.start()
        started.append(distribution)
        return distribution

    yield start
    for distribution in started:
        if distribution.zookeeper.connected:
            distribution.stop()
        distribution.api.session.close()


@pytest.fixture
def run(executor: MakeExecutor) -> Iterator[Callable[..., Executor]]:
    """Starts executors, which take jobs until the test is over."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(**actions: Any) -> Executor:
        peer = executor(actions)
        threads.append(threading.Thread(target=peer.run, args=(stop,)))
        threads[-1].start()
        return peer

    yield start
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def state_of(api: Api, job: str) -> str:
    return str(api.get(job).data["state"])


def test_151_one_leads_at_a_time(api: Api, distribute: Distribute) -> None:
    first = distribute("foreign", "first", once_active("foreign"))
    assert first.leads.wait(10)
    second = distribute("foreign", "second", once_active("foreign"))
    eventually(lambda: second.contenders() == ["first", "second"])
    assert not second.leads.is_set()
    eventually(lambda: first.added)
    first.zookeeper.stop()  # it dies: its session ends, and nothing else
    assert second.leads.wait(10)
    eventually(lambda: api.search("job", filter="action='foreign'", last=0).count)
    assert len(first.added) + len(second.added) == 1  # the one that is active


def test_151_peers_and_ours_do_not_keep_each_other_from_leading(
    api: Api, distribute: Distribute, nodes: KazooClient
) -> None:
    """Ours pushes `foreign` all the while the peer's holds the election of that name."""
    peer = distribute("foreign", "peer", once_active("foreign"))
    assert peer.leads.wait(10)
    assert nodes.get_children("/election/foreign")
    (job,) = eventually(lambda: peer.added)
    wait_pushed(api, job)


def test_152_a_search_counts_what_was_just_added(api: Api) -> None:
    document = {"action": "for_152", "target-resource": {"href": "job"}}
    for _ in range(20):
        assert not active(api, document)
        job = api.add("job", document).data["resource-id"]
        assert active(api, document)
        api.edit(job, {"state": "RUNNING"})
        assert active(api, document)
        api.edit(job, {"state": "SUCCESS"})


def start_children(api: Api, job: Job, resource: str, mode: str = "push") -> int:
    """What a server of Nuvla's does with an operation of a bulk job: it starts a job."""
    document = {
        "action": "foreign",
        "execution-mode": mode,
        "parent-job": job.id,
        "priority": 999,
        "target-resource": {"href": resource},
    }
    api.add("job", document)
    return 202


def bulk_job(api: Api, children: int) -> str:
    """A bulk job that starts a child for each of some other jobs, which it finds."""
    for _ in range(children):
        api.add("job", {"action": "target", "execution-mode": "pull", "parent": "course/bulk"})
    claims = ADMIN.split()[2:]
    who = {"user-id": "internal", "active-claim": "group/nuvla-admin", "claims": claims}
    filter_ = "action='target' and state='QUEUED'"
    payload = json.dumps({"filter": filter_, "authn-info": who})
    added = api.add("job", {"action": "bulk_foreign", "payload": payload})
    return str(added.data["resource-id"])


def test_a_bulk_job_ends_when_its_children_have(
    engine: Engine, api: Api, executor: MakeExecutor, distribute: Distribute,
    run: Callable[..., Executor], nodes: KazooClient,
) -> None:  # fmt: skip
    bulk = bulk_job(api, children=4)
    (entry,) = wait_pushed(api, bulk)
    first = executor({"bulk_foreign": Bulk(engine.url, "job", start_children)})
    assert first.run_one() == (bulk, "consumed")
    left = api.get(bulk).data
    assert (left["state"], left["tags"], left["progress"]) == ("RUNNING", ["monitor"], 0)
    result = json.loads(left["status-message"])
    assert (result["total_actions"], result["queued_count"]) == (4, 4)
    # Ours reconciles meanwhile: it must not push again what waits for its monitor.
    peer = distribute("monitor_bulk_job", "peer", monitor_bulk_jobs)
    run(foreign=lambda _: 0, monitor_bulk_job=monitor_bulk_job)
    eventually(lambda: state_of(api, bulk) == "SUCCESS", what="the bulk job's end")
    done = api.get(bulk).data
    assert (done["progress"], done["return-code"]) == (100, 0)
    assert first.ran == [bulk]
    assert peer.added
    assert entry not in nodes.get_children("/job/entries")
    children = api.search("job", filter=f'parent-job="{bulk}" and state="SUCCESS"', last=0)
    assert children.count == 4


def test_a_cancelled_bulk_job_takes_its_children_with_it(
    engine: Engine, api: Api, executor: MakeExecutor, run: Callable[..., Executor]
) -> None:
    bulk = bulk_job(api, children=3)
    wait_pushed(api, bulk)
    start = partial(start_children, mode="pull")  # and no agent comes to run them
    assert executor({"bulk_foreign": Bulk(engine.url, "job", start)}).run_one()
    api.operation(api.get(bulk), "cancel")
    run(cancel_children_jobs=cancel_children_jobs)
    filter_ = f'parent-job="{bulk}" and state="CANCELED"'
    eventually(lambda: api.search("job", filter=filter_, last=0).count == 3)
    made = f"action='cancel_children_jobs' and target-resource/href='{bulk}'"
    eventually(lambda: api.search("job", filter=f"{made} and state='SUCCESS'", last=0).count == 1)


def test_the_peers_clean_up(api: Api, distribute: Distribute, run: Callable[..., Executor]) -> None:
    peer = distribute("cleanup_jobs", "peer", once_active("cleanup_jobs"))
    (job, *_) = eventually(lambda: peer.added)
    peer.stop()
    run(cleanup_jobs=cleanup_jobs)
    eventually(lambda: state_of(api, job) == "SUCCESS")
    assert api.get(job).data["status-message"] == "deleted 0"
