"""Jobs over HTTP (docs/cimi.md §7, 60 to 108 and 130 to 135)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from job_engine.model import Fence
from job_engine.model.protocol.actions import ActionDescription
from job_engine.model.protocol.claims import ReportKind
from tests.contract.store.support import claim, entry, report
from tests.unit.api.support import (
    ADMIN,
    ANON,
    EXECUTOR,
    JANE,
    JJ_ACL,
    JOE,
    LMS,
    NB,
    Client,
    operations,
    refused,
)


def run(api: Client, job: str) -> None:
    """Claim a job, as an executor does."""
    assert claim(api.services.store, job, entry(1), Fence(1, 1)).answer.runs


def put(api: Client, job: str, body: dict[str, Any], who: str = ADMIN, query: str = "") -> Any:
    reply = api(who, "PUT", f"{job}{query}", body)
    assert reply.status_code == 200, reply.text
    return reply.json()


# --- creating ------------------------------------------------------------------


def test_who_may_create(api: Client) -> None:
    for who in (ANON, JANE, EXECUTOR):
        refused(api(who, "POST", "job", {"action": "x"}), 403, "credentials required")
    assert api(LMS, "POST", "job", {"action": "x"}).status_code == 201


def test_add(api: Client) -> None:
    reply = api(ADMIN, "POST", "job", {"action": "x"})
    body = reply.json()
    job = body["resource-id"]
    assert reply.headers["location"] == job
    assert re.fullmatch(r"job/[0-9a-f-]{36}", job)
    assert body == {"status": 201, "message": f"{job} created", "resource-id": job}
    found = api.get(job)
    assert (found["state"], found["progress"], found["execution-mode"]) == ("QUEUED", 0, "push")
    assert (found["version"], found["created-by"]) == (2, "internal")
    assert found["created"] == found["updated"]
    assert found["acl"] == {"owners": ["group/nuvla-admin"]}
    assert "priority" not in found
    assert "started" not in found


def test_attributes_that_the_server_sets_are_ignored(api: Client) -> None:
    job = api.add_job(
        state="SUCCESS", id="job/mine", created="x", resource_type="y", created_by="user/alpha"
    )
    found = api.get(job)
    assert found["id"] != "job/mine"
    assert (found["state"], found["created-by"]) == ("QUEUED", "user/alpha")
    mine = api.get(api.add_job(LMS, created_by="user/alpha"))
    assert mine["created-by"] == "user/lms"


def test_tags_and_targets(api: Client) -> None:
    target = {"href": "deployment/x"}
    pushed = api.get(api.add_job(tags=["mine"], target_resource=target))
    assert "tags" not in pushed
    assert pushed["affected-resources"] == [target]
    pulled = api.add_job(tags=["mine"], execution_mode="pull", affected_resources=[target])
    assert api.get(pulled)["tags"] == ["mine"]
    listed = api.add_job(target_resource=target, affected_resources=[target])
    assert api.get(listed)["affected-resources"] == [target]
    api.add_job(target_resource={"href": "job"})


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"unknown": 1}, "unknown: unknown attribute"),
        ({"action": None}, "action"),
        ({"action": " "}, "action"),
        ({"progress": 101}, "progress"),
        ({"progress": 50.0}, "progress"),
        ({"priority": 1000}, "priority"),
        ({"priority": None}, "priority: must not be null"),
        ({"execution-mode": "now"}, "execution-mode"),
        ({"return-code": -1}, "return-code"),
        ({"tags": ["a", "a"], "execution-mode": "pull"}, "tags: must not have duplicates"),
        ({"parent-job": "notjob/x"}, "parent-job"),
        ({"affected-resources": []}, "affected-resources"),
        ({"acl": {"owners": []}}, "acl"),
        ({"acl": {"owners": ["user/a"], "odd": []}}, "acl: unknown key 'odd'"),
        ({"acl": {"owners": ["nobody"]}}, "acl: 'nobody'"),
        ({"expiry": "2024-02-30T00:00:00.000Z"}, "expiry"),
        ({"expiry": "2024-01-01"}, "expiry"),
        ({"version": -1}, "version"),
        ({"payload": 5}, "payload"),
    ],
    ids=str,
)
def test_invalid_documents_say_what_is_wrong(api: Client, body: Any, where: str) -> None:
    reply = api(ADMIN, "POST", "job", {"action": "x", **body})
    refused(reply, 400, "resource does not satisfy defined schema:\n")
    assert where in reply.json()["message"]


def test_status_message_at_creation_sets_its_time(api: Client) -> None:
    found = api.get(api.add_job(status_message="hello"))
    assert found["time-of-status-change"] == found["created"]


def test_bulk_create_is_all_or_nothing_and_in_order(api: Client) -> None:
    jobs = [{"action": "many", "name": str(n)} for n in range(20)]
    reply = api(LMS, "POST", "job", {"jobs": jobs}, headers={"bulk": "yes"})
    assert reply.status_code == 201
    ids = reply.json()["resource-ids"]
    assert [api.get(job)["name"] for job in ids] == [str(n) for n in range(20)]
    wrong = {"jobs": [*jobs, {"action": "many", "progress": 101}]}
    refused(api(LMS, "POST", "job", wrong, headers={"bulk": "yes"}), 400, "jobs/20/")
    refused(api(LMS, "POST", "job", {"jobs": []}, headers={"bulk": "yes"}), 400, "jobs")
    assert api.count(ADMIN, "action='many'") == 20


def test_payloads_are_checked_where_the_action_is_known(api: Client) -> None:
    schema = {
        "type": "object",
        "properties": {"repo": {"type": "string"}, "n": {"type": "integer", "minimum": 1}},
        "required": ["repo"],
        "additionalProperties": False,
    }
    described = ActionDescription(name="typed", payload_schema=schema, timeout_s=1)
    api.services.store.actions.publish([described])

    def create(payload: Any) -> Any:
        body = {"action": "typed"} if payload is None else {"action": "typed", "payload": payload}
        return api(ADMIN, "POST", "job", body)

    job = create({"repo": "é"}).json()["resource-id"]
    assert api.get(job)["payload"] == '{"repo":"é"}'
    assert create('{"repo": "x", "n": 2}').status_code == 201
    refused(create(None), 400, "'repo' is a required property")
    refused(create({"repo": 5}), 400, "repo: 5 is not of type 'string'")
    refused(create({"repo": "x", "n": 0}), 400, "n: 0 is less than the minimum of 1")
    refused(create({"repo": "x", "typo": 1}), 400, "known attributes: n, repo")
    refused(create("{"), 400, "must be a JSON text")
    assert api(ADMIN, "POST", "job", {"action": "unheard of", "payload": "{"}).status_code == 201


# --- editing -------------------------------------------------------------------


def test_edit_returns_the_whole_document(api: Client) -> None:
    job = api.add_job(priority=5, acl=JJ_ACL)
    edited = put(api, job, {"state": "RUNNING"})
    assert edited["started"]
    assert edited["acl"]["owners"] == ["group/nuvla-admin"]
    assert edited["updated-by"] == "internal"
    for absent in ("priority", "operations", "time-of-status-change"):
        assert absent not in edited
    done = put(api, job, {"state": "SUCCESS", "return-code": 0})
    assert (done["progress"], done["return-code"]) == (100, 0)
    assert done["duration"] >= 0
    reply = api(ADMIN, "PUT", job, {})
    refused(reply, 409, "edit is not allowed in final state")
    assert reply.json()["resource-id"] == job


def test_a_whole_document_can_be_sent_back(api: Client) -> None:
    job = api.add_job(name="x")
    assert put(api, job, api.get(job))["name"] == "x"


def test_a_whole_document_sent_back_is_no_claim(api: Client) -> None:
    job = api.add_job()
    run(api, job)
    whole = api.get(job)
    assert put(api, job, {**whole, "name": "x"})["name"] == "x"
    assert api.services.store.jobs.get_job(job).fence == Fence(1, 1)
    put(api, job, {"state": "RUNNING"})  # that one is
    assert api.services.store.jobs.get_job(job).fence is None


def test_unfenced_writes_on_a_running_job_are_conflicts(api: Client) -> None:
    job = api.add_job()
    run(api, job)
    refused(api(ADMIN, "PUT", job, {"progress": 5}), 409, "edit of progress is not allowed")
    refused(api(ADMIN, "PUT", job, {"state": "SUCCESS"}), 409, "edit of state is not allowed")
    assert put(api, job, {"name": "x"})["state"] == "RUNNING"


def test_attributes_are_deleted_with_select(api: Client) -> None:
    job = api.add_job(description="d", name="n")
    assert "description" not in put(api, job, {}, query="?select=description")
    kept = put(api, job, {}, query="?select=acl,id,created")
    assert {"acl", "id", "created"} <= kept.keys()
    refused(api(ADMIN, "PUT", f"{job}?select=action", {}), 400, "action: is required")


def test_edits_are_validated(api: Client) -> None:
    job = api.add_job()
    refused(api(ADMIN, "PUT", job, {"name": None}), 400, f"resource {job} does not satisfy")
    refused(api(ADMIN, "PUT", job, {"progress": 5.0}), 400, "progress")
    refused(api(ADMIN, "PUT", job, {"acl": {"owners": []}}), 400, "acl")


def test_rights_decide_what_of_an_edit_counts(api: Client) -> None:
    acl = {"owners": ["group/nuvla-admin"], "edit-data": ["user/jane"], "edit-meta": ["user/joe"]}
    job = api.add_job(acl=acl, target_resource={"href": "job/x"})
    body = {"name": "n", "progress": 7, "action": "other", "acl": {"owners": ["user/jane"]}}
    edited = put(api, job, body, JANE)
    assert (edited["name"], edited["progress"], edited["action"]) == ("n", 7, "noop")
    assert "acl" not in edited
    edited = put(api, job, {"name": "m", "progress": 9}, JOE)
    assert edited["name"] == "m"
    assert "progress" not in edited
    assert api.get(job)["progress"] == 7
    assert put(api, job, {"action": "other"})["action"] == "other"


def test_who_may_not_edit(api: Client) -> None:
    job = api.add_job(acl=JJ_ACL)
    refused(api(JANE, "PUT", job, {"name": "x"}), 403, f"invalid credentials for '{job}'")
    refused(api(JANE, "PUT", "job/none", {"name": "x"}), 404, "job/none not found")


def test_a_submitter_cannot_write_the_outcome(api: Client) -> None:
    """Whoever asks to be graded must not be able to be the grader."""
    job = api.add_job(LMS, acl={"owners": ["user/lms"], "edit-data": ["user/lms"]})
    edited = put(api, job, {"state": "SUCCESS", "output": "100%", "name": "mine"}, LMS)
    assert edited["name"] == "mine"
    found = api.get(job)
    assert found["state"] == "QUEUED"
    assert "output" not in found
    assert found["acl"]["owners"] == ["group/nuvla-admin"]
    assert operations(api.get(job, LMS)) == ["edit", "delete", "cancel"]


# --- deleting ------------------------------------------------------------------


def test_delete(api: Client) -> None:
    job = api.add_job(acl=JJ_ACL)
    refused(api(JANE, "DELETE", job), 403, "invalid credentials")
    reply = api(ADMIN, "DELETE", job)
    assert reply.json() == {"status": 200, "message": f"{job} deleted", "resource-id": job}
    refused(api(ADMIN, "DELETE", job), 404, f"{job} not found")


def test_bulk_delete(api: Client) -> None:
    bulk = {"bulk": "yes"}
    for name in ("a", "b", "c"):
        api.add_job(action="swept", name=name)
    refused(api(ADMIN, "DELETE", "job"), 400, "Bulk request should contain bulk http header.")
    refused(
        api(ADMIN, "DELETE", "job", headers=bulk),
        400,
        "Bulk request should contain a non empty cimi filter.",
    )
    query = "job?filter=action='swept'"
    refused(api(JANE, "DELETE", query, headers=bulk), 403, "credentials required")
    reply = api(ADMIN, "DELETE", f"{query} and name='a'", headers=bulk).json()
    assert (reply["deleted"], reply["total"]) == (1, 1)
    assert reply["timed_out"] is False
    assert reply["failures"] == []
    reply = api(ADMIN, "DELETE", "job", headers=bulk, data={"filter": "action='swept'"}).json()
    assert reply["deleted"] == 2


def test_executors_sweep_old_finished_jobs_and_no_others(api: Client) -> None:
    api.add_job(action="mixed")
    done = api.add_job(action="mixed")
    api(ADMIN, "POST", f"{done}/cancel")
    query = "job?filter=action='mixed'"
    refused(api(EXECUTOR, "DELETE", query, headers={"bulk": "1"}), 403, "credentials required")
    assert api(EXECUTOR, "POST", "engine/cleanup", {"older_than_s": 3600}).json()["deleted"] == 0
    assert api.count(ADMIN, "action='mixed'") == 2


# --- operations ----------------------------------------------------------------


def test_a_viewer_with_manage_can_cancel_once(api: Client) -> None:
    job = api.add_job(acl=JJ_ACL)
    found = api.get(job, JANE)
    assert found["operations"] == [{"rel": "cancel", "href": f"{job}/cancel"}]
    cancelled = api(JANE, "POST", f"{job}/cancel").json()
    assert (cancelled["state"], cancelled["progress"]) == ("CANCELED", 100)
    assert "started" not in cancelled
    assert "operations" not in api.get(job, JANE)
    refused(api(JANE, "POST", f"{job}/cancel"), 403, f"invalid credentials for '{job}'")
    refused(api(JOE, "POST", f"{job}/cancel"), 403, "invalid credentials")
    refused(api(ADMIN, "POST", "job/none/cancel"), 404, "job/none not found")


def test_operations_by_state(api: Client) -> None:
    job = api.add_job(acl=JJ_ACL)
    refused(api(ADMIN, "POST", f"{job}/timeout"), 403, "invalid credentials")
    assert operations(api.get(job)) == ["edit", "delete", "cancel", "get-context"]
    put(api, job, {"state": "RUNNING"})
    assert operations(api.get(job)) == ["edit", "delete", "cancel", "timeout", "get-context"]
    refused(api(JANE, "POST", f"{job}/timeout"), 403, "invalid credentials")
    ended = api(ADMIN, "POST", f"{job}/timeout").json()
    assert ended["state"] == "CANCELED"
    assert ended["duration"] >= 0
    assert operations(api.get(job)) == ["edit", "delete", "get-context", "resubmit"]


def test_get_context(api: Client) -> None:
    acl = {"owners": ["group/nuvla-admin"], "edit-data": ["nuvlabox/x"], "manage": ["nuvlabox/x"]}
    job = api.add_job(acl={**acl, "view-acl": ["user/jane", "nuvlabox/x"]})
    assert api(ADMIN, "POST", f"{job}/get-context").json() == {}
    assert operations(api.get(job, NB)) == ["edit", "cancel", "get-context"]
    assert api(NB, "POST", f"{job}/get-context").json() == {}
    refused(api(JANE, "POST", f"{job}/get-context"), 403, "invalid credentials")


def test_cancelling_a_bulk_job_cancels_its_children(api: Client) -> None:
    job = api.add_job(action="bulk_update_x", acl=JJ_ACL)
    other = api.add_job(action="noop")
    for cancelled in (job, other):
        assert api(ADMIN, "POST", f"{cancelled}/cancel").status_code == 200
    found = api(ADMIN, "GET", "job?filter=action='cancel_children_jobs'").json()
    assert found["count"] == 1
    (child,) = found["resources"]
    assert child["target-resource"] == {"href": job}
    assert child["priority"] == 10
    assert child["acl"] == api.get(job)["acl"]


def test_the_log_of_a_job(api: Client) -> None:
    job = api.add_job(acl=JJ_ACL)
    run(api, job)
    lines = ["one", "two", "three"]
    report(api.services.store, job, Fence(1, 1), ReportKind.PROGRESS, log=lines)
    assert api(JANE, "GET", f"{job}/log").json() == {"lines": lines, "next": 3}
    assert api(JANE, "GET", f"{job}/log?after=2").json() == {"lines": ["three"], "next": 3}
    refused(api(JOE, "GET", f"{job}/log"), 403, "invalid credentials")


# --- access --------------------------------------------------------------------


def test_acls_are_written_out(api: Client) -> None:
    acl = api.get(api.add_job(acl={"owners": ["user/a"], "edit-data": ["user/p"]}))["acl"]
    lists = {"edit-acl", "edit-data", "edit-meta", "view-acl", "view-data", "view-meta"}
    for name in (*lists, "manage", "delete"):
        assert "group/nuvla-admin" in acl[name]
    held = {name for name in acl if "user/p" in acl[name]}
    assert held == {"edit-data", "edit-meta", "view-data", "view-meta"}


def test_levels_of_viewing(api: Client) -> None:
    acl = {"owners": ["group/nuvla-admin"], "view-meta": ["user/jane"], "view-data": ["user/joe"]}
    job = api.add_job(acl={**acl, "manage": ["user/lms"]}, name="n")
    assert sorted(api.get(job, JANE)) == ["created", "id", "name", "resource-type", "updated"]
    data = api.get(job, JOE)
    assert data["state"] == "QUEUED"
    assert "acl" not in data
    refused(api(LMS, "GET", job), 403, f"invalid credentials for '{job}'")
    assert api(LMS, "POST", f"{job}/cancel").status_code == 200


def test_jobs_without_the_right_to_see_them_are_not_found(api: Client) -> None:
    job = api.add_job(action="hidden")
    api.add_job(action="hidden", acl=JJ_ACL)
    assert api.count(ADMIN, "action='hidden'") == 2
    assert api.count(JANE, "action='hidden'") == 1
    assert api.count(JOE, "action='hidden'") == 0
    refused(api(JOE, "GET", job), 403, "invalid credentials")
    acl = {"owners": ["group/nuvla-admin"], "view-data": ["user/joe"]}
    put(api, job, {"acl": acl})
    assert api.count(JOE, "action='hidden'") == 1
    (found,) = api(JOE, "GET", "job?filter=action='hidden'").json()["resources"]
    assert "operations" not in found
