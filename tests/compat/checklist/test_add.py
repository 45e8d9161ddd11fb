"""Creating jobs: statements 60 to 72, but for those about the queue (test_queue_nodes.py)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.compat.checklist.conftest import Headers, Http, identity, refused

LMS = identity("user/lms user/lms user/lms group/nuvla-user group/job-submitter")


def test_060_who_may_create(http: Http) -> None:
    """Replaces statement 60: a job-submitter may too, so that an LMS needs no admin key."""
    for who in (http.ANON, http.JANE, http.NB):
        body = refused(
            http.post("/api/job", json={"action": "x"}, headers=who), 403, "credentials required"
        )
        assert "resource-id" not in body
    job = http.add_job(LMS, created_by="user/somebody")
    found = http.read(job, LMS)
    assert found["created-by"] == "user/lms"
    assert {"view-acl", "manage", "delete"} <= {
        k for k, v in found["acl"].items() if "user/lms" in v
    }


def test_061_the_answer_to_an_add(http: Http) -> None:
    reply = http.post("/api/job", json={"action": "x"}, headers=http.ADMIN)
    job = reply.headers["location"]
    assert re.fullmatch(r"job/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", job)
    assert reply.status_code == 201
    assert reply.json() == {"status": 201, "message": f"{job} created", "resource-id": job}


def test_062_what_a_new_job_looks_like(http: Http) -> None:
    found = http.read(http.add_job())
    assert (found["state"], found["progress"]) == ("QUEUED", 0)
    assert (found["execution-mode"], found["version"]) == ("push", 2)
    assert found["created"] == found["updated"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["created"])
    assert found["created-by"] == "internal"
    assert found["acl"]["owners"] == ["group/nuvla-admin"]
    assert {"priority", "started", "duration", "tags"}.isdisjoint(found)


def test_063_what_the_server_sets_is_ignored(http: Http) -> None:
    job = http.add_job(
        state="SUCCESS",
        id="job/mine",
        resource_type="sandwich",
        created="2001-01-01T00:00:00.000Z",
        updated="x",
    )
    found = http.read(job)
    assert found["id"] == job != "job/mine"
    assert (found["state"], found["resource-type"]) == ("QUEUED", "job")
    assert found["created"] == found["updated"] > "2020"


def test_064_an_admin_says_who_created_it(http: Http) -> None:
    assert http.read(http.add_job(created_by="user/alpha"))["created-by"] == "user/alpha"


def test_066_pull_keeps_the_creators_tags(http: Http) -> None:
    """That there is no node is in test_queue_nodes.py."""
    assert http.read(http.add_job(execution_mode="pull", tags=["a", "b"]))["tags"] == ["a", "b"]


def test_068_the_target_is_affected_exactly_once(http: Http) -> None:
    target, other = {"href": "deployment/x"}, {"href": "deployment/y"}

    def affected(**attributes: Any) -> Any:
        return http.read(http.add_job(target_resource=target, **attributes))["affected-resources"]

    assert affected() == [target]
    assert affected(affected_resources=[target]) == [target]
    assert affected(affected_resources=[other]) == [other, target]
    # Not equal: it has a key more.
    named = {**target, "name": "x"}
    assert affected(affected_resources=[named]) == [named, target]


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"unknown": 1}, "unknown: unknown attribute"),
        ({"action": None}, "action: "),
        ({"progress": 101}, "progress: "),
        ({"progress": 50.0}, "progress: "),
        ({"priority": 1000}, "priority: "),
        ({"priority": -1}, "priority: "),
        ({"priority": None}, "priority: "),
        ({"execution-mode": "whenever"}, "execution-mode: "),
        ({"return-code": -1}, "return-code: "),
        ({"execution-mode": "pull", "tags": ["a", "a"]}, "tags: "),
        ({"parent-job": "notjob/x"}, "parent-job: "),
        ({"affected-resources": []}, "affected-resources: "),
        ({"acl": {"owners": []}}, "acl: "),
        ({"acl": {"view-data": ["user/jane"]}}, "acl: "),
    ],
    ids=str,
)
def test_069_invalid_documents(http: Http, wrong: dict[str, Any], where: str) -> None:
    reply = http.post("/api/job", json={"action": "x", **wrong}, headers=http.ADMIN)
    body = refused(reply, 400, "does not satisfy defined schema")
    assert f"\n{where}" in body["message"]


def test_069_a_missing_action(http: Http) -> None:
    reply = http.post("/api/job", json={}, headers=http.ADMIN)
    refused(reply, 400, "does not satisfy defined schema:\naction: is required")


def test_071_a_first_status_message_has_a_time(http: Http) -> None:
    found = http.read(http.add_job(status_message="waiting for the bus"))
    assert found["time-of-status-change"] == found["created"]
    assert "time-of-status-change" not in http.read(http.add_job())


def test_072_a_target_without_uuid(http: Http) -> None:
    job = http.add_job(target_resource={"href": "job"})
    assert http.read(job)["target-resource"] == {"href": "job"}


def test_large_texts_are_stored_whole(http: Http) -> None:
    """Improves on the peer, which fails with 500 beyond 32,766 bytes (D13)."""
    text = "é" * 50_000
    found = http.read(http.add_job(payload=text, output=text, description=text))
    assert [len(found[name]) for name in ("payload", "output", "description")] == [50_000] * 3


def test_bulk_create_is_all_or_none_in_order(http: Http) -> None:
    """Not of the contract: many jobs in one request."""

    def create(who: Headers, *jobs: Any) -> Any:
        return http.post("/api/job", json={"jobs": jobs}, headers={**who, "bulk": "yes"})

    good = [{"action": "in-bulk", "priority": n} for n in range(30)]
    ids = create(LMS, *good).json()["resource-ids"]
    assert [http.read(job)["priority"] for job in ids] == list(range(30))
    assert {http.read(job)["created-by"] for job in ids} == {"user/lms"}
    refused(create(LMS, *good, {"action": "in-bulk", "progress": 101}), 400, "jobs/30/progress: ")
    refused(create(LMS, *good, "no object"), 400, "jobs/30: ")
    refused(create(LMS), 400, "jobs: ")
    refused(create(http.JANE, *good), 403, "credentials required")
    assert http.search(filter="action='in-bulk'", last=0)["count"] == 30
