"""Operations of jobs: statements 97 to 108, but for those about the queue."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.compat.checklist.conftest import JJ_ACL, Headers, Http, refused


def offered(document: dict[str, Any]) -> list[str]:
    """The names of a document's operations."""
    return [item["rel"] for item in document.get("operations", [])]


def operate(http: Http, job: str, name: str, who: Headers) -> httpx.Response:
    """Run an operation as the client does, with an empty body."""
    return http.post(f"/api/{job}/{name}", headers=who)


def running(http: Http, **attributes: Any) -> str:
    """A job that a foreign executor runs."""
    job = http.add_job(**attributes)
    reply = http.put(f"/api/{job}", json={"state": "RUNNING"}, headers=http.ADMIN)
    assert reply.status_code == 200, reply.text
    return job


def test_097_what_a_manager_is_offered(http: Http) -> None:
    job = http.add_job(acl=JJ_ACL)
    found = http.read(job, http.JANE)
    assert found["operations"] == [{"rel": "cancel", "href": f"{job}/cancel"}]
    (entry,) = http.search(http.JANE, filter=f"id='{job}'")["resources"]
    assert entry["operations"] == found["operations"]


def test_098_cancel_of_a_waiting_job(http: Http) -> None:
    job = http.add_job(acl=JJ_ACL)
    reply = operate(http, job, "cancel", http.JANE)
    assert reply.status_code == 200
    cancelled = reply.json()
    assert (cancelled["id"], cancelled["state"], cancelled["progress"]) == (job, "CANCELED", 100)
    assert {"started", "duration"}.isdisjoint(cancelled)
    assert cancelled["updated-by"] == "user/jane"
    assert offered(http.read(job, http.JANE)) == []


def test_099_cancel_of_a_final_job(http: Http) -> None:
    job = http.add_job(acl=JJ_ACL)
    assert operate(http, job, "cancel", http.JANE).status_code == 200
    for who in (http.JANE, http.ADMIN):
        body = refused(operate(http, job, "cancel", who), 403, f"invalid credentials for '{job}'")
        assert body["resource-id"] == job
    refused(operate(http, "job/none", "cancel", http.ADMIN), 404, "job/none not found")


def test_100_cancel_of_a_running_job(http: Http) -> None:
    job = running(http, status_message="busy")
    before = http.read(job)
    cancelled = operate(http, job, "cancel", http.ADMIN).json()
    assert isinstance(cancelled["duration"], int)
    assert cancelled["started"] == before["started"]
    assert cancelled["time-of-status-change"] > before["time-of-status-change"]


def test_101_cancel_of_a_bulk_job_makes_a_job_for_its_children(http: Http) -> None:
    """Replaces statement 101: who cancelled is its creator; its node comes once it is pushed."""
    job = running(http, action="bulk_update_101", acl=JJ_ACL)
    assert operate(http, job, "cancel", http.JANE).status_code == 200
    filter_ = f"action='cancel_children_jobs' and target-resource/href='{job}'"
    (child,) = http.search(filter=filter_)["resources"]
    assert (child["state"], child["priority"]) == ("QUEUED", 10)
    assert (child["execution-mode"], child["version"]) == ("push", 2)
    assert child["acl"] == http.read(job)["acl"]
    assert child["created-by"] == "user/jane"
    assert child["affected-resources"] == [{"href": job}]


def test_102_other_cancels_make_none(http: Http) -> None:
    job = running(http, action="not_bulk", acl=JJ_ACL)
    operate(http, job, "cancel", http.ADMIN)
    timed_out = running(http, action="bulk_timed_out")
    operate(http, timed_out, "timeout", http.ADMIN)
    refused_job = http.add_job(action="bulk_refused")
    refused(operate(http, refused_job, "cancel", http.JANE), 403, "invalid credentials")
    for target in (job, timed_out, refused_job):
        assert http.search(filter=f"target-resource/href='{target}'", last=0)["count"] == 0


def test_103_timeout(http: Http) -> None:
    job = http.add_job(acl=JJ_ACL)
    assert "timeout" not in offered(http.read(job))
    refused(operate(http, job, "timeout", http.ADMIN), 403, f"invalid credentials for '{job}'")
    http.put(f"/api/{job}", json={"state": "RUNNING"}, headers=http.ADMIN)
    assert "timeout" in offered(http.read(job))
    assert "timeout" not in offered(http.read(job, http.JANE))
    refused(operate(http, job, "timeout", http.JANE), 403, f"invalid credentials for '{job}'")
    ended = operate(http, job, "timeout", http.ADMIN).json()
    assert (ended["state"], ended["progress"]) == ("CANCELED", 100)
    assert ended["duration"] >= 0


def test_104_what_an_agent_is_offered(http: Http) -> None:
    acl = {
        "owners": ["group/nuvla-admin"],
        "edit-data": ["nuvlabox/x"],
        "manage": ["nuvlabox/x"],
    }
    job = http.add_job(acl=acl, execution_mode="pull")
    assert offered(http.read(job, http.NB)) == ["edit", "cancel", "get-context"]
    http.put(f"/api/{job}", json={"state": "RUNNING"}, headers=http.NB)
    assert offered(http.read(job, http.NB)) == ["edit", "cancel", "get-context"]
    http.put(f"/api/{job}", json={"state": "SUCCESS"}, headers=http.NB)
    assert offered(http.read(job, http.NB)) == ["edit", "get-context"]


def test_105_get_context(http: Http) -> None:
    acl = {**JJ_ACL, "manage": ["user/jane", "nuvlabox/x"], "view-data": ["nuvlabox/x"]}
    job = http.add_job(acl=acl, target_resource={"href": "job"})
    for who in (http.ADMIN, http.NB):
        reply = operate(http, job, "get-context", who)
        assert (reply.status_code, reply.json()) == (200, {})
    refused(operate(http, job, "get-context", http.JANE), 403, f"invalid credentials for '{job}'")
    refused(operate(http, "job/none", "get-context", http.ADMIN), 404, "job/none not found")
    operate(http, job, "cancel", http.ADMIN)
    assert operate(http, job, "get-context", http.ADMIN).json() == {}  # in any state


def test_106_what_an_admin_is_offered(http: Http) -> None:
    """`resubmit`, which is not of the contract, comes last."""
    job = http.add_job()
    assert offered(http.read(job)) == ["edit", "delete", "cancel", "get-context"]
    http.put(f"/api/{job}", json={"state": "RUNNING"}, headers=http.ADMIN)
    assert offered(http.read(job)) == ["edit", "delete", "cancel", "timeout", "get-context"]
    http.put(f"/api/{job}", json={"state": "SUCCESS"}, headers=http.ADMIN)
    assert offered(http.read(job)) == ["edit", "delete", "get-context", "resubmit"]
    hrefs = {item["rel"]: item["href"] for item in http.read(job)["operations"]}
    assert hrefs["edit"] == hrefs["delete"] == job
    assert hrefs["get-context"] == f"{job}/get-context"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("name", ["cancel", "timeout", "resubmit"])
def test_107_links_change_nothing(http: Http, method: str, name: str) -> None:
    """Replaces statement 107: what changes a job is done by POST, and by nothing else."""
    job = running(http)
    reply = http.request(method, f"/api/{job}/{name}", headers=http.ADMIN)
    refused(reply, 405, f"invalid method ({method.lower()}) for /api/{job}/{name}")
    assert http.read(job)["state"] == "RUNNING"


def test_107_what_only_reads_is_done_by_any_method(http: Http) -> None:
    job = http.add_job()
    for method in ("GET", "PUT", "POST", "DELETE", "PATCH"):
        reply = http.request(method, f"/api/{job}/get-context", headers=http.ADMIN)
        assert (reply.status_code, reply.json()) == (200, {})
