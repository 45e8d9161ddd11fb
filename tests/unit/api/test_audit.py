"""The audit trail over HTTP: who did what to which resource, and in which request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.api.people import PASSWORD, add_group, add_key, add_user, browsing, log_in_as, ok
from tests.unit.api.support import (
    ADMIN,
    ANON,
    DISTRIBUTOR,
    EXECUTOR,
    JANE,
    LMS,
    Client,
    Running,
    refused,
)


@pytest.fixture
def browser(server: Running) -> Iterator[Client]:
    """A client with cookies of its own."""
    with browsing(server) as client:
        yield client


def trail(api: Client, resource: str, who: str = ADMIN) -> list[dict[str, Any]]:
    """What was done to a resource, oldest first."""
    form = {"filter": f"content/resource/href='{resource}'", "orderby": "created"}
    found: list[dict[str, Any]] = ok(api(who, "PUT", "event", data=form))["resources"]
    return sorted(found, key=lambda event: int(event["id"].partition("/")[2]))


def names(api: Client, resource: str) -> list[str]:
    return [event["name"] for event in trail(api, resource)]


def test_the_life_of_a_job(api: Client) -> None:
    job = api.add_job(LMS)
    ok(api(ADMIN, "PUT", job, {"name": "n", "acl": {"owners": ["user/lms"]}}))
    ok(api(ADMIN, "PUT", job, {"progress": 5}))  # as foreign executors do, again and again
    ok(api(LMS, "POST", f"{job}/cancel"))
    again = ok(api(ADMIN, "POST", f"{job}/resubmit"))["resource-id"]
    ok(api(ADMIN, "DELETE", job))
    assert names(api, job) == ["job.add", "job.edit", "job.cancel", "job.delete"]
    assert names(api, again) == ["job.resubmit"]
    added, edited, cancelled, _ = trail(api, job)
    assert added["category"] == "add"
    assert added["success"] is True
    assert added["authn-info"] == {"user-id": "user/lms", "active-claim": "user/lms"}
    assert edited["content"] == {"resource": {"href": job}, "attributes": ["acl", "name"]}
    assert edited["authn-info"]["user-id"] == "internal"
    assert cancelled["category"] == "action"


def test_each_job_of_many_has_its_line(api: Client) -> None:
    body = {"jobs": [{"action": "noop"}] * 3}
    ids = ok(api(LMS, "POST", "job", body, headers={"bulk": "yes"}))["resource-ids"]
    assert [names(api, job) for job in ids] == [["job.add"]] * 3


def test_refused_and_repeated_requests_add_no_line(api: Client) -> None:
    job = api.add_job()
    refused(api(JANE, "PUT", job, {"name": "x"}), 403, "invalid credentials")
    refused(api(JANE, "DELETE", job), 403, "invalid credentials")
    ok(api(ADMIN, "PUT", job, {}))
    headers = {"idempotency-key": job}
    first = ok(api(LMS, "POST", "job", {"action": "noop"}, headers=headers))["resource-id"]
    ok(api(LMS, "POST", "job", {"action": "noop"}, headers=headers))
    assert names(api, job) == ["job.add"]
    assert names(api, first) == ["job.add"]


def test_messages_of_services_add_no_line(api: Client) -> None:
    job = api.run_job()
    before = api.count(ADMIN, "id!=null", "event")
    finish = {"job": job, "fence": [1, 1], "kind": "finish", "state": "SUCCESS"}
    ok(api(EXECUTOR, "POST", "engine/report", {"executor": "e", "reports": [finish]}))
    ok(api(DISTRIBUTOR, "POST", "engine/sweep"))
    assert api.count(ADMIN, "id!=null", "event") == before


def test_logging_in_out_and_failing_to(api: Client, browser: Client) -> None:
    user = add_user(api)
    session = log_in_as(browser, user)
    ok(browser(ANON, "DELETE", session))
    (logged_in, out) = trail(api, session)
    assert (logged_in["name"], out["name"]) == ("session.add", "session.delete")
    assert logged_in["content"]["method"] == "password"
    assert logged_in["content"]["address"] == "127.0.0.1"
    assert out["authn-info"]["user-id"] == user
    name = api.get(user)["username"]
    template = {"href": "session-template/password", "username": name, "password": "wrong one"}
    refused(browser(ANON, "POST", "session", {"template": template}), 403, "invalid credentials")
    failure = trail(api, user)[-1]
    assert (failure["name"], failure["success"]) == ("session.add", False)
    assert failure["content"]["address"] == "127.0.0.1"
    # Whose account it is, sees who tried; a stranger does not.
    log_in_as(browser, user)
    assert failure in [{**e, "acl": failure["acl"]} for e in trail(browser, user, ANON)]
    assert trail(api, user, JANE) == []


def test_users_keys_and_groups(api: Client, browser: Client) -> None:
    user = add_user(api, "group/job-submitter")
    group = add_group(api, user)
    session = log_in_as(browser, user)
    ok(browser(ANON, "POST", f"{session}/switch-group", {"claim": group}))
    ok(browser(ANON, "POST", f"{session}/switch-group", {"claim": user}))
    key = add_key(browser)["key"]
    ok(browser(ANON, "DELETE", key))
    new = {"current-password": PASSWORD, "new-password": "another one"}
    ok(browser(ANON, "POST", f"{user}/change-password", new))
    ok(api(ADMIN, "PUT", user, {"password": "a third one"}))
    ok(api(ADMIN, "DELETE", group))
    assert names(api, key) == ["credential.add", "credential.delete"]
    assert names(api, group) == ["group.add", "group.delete"]
    assert names(api, user) == ["user.add", "user.change-password", "user.edit"]
    assert trail(api, user)[-1]["content"]["attributes"] == ["password"]
    switches = [e for e in trail(api, session) if e["name"] == "session.switch-group"]
    assert [event["content"]["claim"] for event in switches] == [group, user]


def test_the_trail_is_searched_like_anything_else(api: Client) -> None:
    job = api.add_job(LMS)
    headers = {"x-request-id": "request-of-the-test"}
    ok(api(ADMIN, "PUT", job, {"acl": {"owners": ["user/lms"]}}, headers=headers))
    for found in (
        "request-id='request-of-the-test'",
        f"content/attributes='acl' and content/resource/href='{job}'",
        f"authn-info/user-id='internal' and content/resource/href='{job}' and created>'now-1h'",
        f"name^='job.e' and category='edit' and success=true and content/resource/href='{job}'",
    ):
        assert api.count(ADMIN, found, "event") == 1, found
    form = {"filter": f"content/resource/href='{job}'", "aggregation": "terms:name", "last": "0"}
    assert "terms:name" in ok(api(ADMIN, "PUT", "event", data=form))["aggregations"]


def test_nobody_writes_events(api: Client) -> None:
    event = trail(api, api.add_job())[0]["id"]
    for method, path in (
        ("POST", "event"),
        ("DELETE", "event"),
        ("PUT", event),
        ("DELETE", event),
    ):
        body = {"name": "x"} if method in ("POST", "PUT") else None
        reply = api(
            ADMIN, method, path, body, headers={"bulk": "yes"}, params={"filter": "id!=null"}
        )
        refused(reply, 405, "invalid method")
    assert "operations" not in api.get(event)
    assert "operations" not in ok(api(ADMIN, "PUT", "event", data={"last": "0"}))
    refused(api(JANE, "GET", event), 403, "invalid credentials")
    refused(api(ANON, "GET", event), 403, "invalid credentials")
    refused(api(ADMIN, "GET", "event/0"), 404, "not found")
    refused(api(ADMIN, "GET", "event/x"), 404, "not found")
