"""Editing jobs: statements 73 to 88."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import httpx
import pytest

from tests.compat.checklist.conftest import JJ_ACL, Headers, Http, identity, refused

EDITOR: Final = identity("user/ed user/ed user/ed group/nuvla-user group/nuvla-anon")
ROUNDS: Final = 25


def edit(http: Http, job: str, body: Any, who: Headers | None = None, query: str = "") -> Any:
    """Edit a job, and return what the answer shows of it."""
    reply = http.put(f"/api/{job}{query}", json=body, headers=who or http.ADMIN)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_073_a_foreign_claim(http: Http) -> None:
    job = http.add_job(priority=5, progress=3)
    found = edit(http, job, {"state": "RUNNING"})
    assert (found["id"], found["state"], found["progress"]) == (job, "RUNNING", 3)
    assert {"action", "acl", "created", "started"} <= found.keys()
    assert {"priority", "operations"}.isdisjoint(found)


def test_074_the_time_of_the_status_message(http: Http) -> None:
    job = http.add_job()
    assert "time-of-status-change" not in edit(http, job, {"progress": 10})
    first = edit(http, job, {"status-message": "half way"})["time-of-status-change"]
    second = edit(http, job, {"progress": 20})
    assert second["time-of-status-change"] > first
    assert second["status-message"] == "half way"


def test_075_the_end_of_a_run(http: Http) -> None:
    job = http.add_job()
    edit(http, job, {"state": "RUNNING"})
    done = edit(http, job, {"state": "SUCCESS", "return-code": 0, "progress": 7, "duration": 99})
    assert (done["state"], done["progress"], done["return-code"]) == ("SUCCESS", 100, 0)
    assert isinstance(done["duration"], int)
    assert 0 <= done["duration"] < 99


def test_076_an_end_without_a_beginning(http: Http) -> None:
    done = edit(http, http.add_job(), {"state": "SUCCESS"})
    assert done["progress"] == 100
    assert {"started", "duration"}.isdisjoint(done)


@pytest.mark.parametrize("state", ["SUCCESS", "FAILED", "CANCELED"])
@pytest.mark.parametrize("body", [{}, {"name": "x"}, {"state": "QUEUED"}], ids=str)
def test_077_a_final_job_is_not_edited(http: Http, state: str, body: Any) -> None:
    job = http.add_job()
    final = edit(http, job, {"state": state})
    reply = http.put(f"/api/{job}", json=body, headers=http.ADMIN)
    assert refused(reply, 409, "edit is not allowed in final state")["resource-id"] == job
    assert http.read(job)["updated"] == final["updated"]


def test_078_back_to_the_queue_in_pull_mode(http: Http) -> None:
    job = http.add_job(execution_mode="mixed")
    started = edit(http, job, {"state": "RUNNING"})["started"]
    back = edit(http, job, {"state": "QUEUED", "execution-mode": "pull"})
    assert (back["state"], back["execution-mode"], back["started"]) == ("QUEUED", "pull", started)
    assert edit(http, job, {"state": "RUNNING"})["started"] == started


def test_079_long_status_messages_lose_their_middle(http: Http) -> None:
    job = http.add_job()
    kept = "k" * 100_000
    assert edit(http, job, {"status-message": kept})["status-message"] == kept
    long = "a" * 50_000 + "b" * 20 + "c" * 50_000
    cut = edit(http, job, {"status-message": long})["status-message"]
    assert cut == "a" * 50_000 + "\n...\n" + "c" * 50_000
    assert http.read(job)["status-message"] == cut
    # Lengths are in UTF-16 code units: each of these is two.
    pairs = edit(http, job, {"status-message": "\U0001f600" * 60_000})["status-message"]
    assert pairs == "\U0001f600" * 25_000 + "\n...\n" + "\U0001f600" * 25_000


def test_080_what_is_fixed_for_all_but_admins(http: Http) -> None:
    acl = {"owners": ["group/nuvla-admin"], "edit-data": ["user/ed"]}
    job = http.add_job(action="mine", target_resource={"href": "a/b"}, acl=acl)
    change = {"action": "other", "target-resource": {"href": "c/d"}}
    for query in ("", "?select=action,target-resource"):
        found = edit(http, job, change if not query else {}, EDITOR, query)
        assert (found["action"], found["target-resource"]) == ("mine", {"href": "a/b"})
    found = edit(http, job, change)
    assert (found["action"], found["target-resource"]) == ("other", {"href": "c/d"})


def test_081_rights_decide_what_of_an_edit_counts(http: Http) -> None:
    admin = {"owners": ["group/nuvla-admin"]}
    change = {"name": "new", "progress": 9, "acl": {"owners": ["user/ed"]}}
    job = http.add_job(acl={**admin, "edit-data": ["user/ed"]})
    edit(http, job, change, EDITOR)
    found = http.read(job)
    assert (found["name"], found["progress"]) == ("new", 9)
    assert found["acl"]["owners"] == ["group/nuvla-admin"]
    job = http.add_job(acl={**admin, "edit-meta": ["user/ed"]})
    edit(http, job, change, EDITOR)
    found = http.read(job)
    assert (found["name"], found["progress"]) == ("new", 0)
    assert found["acl"]["owners"] == ["group/nuvla-admin"]


def test_082_who_may_not_edit(http: Http) -> None:
    job = http.add_job(acl=JJ_ACL)
    reply = http.put(f"/api/{job}", json={"name": "x"}, headers=http.JANE)
    assert refused(reply, 403, f"invalid credentials for '{job}'")["resource-id"] == job
    reply = http.put("/api/job/none", json={"name": "x"}, headers=http.JANE)
    assert refused(reply, 404, "job/none not found")["resource-id"] == "job/none"


def test_083_attributes_are_deleted_by_select(http: Http) -> None:
    job = http.add_job(description="d", name="n", status_message="m")
    assert "description" not in edit(http, job, {}, query="?select=description")
    kept = edit(http, job, {}, query="?select=acl,id,created,updated,resource-type")
    assert {"acl", "id", "created", "updated", "resource-type"} <= kept.keys()
    assert edit(http, job, {"name": "again"}, query="?select=name")["name"] == "again"
    reply = http.put(f"/api/{job}?select=action", json={}, headers=http.ADMIN)
    refused(reply, 400, "action: is required")


def test_084_null_deletes_nothing(http: Http) -> None:
    job = http.add_job(name="n")
    reply = http.put(f"/api/{job}", json={"name": None}, headers=http.ADMIN)
    refused(reply, 400, f"resource {job} does not satisfy defined schema:\nname: ")
    assert http.read(job)["name"] == "n"


def test_085_a_whole_document_is_sent_back(http: Http) -> None:
    job = http.add_job(name="n", priority=3, target_resource={"href": "a/b"}, acl=JJ_ACL)
    whole = http.read(job)
    assert "operations" in whole
    after = edit(http, job, whole)
    changed = {"updated", "updated-by", "priority", "operations"}
    waiting = {"queue-position", "estimated-wait"}
    for name in whole.keys() - changed - waiting:
        assert after[name] == whole[name], name


def test_086_tags_are_the_clients_to_replace(http: Http) -> None:
    """That it is the queue's path which they replace is in test_queue_nodes.py."""
    assert edit(http, http.add_job(), {"tags": ["monitor"]})["tags"] == ["monitor"]


def test_087_who_and_when(http: Http) -> None:
    acl = {"owners": ["group/nuvla-admin"], "edit-data": ["user/ed"]}
    job = http.add_job(acl=acl)
    seen = [http.read(job)["updated"]]
    for n in range(20):
        who, name = (EDITOR, "user/ed") if n % 2 else (http.ADMIN, "internal")
        found = edit(http, job, {"progress": n}, who)
        assert found["updated-by"] == name
        seen.append(found["updated"])
    assert seen == sorted(set(seen)), "it did not grow with each edit"


# --- racing writers ------------------------------------------------------------


def at_once(*calls: Callable[[], httpx.Response]) -> list[httpx.Response]:
    """Make all calls at the same moment, each from a thread of its own."""
    barrier = threading.Barrier(len(calls))

    def go(call: Callable[[], httpx.Response]) -> httpx.Response:
        barrier.wait(10)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(go, calls))


def put(http: Http, job: str, body: Any) -> Callable[[], httpx.Response]:
    """An edit that is not made yet."""
    return partial(http.put, f"/api/{job}", json=body, headers=http.ADMIN)


@pytest.mark.parametrize("first", ["QUEUED", "RUNNING"])
def test_088_a_cancel_is_never_lost(http: Http, first: str) -> None:
    for _ in range(ROUNDS):
        job = http.add_job()
        edit(http, job, {"state": first})
        bodies = [{"state": "RUNNING"}, {"progress": 50}, {"state": "QUEUED"}, {"name": "x"}]
        cancelled, *edited = at_once(
            partial(http.post, f"/api/{job}/cancel", headers=http.ADMIN),
            *(put(http, job, body) for body in bodies),
        )
        assert cancelled.status_code == 200
        assert {reply.status_code for reply in edited} <= {200, 409}
        assert http.read(job)["state"] == "CANCELED"


def test_088_the_first_end_is_the_end(http: Http) -> None:
    ends = ("SUCCESS", "FAILED", "CANCELED")
    for _ in range(ROUNDS):
        job = http.add_job()
        edit(http, job, {"state": "RUNNING"})
        replies = at_once(*(put(http, job, {"state": end, "output": end}) for end in ends))
        (winner,) = [reply.json() for reply in replies if reply.status_code == 200]
        for reply in replies:
            if reply.status_code != 200:
                refused(reply, 409, "edit is not allowed in final state")
        found = http.read(job)
        assert (found["state"], found["output"]) == (winner["state"], winner["state"])


def test_088_edits_of_different_attributes_all_count(http: Http) -> None:
    """Each merges into what the others left: none is lost to a stale copy."""
    names = ["name", "description", "status-message", "output", "payload"]
    for _ in range(ROUNDS):
        job = http.add_job()
        at_once(*(put(http, job, {name: name}) for name in names))
        found = http.read(job)
        assert {name: found.get(name) for name in names} == {name: name for name in names}
