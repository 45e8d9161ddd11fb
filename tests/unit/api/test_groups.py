"""Groups, and sessions that act as one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from job_engine.api.services import COOKIE
from tests.unit.api.people import (
    add_group,
    add_key,
    add_user,
    browsing,
    is_in,
    log_in,
    log_in_as,
    ok,
)
from tests.unit.api.support import ADMIN, ANON, JANE, Client, Running, refused

SUBMITTER = "group/job-submitter"
TEACHER = "group/job-teacher"


@pytest.fixture
def browser(server: Running) -> Iterator[Client]:
    """A client with cookies of its own."""
    with browsing(server) as client:
        yield client


def roles(client: Client) -> set[str]:
    """The claims of a client's session, without its own."""
    (session,) = client(ANON, "PUT", "session").json()["resources"]
    return {role for role in session["roles"].split() if not role.startswith("session/")}


def test_members_act_for_their_groups(api: Client, browser: Client) -> None:
    user = add_user(api)
    group = add_group(api, user)
    shared = api.add_job(acl={"owners": ["group/nuvla-admin"], "view-data": [group]})
    log_in_as(browser, user)
    assert group in roles(browser)
    assert browser.get(shared, ANON)["state"] == "QUEUED"
    assert browser.get(group, ANON)["users"] == [user]
    refused(api(JANE, "GET", group), 403, "invalid credentials")


def test_admins_are_members_of_a_group(api: Client, browser: Client) -> None:
    user = add_user(api)
    members = api.get("group/nuvla-admin")["users"]
    ok(api(ADMIN, "PUT", "group/nuvla-admin", {"users": [*members, user]}))
    log_in_as(browser, user)
    assert browser(ANON, "POST", "job", {"action": "x"}).status_code == 201
    ok(api(ADMIN, "PUT", "group/nuvla-admin", {"users": members}))
    assert not is_in(browser)
    log_in_as(browser, user)
    refused(browser(ANON, "POST", "job", {"action": "x"}), 403, "credentials required")


def test_switching_to_a_group_and_back(api: Client, browser: Client) -> None:
    user = add_user(api, SUBMITTER, TEACHER)
    group = add_group(api, user)
    session = log_in_as(browser, user)
    everything = roles(browser)
    assert everything == {user, SUBMITTER, TEACHER, group, "group/nuvla-user", "group/nuvla-anon"}
    found = ok(browser(ANON, "POST", f"{session}/get-groups"))
    assert [item["id"] for item in found] == sorted([SUBMITTER, TEACHER, group])
    assert all(item["name"] for item in found)
    reply = browser(ANON, "POST", f"{session}/switch-group", {"claim": group, "extended": True})
    assert ok(reply)["active-claim"] == group
    assert "switch-group" in {item["rel"] for item in reply.json()["operations"]}
    assert reply.headers["set-cookie"].startswith(f"{COOKIE}=")
    # From the next request on, with this right alone: the user's own are gone as well.
    assert roles(browser) == {group, "group/nuvla-user", "group/nuvla-anon"}
    refused(browser(ANON, "POST", "job", {"action": "x"}), 403, "credentials required")
    refused(browser(ANON, "GET", user), 403, "invalid credentials")
    ok(browser(ANON, "POST", f"{session}/switch-group", {"claim": user}))
    assert roles(browser) == everything


def test_switching_where_one_does_not_belong(api: Client, browser: Client) -> None:
    session = log_in_as(browser, add_user(api))
    other = add_group(api)
    path = f"{session}/switch-group"
    for claim in (other, "group/nuvla-admin", "user/jane", "group/nowhere", ""):
        reply = browser(ANON, "POST", path, {"claim": claim})
        refused(reply, 403, f"Switch group cannot be done to requested group: {claim}!")
    refused(browser(ANON, "POST", path, {}), 400, "claim")
    refused(browser(ANON, "GET", path), 405, "invalid method")
    refused(api(JANE, "POST", path, {"claim": other}), 403, "invalid credentials")


def test_a_key_switches_to_its_own_groups_only(api: Client, browser: Client) -> None:
    user = add_user(api, SUBMITTER, TEACHER)
    log_in_as(browser, user)
    key = add_key(browser, roles=[SUBMITTER])
    browser.http.cookies.clear()
    session = log_in(browser, "api-key", **key)
    (group,) = ok(browser(ANON, "POST", f"{session}/get-groups"))
    assert group["id"] == SUBMITTER
    path = f"{session}/switch-group"
    assert browser(ANON, "POST", path, {"claim": TEACHER}).status_code == 403
    ok(browser(ANON, "POST", path, {"claim": SUBMITTER}))


def test_an_admin_switches_to_any_group(api: Client, browser: Client) -> None:
    group = add_group(api)
    session = log_in_as(browser, add_user(api, "group/nuvla-admin"))
    ok(browser(ANON, "POST", f"{session}/switch-group", {"claim": group}))
    refused(browser(ANON, "POST", "job", {"action": "x"}), 403, "credentials required")


def test_peers_share_a_group(api: Client, browser: Client) -> None:
    one, two, three = (add_user(api, name=f"peer-{n}") for n in range(3))
    add_group(api, one, two)
    add_group(api, two, three)
    session = log_in_as(browser, one)
    assert ok(browser(ANON, "POST", f"{session}/get-peers")) == {two: "peer-1"}


def test_callers_with_edit_data_change_the_members_of_a_group(api: Client, browser: Client) -> None:
    lead, member = add_user(api), add_user(api)
    group = add_group(api)
    acl = {"owners": ["group/nuvla-admin"], "edit-data": [lead]}
    ok(api(ADMIN, "PUT", group, {"acl": acl}))
    log_in_as(browser, lead)
    ok(browser(ANON, "PUT", group, {"users": [member]}))
    assert api.get(group)["users"] == [member]
    refused(browser(ANON, "PUT", group, {"users": ["jane"]}), 400, "users/0")
    refused(browser(ANON, "PUT", group, {"users": [member, member]}), 400, "duplicates")
    refused(browser(ANON, "DELETE", group), 403, "invalid credentials")


@pytest.mark.parametrize(
    "name", ["nuvla-x", "nuvla-admin", "X", "a_b", "a--b", "-a", "", "a" * 101]
)
def test_names_that_groups_cannot_have(api: Client, name: str) -> None:
    template = {"href": "group-template/generic", "group-identifier": name}
    refused(api(ADMIN, "POST", "group", {"template": template}), 400, "group-identifier")


def test_groups_that_stay(api: Client) -> None:
    for group in ("group/nuvla-admin", "group/job-executor"):
        refused(api(ADMIN, "DELETE", group), 409, "stays")
        refused(api(JANE, "DELETE", group), 403, "credentials required")
    refused(api(ADMIN, "PUT", "group/nuvla-user", {"users": ["user/x"]}), 400, "everybody")
    template = {"href": "group-template/generic", "group-identifier": "job-teacher"}
    refused(api(ADMIN, "POST", "group", {"template": template}), 409, "conflict with")
    refused(
        api(ADMIN, "POST", "group", {"template": {"href": "group-template/x"}}), 404, "not found"
    )
