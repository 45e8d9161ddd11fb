"""Checklist 136 to 143: unmodified clients, nuvla-api 4.2.3 and 3.0.9.

Each runs in an environment of its own (`tests/compat/clients`), against an API process.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.compat.clients.remote import Remote, RemoteError
from tests.support.engine import ADMIN_PASSWORD

JANE = "user/jane user/jane user/jane group/nuvla-user group/nuvla-anon"
ADMIN = "internal group/nuvla-admin group/nuvla-admin group/nuvla-user group/nuvla-anon"
JJ_ACL = {"owners": ["group/nuvla-admin"], "view-acl": ["user/jane"], "manage": ["user/jane"]}


@pytest.fixture(autouse=True)
def _as_admin(client: Remote) -> None:
    client.connect(authn_header=ADMIN)


def add(client: Remote, **attributes: object) -> str:
    """Create a job, and return its id."""
    document = {"action": "noop", **{k.replace("_", "-"): v for k, v in attributes.items()}}
    return str(client("add", "job", document)["data"]["resource-id"])


def test_136_add_searches_for_nothing_and_posts(client: Remote) -> None:
    client("attribute", "cloud_entry_point.base_uri")
    searched, posted = client.sent("add", "job", {"action": "noop"})
    assert (searched.line, searched.body) == ("PUT job", b"last=0")
    assert posted.line == "POST job"
    made = client("add", "job", {"action": "noop"})["data"]
    assert made["status"] == 201
    assert made["resource-id"].startswith("job/")


def test_137_3_x_follows_the_operations_that_are_listed(client: Remote) -> None:
    job = add(client, acl=JJ_ACL)
    assert client("edit", job, {"name": "a name"})["data"]["name"] == "a name"
    assert client("operation", {"$get": job}, "get-context")["data"] == {}
    client.connect(authn_header=JANE)
    listed = client("get", job)["operations"]
    assert listed == {"cancel": {"rel": "cancel", "href": f"{job}/cancel"}}
    refused_here: list[tuple[Any, ...]] = [
        ("edit", job, {"name": "another"}),
        ("delete", job),
        ("operation", {"$get": job}, "timeout"),
        ("add", "job", {"action": "noop"}),
    ]
    for name, *args in refused_here:
        with pytest.raises(RemoteError) as refused:
            client(name, *args)
        if client.major == 3:
            assert refused.value.type == "NuvlaResourceOperationNotAvailable"
            assert refused.value.is_key_error
        else:
            assert (refused.value.type, refused.value.status) == ("NuvlaError", 403)
    assert client("operation", {"$get": job}, "cancel")["data"]["state"] == "CANCELED"
    client.connect(authn_header=ADMIN)
    assert client("delete", job)["data"]["status"] == 200


def test_138_an_operation_needs_no_more_than_id_and_operations(client: Remote) -> None:
    job = add(client)
    few = {"$get": job, "with": {"select": "id, operations"}}
    read, posted = client.sent("operation", few, "get-context")
    assert (read.line, posted.line) == (f"GET {job}", f"POST {job}/get-context")
    assert posted.body == b""
    found = client("get", job, select="id, operations")
    assert sorted(found["data"]) == ["id", "operations"]
    # 4.x joins the id and the name itself, so the id has to be there unasked.
    assert client("get", job, select="operations")["id"] == job


def test_139_delete_bulk_takes_a_form(client: Remote) -> None:
    action = f"bulk-{client.version}"
    for _ in range(3):
        add(client, action=action)
    (deleted,) = client.sent("delete_bulk", "job", f"action='{action}' and name='nobody'")
    assert deleted.line == "DELETE job"
    assert deleted.headers["content-type"] == "application/x-www-form-urlencoded"
    assert deleted.headers["bulk"] == "yes"
    assert list(parse_qs(deleted.body.decode())) == ["filter"]
    summary = client("delete_bulk", "job", f"action='{action}'")["data"]
    assert (summary["deleted"], summary["timed_out"]) == (3, False)
    assert client("search", "job", filter=f"action='{action}'")["count"] == 0
    with pytest.raises(RemoteError, match="non-empty"):
        client("delete_bulk", "job", "")


def test_140_no_filter_is_none_and_an_empty_one_is_refused(client: Remote) -> None:
    add(client)
    (searched,) = client.sent("search", "job", filter=None, last=0)[-1:]
    assert searched.body == b"last=0"
    without = client("search", "job", last=0)["count"]
    assert client("search", "job", filter=None, last=0)["count"] == without > 0
    with pytest.raises(RemoteError, match="Invalid CIMI filter") as refused:
        client("search", "job", filter="")
    assert refused.value.status == 400


def test_141_an_error_says_what_the_server_says(client: Remote) -> None:
    gone = "job/0a1b2c3d-0000-0000-0000-000000000000"
    with pytest.raises(RemoteError) as refused:
        client("get", gone)
    assert (refused.value.type, refused.value.status) == ("NuvlaError", 404)
    assert refused.value.reason == f"{gone} not found"


def test_142_an_edit_answers_with_the_whole_job(client: Remote) -> None:
    job = add(client, payload='{"a": 1}', name="before")
    before = client("get", job)["data"]
    edited = client("edit", job, {"name": "after"})["data"]
    volatile = {"operations", "name", "updated", "updated-by", "queue-position", "estimated-wait"}
    unchanged = before.keys() - volatile
    assert unchanged <= edited.keys()
    assert {k: edited[k] for k in unchanged} == {k: before[k] for k in unchanged}
    assert edited["name"] == "after"


def test_143_logout_looks_for_the_session_and_deletes_it(client: Remote) -> None:
    client.connect()
    client("login_password", "admin", ADMIN_PASSWORD)
    template = {"href": "credential-template/generate-api-key", "ttl": 3600}
    made = client("add", "credential", {"template": template})["data"]
    client.connect()
    login = client("login_apikey", made["resource-id"], made["secret-key"])
    assert login["status"] == 201
    session = login["body"]["resource-id"]
    client("attribute", "cloud_entry_point.base_uri")
    sent = client.sent("logout")
    assert [request.line for request in sent] == ["PUT session", f"DELETE {session}"]
    assert sent[-1].status == 200
    assert client("is_authenticated") is False
