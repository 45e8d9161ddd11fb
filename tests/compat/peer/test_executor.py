"""The peer's executors alone: statements 144 to 150, and the rest of docs/cimi.md §6.3."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from kazoo.client import KazooClient
from nuvla.api import Api

from tests.compat.peer.conftest import ADMIN, Connect, MakeExecutor, wait_pushed
from tests.compat.peer.executor import Bulk, Call, Executor, Job, by_header, operation
from tests.support.engine import Engine, eventually


def add(api: Api, action: str = "foreign", **attributes: Any) -> str:
    """Create a job; keywords have underscores for dashes."""
    named = {key.replace("_", "-"): value for key, value in attributes.items()}
    return str(api.add("job", {"action": action, **named}).data["resource-id"])


def nothing(_: Job) -> int:
    return 0


def broken(_: Job) -> int:
    raise RuntimeError("the cloud is down")


def queue_of(nodes: KazooClient) -> set[str]:
    """The entries and the claims that there are."""
    return {
        f"{kind}/{name}"
        for kind in ("entries", "taken")
        for name in nodes.get_children(f"/job/{kind}")
    }


def test_144_the_life_of_a_job(api: Api, executor: MakeExecutor, nodes: KazooClient) -> None:
    calls: list[Call] = []

    def act(job: Job) -> int:
        job.progress(30, "a third")
        job.affect("user/jane")
        assert job.context == {}
        return 0

    peer = executor({"foreign": act}, calls)
    job = add(api, target_resource={"href": "job"}, payload="{}")
    (entry,) = wait_pushed(api, job)
    assert peer.run_one() == (job, "consumed")
    affected = [{"href": "job"}, {"href": "user/jane"}]
    assert calls == [
        ("GET", job, None),
        ("PUT", job, {"state": "RUNNING"}),
        ("PUT", job, {"progress": 30, "status-message": "a third"}),
        ("PUT", job, {"affected-resources": affected}),
        ("GET", job, None),
        ("POST", f"{job}/get-context", None),
        ("PUT", job, {"state": "SUCCESS", "return-code": 0}),
    ]
    done = api.get(job).data
    assert (done["state"], done["progress"], done["return-code"]) == ("SUCCESS", 100, 0)
    assert done["affected-resources"] == affected
    assert {"started", "duration", "status-message"} <= done.keys()
    assert not {f"entries/{entry}", f"taken/{entry}"} & queue_of(nodes)


def test_144_by_header(engine: Engine, api: Api, connect: Connect) -> None:
    """`--api-authn-header` instead of a key: the server has to trust where it comes from."""
    job = add(api)
    wait_pushed(api, job)
    client = by_header(engine.url, ADMIN)
    assert Executor(client, connect(), {"foreign": nothing}).run_one() == (job, "consumed")
    assert api.get(job).data["updated-by"] == "internal"
    client.session.close()


@pytest.mark.parametrize(
    ("code", "state"), [(0, "SUCCESS"), (3, "FAILED"), (None, "SUCCESS")], ids=str
)
def test_144_what_an_action_returns(
    api: Api, executor: MakeExecutor, code: int | None, state: str
) -> None:
    job = add(api)
    wait_pushed(api, job)
    executor({"foreign": lambda _: code}).run_one()
    done = api.get(job).data
    assert (done["state"], done.get("return-code")) == (state, code)


def test_144_an_action_that_raises(api: Api, executor: MakeExecutor) -> None:
    job = add(api)
    wait_pushed(api, job)
    assert executor({"foreign": broken}).run_one() == (job, "consumed")
    done = api.get(job).data
    assert (done["state"], done["return-code"]) == ("FAILED", 1)
    assert done["status-message"].startswith("RuntimeError-Traceback")


def test_145_an_action_that_the_peer_has_not(api: Api, executor: MakeExecutor) -> None:
    job = add(api, "foreign_too")
    wait_pushed(api, job)
    assert executor({"foreign": nothing}).run_one() == (job, "consumed")
    done = api.get(job).data
    assert done["state"] == "FAILED"
    assert done["status-message"] == f"Not implemented action {job}: foreign_too"


def test_146_a_version_that_is_too_old(api: Api, executor: MakeExecutor) -> None:
    job = add(api, version=1)
    wait_pushed(api, job)
    assert executor({"foreign": nothing}).run_one() == (job, "consumed")
    done = api.get(job).data
    assert done["state"] == "FAILED"
    assert done["status-message"].startswith("Job v1 is not supported by Job engine v")


def test_146_a_version_that_is_too_new(
    api: Api, executor: MakeExecutor, nodes: KazooClient
) -> None:
    """Also improves on D18: it is not fed, so no peer takes it and lets go of it for ever."""
    new = add(api, version=3, priority=1)
    job = add(api)
    wait_pushed(api, job)
    peer = executor({"foreign": nothing})
    assert peer.run_one() == (job, "consumed")
    before = api.get(new).data
    assert (before["state"], "tags" in before) == ("QUEUED", False)
    # One that somebody else pushed is not touched either.
    peer.queue.put(new.encode(), priority=1)
    assert peer.run_one() == (new, "released")
    assert api.get(new).data["updated"] == before["updated"]
    for name in nodes.get_children("/job/entries"):
        nodes.delete(f"/job/entries/{name}")


def test_147_mixed_mode_falls_back_to_agents(
    api: Api, executor: MakeExecutor, nodes: KazooClient
) -> None:
    job = add(api, execution_mode="mixed")
    wait_pushed(api, job)
    assert executor({"foreign": broken}).run_one() == (job, "consumed")
    left = api.get(job).data
    assert (left["state"], left["execution-mode"]) == ("QUEUED", "pull")
    assert left["status-message"].startswith("Re-running job in pull mode")
    assert "started" in left
    assert queue_of(nodes) == set()
    # An agent finds it, and runs it by its id.
    found = api.search("job", filter="execution-mode='pull' and state='QUEUED'")
    assert [item.id for item in found.resources] == [job]
    agent = executor({"foreign": nothing})
    assert agent._process(job)
    done = api.get(job).data
    assert (done["state"], done["started"]) == ("SUCCESS", left["started"])


def test_147_a_foreign_fallback_takes_no_room_in_the_window(
    api: Api, executor: MakeExecutor
) -> None:
    """More of them than the window holds, and the next job is still pushed."""
    peer = executor({"foreign": broken})
    for _ in range(17):
        job = add(api, execution_mode="mixed")
        wait_pushed(api, job)
        assert peer.run_one() == (job, "consumed")
    wait_pushed(api, add(api))


def test_148_a_job_that_is_cancelled_while_it_runs(api: Api, executor: MakeExecutor) -> None:
    def act(job: Job) -> int:
        api.operation(api.get(job.id), "cancel")
        job.progress(50)
        return 0

    job = add(api)
    wait_pushed(api, job)
    peer = executor({"foreign": act})
    assert peer.run_one() == (job, "released")
    assert peer.run_one() == (job, "consumed")
    assert peer.ran == [job]
    assert api.get(job).data["state"] == "CANCELED"


def test_149_by_priority_then_in_turn(api: Api, executor: MakeExecutor) -> None:
    """The queue's order is that of what was pushed; here all of it fits the window."""
    jobs = [(p, add(api, priority=p)) for p in (999, 50, 10, 50, 999, 10, 50)]
    wait_pushed(api, *(job for _, job in jobs))
    peer = executor({"foreign": nothing})
    while peer.run_one(timeout_s=0.2):
        pass
    assert peer.ran == [job for _, job in sorted(jobs, key=lambda pair: pair[0])]


def test_150_bulk_jobs_act_for_who_asked(engine: Engine, api: Api, executor: MakeExecutor) -> None:
    acl = {
        "owners": ["group/nuvla-admin"],
        "view-acl": ["user/jane"],
        "manage": ["user/jane"],
    }
    hers = [add(api, "for_150", execution_mode="pull", acl=acl) for _ in range(3)]
    others = add(api, "for_150", execution_mode="pull")
    for job in (*hers, others):
        api.operation(api.get(job), "cancel")
    claims = ["group/job-submitter", "group/nuvla-user", "group/nuvla-anon", "user/jane"]
    who = {"user-id": "user/jane", "active-claim": "user/jane", "claims": claims}
    payload = json.dumps({"filter": "action='for_150'", "authn-info": who})
    bulk = add(api, "bulk_foreign", payload=payload, acl=acl)
    wait_pushed(api, bulk)
    peer = executor({"bulk_foreign": Bulk(engine.url, "job", operation("resubmit"))})
    assert peer.run_one() == (bulk, "consumed")
    done = api.get(bulk).data
    assert (done["state"], done["progress"]) == ("SUCCESS", 100)
    result = json.loads(done["status-message"])
    assert (result["total_actions"], result["success_count"], result["failed_count"]) == (3, 3, 0)
    assert sorted(result["success"]) == sorted(hers)
    made = api.search("job", filter="action='for_150' and state='QUEUED'").resources
    assert {item.data["created-by"] for item in made} == {"user/jane"}


def test_a_job_that_is_gone_is_consumed(
    api: Api, executor: MakeExecutor, nodes: KazooClient
) -> None:
    calls: list[Call] = []
    peer = executor({}, calls)
    peer.queue.put(b"job/never-was", priority=5)
    assert peer.run_one() == ("job/never-was", "consumed")
    assert calls == [("GET", "job/never-was", None)] * 2
    assert queue_of(nodes) == set()


def test_a_peer_that_may_not_read_a_job_leaves_it_to_others(
    engine: Engine, api: Api, executor: MakeExecutor
) -> None:
    jane = by_header(engine.url, "user/jane user/jane user/jane group/nuvla-user")
    template = {"href": "credential-template/generate-api-key"}
    made = jane.add("credential", {"name": "hers", "template": template}).data
    key: Mapping[str, str] = {"key": made["resource-id"], "secret": made["secret-key"]}
    jane.session.close()
    calls: list[Call] = []
    job = add(api)
    wait_pushed(api, job)
    poor = executor({"foreign": nothing}, calls, key=key)
    assert poor.run_one() == (job, "released")
    # A 403 may mean that the session is over: it logs in again, and asks once more.
    assert [(method, path) for method, path, _ in calls] == [
        ("GET", job),
        ("POST", "session"),
        ("GET", job),
    ]
    assert executor({"foreign": nothing}).run_one() == (job, "consumed")


def test_the_job_of_a_killed_peer_is_run_by_another_executor(
    api: Api, executor: MakeExecutor
) -> None:
    def dies(_: Job) -> int:
        first.zookeeper.stop()
        raise SystemExit(137)

    job = add(api)
    wait_pushed(api, job)
    first, second = executor({"foreign": dies}), executor({"foreign": nothing})
    with pytest.raises(SystemExit):
        first.run_one()
    assert api.get(job).data["state"] == "RUNNING"
    assert second.run_one() == (job, "consumed")
    assert (first.ran, second.ran) == ([job], [job])
    assert api.get(job).data["state"] == "SUCCESS"


def test_many_jobs_over_several_peers(api: Api, executor: MakeExecutor, nodes: KazooClient) -> None:
    peers = [executor({"foreign": nothing, "foreign_too": lambda _: 1}) for _ in range(3)]
    stop = threading.Event()
    threads = [threading.Thread(target=peer.run, args=(stop,)) for peer in peers]
    for thread in threads:
        thread.start()
    try:
        jobs = {add(api, action): action for action in ["foreign", "foreign_too"] * 20}
        done = ["SUCCESS", "FAILED"]
        filter_ = f"id={list(jobs)} and state={done}"
        eventually(lambda: api.search("job", filter=filter_, last=0).count == len(jobs), 60)
        eventually(lambda: queue_of(nodes) == set(), what="an empty queue")
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    ends = {job: api.get(job).data["state"] for job in jobs}
    assert ends == {job: "SUCCESS" if a == "foreign" else "FAILED" for job, a in jobs.items()}
    assert sorted(job for peer in peers for job in peer.ran) == sorted(jobs)
