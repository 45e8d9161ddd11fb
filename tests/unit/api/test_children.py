"""Children of bulk jobs: cancelled with their parent, and not before."""

from __future__ import annotations

import pytest

from job_engine.model import Fence
from job_engine.store.jobs import repository as store_jobs
from tests.contract.store.support import claim, entry
from tests.unit.api.support import ADMIN, DISTRIBUTOR, EXECUTOR, JANE, JJ_ACL, Client, refused


def cancel_children(api: Client, job: str) -> int:
    reply = api(EXECUTOR, "POST", "engine/cancel-children", {"job": job})
    assert reply.status_code == 200, reply.text
    return int(reply.json()["cancelled"])


def test_unfinished_children_are_cancelled(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_jobs, "BATCH", 2)  # so that it takes several
    bulk, other = api.add_job(action="bulk_x", acl=JJ_ACL), api.add_job(action="bulk_x")
    waiting = [api.add_job(parent_job=bulk) for _ in range(5)]
    running = api.add_job(parent_job=bulk)
    assert claim(api.services.store, running, entry(9), Fence(1, 9)).answer.runs
    done = api.add_job(parent_job=bulk)
    api(ADMIN, "PUT", done, {"state": "SUCCESS"})
    theirs = api.add_job(parent_job=other)
    assert api(JANE, "POST", f"{bulk}/cancel").status_code == 200
    assert cancel_children(api, bulk) == 6
    for job in (*waiting, running):
        found = api.get(job)
        assert (found["state"], found["progress"]) == ("CANCELED", 100)
        assert found["updated-by"] == "service/executor"
    assert api.get(done)["state"] == "SUCCESS"
    assert api.get(theirs)["state"] == "QUEUED"
    assert cancel_children(api, bulk) == 0


def test_a_child_that_is_a_bulk_job_gets_a_job_for_its_own(api: Client) -> None:
    bulk = api.add_job(action="bulk_x")
    inner = api.add_job(action="bulk_y", parent_job=bulk)
    api(ADMIN, "POST", f"{bulk}/cancel")
    assert cancel_children(api, bulk) == 1
    made = f"action='cancel_children_jobs' and target-resource/href='{inner}'"
    assert api.count(ADMIN, made) == 1


def test_only_those_of_a_cancelled_job_and_only_by_executors(api: Client) -> None:
    bulk = api.add_job(action="bulk_x", acl=JJ_ACL)
    child = api.add_job(parent_job=bulk)
    for who in (JANE, DISTRIBUTOR):
        reply = api(who, "POST", "engine/cancel-children", {"job": bulk})
        refused(reply, 403, "credentials required")
    reply = api(EXECUTOR, "POST", "engine/cancel-children", {"job": bulk})
    refused(reply, 409, f"{bulk} was not cancelled")
    reply = api(EXECUTOR, "POST", "engine/cancel-children", {"job": "job/none"})
    refused(reply, 404, "job/none not found")
    assert api.get(child)["state"] == "QUEUED"
