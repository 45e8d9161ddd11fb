"""What each method of `nuvla.api.Api` sends (docs/cimi.md §5), and that it gets its answer.

Section 5 was written down from both releases; where it says that 3.0.x has no
`operation_bulk`, the released 3.0.9 has one, and sends what 4.x sends.
"""

from __future__ import annotations

import gzip
import json
from urllib.parse import parse_qs

import pytest

from tests.compat.clients.recorder import Request
from tests.compat.clients.remote import Remote, RemoteError
from tests.support.engine import ADMIN_PASSWORD

TEMPLATE = {"href": "credential-template/generate-api-key", "ttl": 3600}


def lines(sent: list[Request]) -> list[str]:
    """Return methods and paths, without 3.x's one look at the entry point."""
    return [request.line for request in sent if request.path != "cloud-entry-point"]


@pytest.fixture
def admin(client: Remote) -> Remote:
    """A client that logged in with a password."""
    assert client("login_password", "admin", ADMIN_PASSWORD)["status"] == 201
    return client


def add(client: Remote, **attributes: object) -> str:
    """Create a job, and return its id."""
    return str(client("add", "job", {"action": "noop", **attributes})["data"]["resource-id"])


# --- the session --------------------------------------------------------------------


def test_making_a_client_sends_nothing(client: Remote) -> None:
    assert client.sent("new", client.wire.url, insecure=True, persist_cookie=False) == []


def test_logging_in_with_a_password(client: Remote) -> None:
    (sent,) = client.sent("login_password", "admin", ADMIN_PASSWORD)
    assert (sent.line, sent.status) == ("POST session", 201)
    template = json.loads(sent.body)["template"]
    assert template == {
        "username": "admin",
        "password": ADMIN_PASSWORD,
        "href": "session-template/password",
    }
    refused = client("login_password", "admin", "not the password")
    assert refused["status"] == 403  # and nothing is raised
    assert refused["body"]["message"] == "invalid credentials for 'admin'"
    client("login_password", "admin", ADMIN_PASSWORD)


def test_logging_in_with_a_key(admin: Remote) -> None:
    made = admin("add", "credential", {"name": "key", "template": TEMPLATE})["data"]
    key, secret = made["resource-id"], made["secret-key"]
    (sent,) = admin.sent("login_apikey", key, secret)
    assert (sent.line, sent.status) == ("POST session", 201)
    assert json.loads(sent.body)["template"]["href"] == "session-template/api-key"
    assert admin("login_apikey", key.removeprefix("credential/"), secret)["status"] == 201
    refused = admin("login_apikey", key, "wrong")
    assert (refused["status"], refused["body"]["message"]) == (
        403,
        f"invalid credentials for '{key}'",
    )


def test_logging_in_with_nothing_sends_nothing(client: Remote) -> None:
    assert client.sent("login", {}) == []
    assert client("login", None) is None


def test_the_deprecated_login(client: Remote) -> None:
    assert client("login_internal", "admin", ADMIN_PASSWORD)["status"] == 201


def test_the_current_session(admin: Remote) -> None:
    sent = admin.sent("current_session")
    assert lines(sent) == ["PUT session"]
    assert sent[-1].body == b""
    assert sent[-1].headers["content-length"] == "0"
    assert "content-type" not in sent[-1].headers
    assert admin("current_session").startswith("session/")
    assert admin("is_authenticated") is True


def test_nobody_has_no_session(client: Remote) -> None:
    assert client("current_session") is None
    assert client("is_authenticated") is False
    assert client.sent("logout")[-1].line == "PUT session"


def test_logging_in_again(admin: Remote) -> None:
    """A 403 costs one login, and the request is repeated once (docs/cimi.md §5)."""
    made = admin("add", "credential", {"template": TEMPLATE})["data"]
    key = {"key": made["resource-id"], "secret": made["secret-key"]}
    job = add(admin)
    admin.connect(reauthenticate=True, login_creds=key)
    sent = admin.sent("get", job)
    assert [(r.line, r.status) for r in sent] == [
        (f"GET {job}", 403),
        ("POST session", 201),
        (f"GET {job}", 200),
    ]
    # Logged in, an answer that is no 401 or 403 is not asked for again.
    with pytest.raises(RemoteError) as missing:
        admin("get", "job/none")
    assert missing.value.status == 404
    assert len(admin.wire.take()) == 1


def test_a_header_instead_of_a_login(client: Remote) -> None:
    header = "user/jane user/jane user/jane group/nuvla-user group/nuvla-anon"
    client.connect(authn_header=header, reauthenticate=True)
    (sent,) = client.sent("search", "job")[-1:]
    assert sent.headers["nuvla-authn-info"] == header
    with pytest.raises(RemoteError):
        client("get", "user/0a1b2c3d-0000-0000-0000-000000000000")
    assert not [r for r in client.wire.take() if r.path == "session"]  # nothing to log in with


def test_cookies_that_are_kept(admin: Remote) -> None:
    """`persist_cookie`, the default, reads and writes a Mozilla file in the home directory."""
    admin.connect(persist_cookie=True)
    admin("login_password", "admin", ADMIN_PASSWORD)
    admin.connect(persist_cookie=True)
    assert admin("is_authenticated") is True
    admin("logout")
    admin.connect(persist_cookie=True)
    assert admin("is_authenticated") is False


def test_plain_http_without_insecure(client: Remote) -> None:
    """No `Secure` on http, so the cookie comes back also to who did not ask for `insecure`."""
    client.connect(insecure=False)
    client("login_password", "admin", ADMIN_PASSWORD)
    assert client("is_authenticated") is True


# --- resources ----------------------------------------------------------------------


def test_the_entry_point(client: Remote) -> None:
    (sent,) = client.sent("attribute", "cloud_entry_point.base_uri")
    assert sent.line == "GET cloud-entry-point"
    assert client("attribute", "cloud_entry_point.base_uri").endswith("/api/")
    assert client("attribute", "cloud_entry_point.collections")["job"] == "job"


def test_what_every_call_says(admin: Remote) -> None:
    (sent,) = admin.sent("get", add(admin))
    assert sent.headers["accept"] == "application/json"
    assert "gzip" in sent.headers["accept-encoding"]
    assert sent.headers["user-agent"].startswith("python-requests/")
    assert sent.headers["cookie"].startswith("com.com.sixsq.nuvla.cookie=")


def test_get(admin: Remote) -> None:
    job = add(admin)
    (sent,) = admin.sent("get", job, select=["id", "state"])
    assert (sent.line, sent.query) == (f"GET {job}", "select=id&select=state")
    assert admin("get", job, select=["state"])["data"] == {"id": job, "state": "QUEUED"}
    assert admin("get", job, select="state, action")["data"].keys() == {"id", "state", "action"}
    found = admin("get", job)
    assert (found["id"], found["resource_type"]) == (job, "job")
    assert found["operations"]["edit"]["href"] == job


def test_search(admin: Remote) -> None:
    action = f"searched-{admin.version}"
    ids = [add(admin, action=action, name=str(n)) for n in range(4)]
    asked = {
        "filter": f"action='{action}' and state={['RUNNING', 'QUEUED']}",
        "select": ["id", "name"],
        "orderby": "name:desc",
        "first": 1,
        "last": 2,
    }
    sent = admin.sent("search", "job", **asked)[-1]
    assert sent.line == "PUT job"
    assert sent.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(sent.body.decode()) == {
        "filter": [asked["filter"]],
        "select": ["id", "name"],
        "orderby": ["name:desc"],
        "first": ["1"],
        "last": ["2"],
    }
    found = admin("search", "job", **asked)
    assert found["count"] == 4
    assert [resource["id"] for resource in found["resources"]] == [ids[3], ids[2]]
    assert sorted(found["resources"][0]["data"]) == ["id", "name"]
    assert found["operations"] == ["add", "bulk-delete"]
    summed = admin("search", "job", filter=f"action='{action}'", aggregation="terms:state", last=0)
    assert "terms:state" in json.dumps(summed["data"]["aggregations"])


def test_filters_that_the_package_writes(admin: Remote) -> None:
    action = f"filtered-{admin.version}"
    add(admin, action=action, name="one")
    both = admin("filter_and", [f"action='{action}'", "name='one'"])
    assert both == f"(action='{action}' and name='one')"
    assert admin("search", "job", filter=both)["count"] == 1
    either = admin("filter_or", ["name='one'", None, "name='two'"])
    either = admin("filter_and", [f"action='{action}'", either])
    assert admin("search", "job", filter=either)["count"] == 1
    assert admin("filter_and", ["name='one'"]) == "name='one'"
    assert admin("filter_and", []) == ""


def test_edit(admin: Remote) -> None:
    job = add(admin, description="x")
    sent = admin.sent("edit", job, {"name": "n"}, select="description")
    put = sent[-1]
    assert (put.line, put.query, json.loads(put.body)) == (
        f"PUT {job}",
        "select=description",
        {"name": "n"},
    )
    assert put.headers["content-type"] == "application/json"
    assert lines(sent[:-1]) == ([f"GET {job}"] if admin.major == 3 else [])
    edited = admin("get", job)["data"]
    assert (edited["name"], "description" in edited) == ("n", False)
    assert admin("edit", job, {})["data"]["name"] == "n"


def test_edit_patch(admin: Remote) -> None:
    """4.x only. The contract has it for resources other than jobs; here jobs take it too."""
    job = add(admin)
    patch = [{"op": "add", "path": "/name", "value": "n"}]
    if admin.major == 3:
        with pytest.raises(RemoteError) as absent:
            admin("edit_patch", job, [])
        assert absent.value.type == "AttributeError"
        return
    template = {"href": "credential-template/generate-api-key"}
    key = admin("add", "credential", {"template": template})["data"]["resource-id"]
    admin.wire.take()
    for resource in (job, key):
        assert admin("edit_patch", resource, patch)["data"]["name"] == "n"
        sent = admin.wire.take()[-1]
        assert (sent.line, sent.headers["content-type"]) == (
            f"PUT {resource}",
            "application/json-patch+json",
        )
    with pytest.raises(RemoteError) as refused:
        admin("edit_patch", key, [{"op": "test", "path": "/name", "value": "x"}])
    assert (refused.value.type, refused.value.status) == ("NuvlaError", 409)


def test_delete(admin: Remote) -> None:
    job = add(admin)
    sent = admin.sent("delete", job)
    assert lines(sent) == [f"GET {job}", f"DELETE {job}"]
    assert sent[-1].headers["content-length"] == "0"
    assert "content-type" not in sent[-1].headers
    deleted = admin("delete", add(admin))["data"]
    assert deleted["status"] == 200
    assert deleted["message"] == f"{deleted['resource-id']} deleted"


def test_operations_with_and_without_data(admin: Remote) -> None:
    job = add(admin)
    without = admin.sent("operation", {"$get": job}, "get-context")[-1]
    assert (without.line, without.body) == (f"POST {job}/get-context", b"")
    assert "content-type" not in without.headers
    empty = admin.sent("operation", {"$get": job}, "get-context", {})[-1]
    assert empty.body == b"{}"
    assert admin("operation", {"$get": job}, "cancel", {})["data"]["state"] == "CANCELED"


def test_operation_bulk(admin: Remote) -> None:
    """Jobs have no bulk action (docs/cimi.md §1.12): both clients understand the refusal."""
    with pytest.raises(RemoteError) as refused:
        admin("operation_bulk", "job", "state='QUEUED'", "cancel", {"why": "x"})
    assert refused.value.type == "NuvlaError"
    assert 400 <= (refused.value.status or 0) < 500
    sent = admin.wire.take()[-1]
    assert (sent.line, sent.headers["bulk"]) == ("PATCH job/cancel", "yes")
    assert json.loads(sent.body) == {"why": "x", "filter": "state='QUEUED'"}
    with pytest.raises(RemoteError, match="non-empty"):
        admin("operation_bulk", "job", "", "cancel", {})


def test_hook(admin: Remote) -> None:
    with pytest.raises(RemoteError) as refused:
        admin("hook", "no-such-hook", {"a": 1})
    assert refused.value.type == "NuvlaError"
    assert 400 <= (refused.value.status or 0) < 500
    assert admin.wire.take()[-1].line == "POST hook/no-such-hook"


def test_packed_bodies(admin: Remote) -> None:
    """`compress` packs JSON where that makes it smaller, and forms never."""
    admin.connect(compress=True)
    admin("login_password", "admin", ADMIN_PASSWORD)
    sent = admin.sent("add", "job", {"action": "packed", "description": "x" * 10_000})
    searched, posted = sent[-2:]
    assert "content-encoding" not in searched.headers
    assert posted.headers["content-encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(posted.body))["description"]) == 10_000
    assert posted.status == 201
    small = admin.sent("add", "job", {"action": "a"})[-1]
    assert ("content-encoding" in small.headers, small.status) == (False, 201)


def test_the_packages_helpers(admin: Remote) -> None:
    name = f"helped-{admin.version}"
    job = admin("jobs.add", {"action": "noop", "name": name})
    assert admin("jobs.get", job)["id"] == job
    assert admin("jobs.id_by_name", name) == [job]
    assert admin("jobs.id_by_name", name, "state='RUNNING'") == []
    created = admin("jobs.get", job)["created"]
    assert admin("parse_nuvla_date", created).endswith("+00:00")
    assert admin("jobs.delete", job) == job
    admin("user.logout")
    admin("user.login_password", "admin", ADMIN_PASSWORD)
    assert admin("is_authenticated") is True
    with pytest.raises(RemoteError, match="invalid credentials for 'admin'"):
        admin("user.login_password", "admin", "wrong")
