"""`ETag` and `If-Match`: nobody overwrites what they have not read (RFC 9110 §13.1.1)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from httpx import Response

from job_engine.model import Fence
from tests.contract.store.support import claim, entry
from tests.unit.api.support import (
    ADMIN,
    ADMIN_PASSWORD,
    JANE,
    JJ_ACL,
    JOE,
    TEACHER,
    Client,
    operations,
    refused,
)

STALE: Final = "no longer what `If-Match` names"


def tag_of(api: Client, resource: str, who: str = ADMIN) -> str:
    """The tag of a resource, for somebody."""
    reply = api(who, "GET", resource)
    assert reply.status_code == 200, reply.text
    tag = str(reply.headers["etag"])
    assert tag.startswith('"')
    return tag


def if_match(tag: str) -> dict[str, Any]:
    return {"headers": {"if-match": tag}}


def user(api: Client) -> str:
    template = {"href": "user-template/username-password", "password": "long enough"}
    names = api.count(ADMIN, "id!=null", "user")
    template["username"] = f"reader{names}"
    return str(api(ADMIN, "POST", "user", {"template": template}).json()["resource-id"])


def credential(api: Client) -> str:
    body = {"template": {"href": "credential-template/generate-api-key"}}
    return str(api(JANE, "POST", "credential", body).json()["resource-id"])


def blob(api: Client) -> str:
    raw = {"content-type": "application/octet-stream"}
    reply = api(TEACHER, "POST", "blob", content=b"bytes", headers=raw)
    return f"blob/{reply.json()['digest'].removeprefix('sha256:')}"


EDITABLE: Final[dict[str, Callable[[Client], str]]] = {
    "job": lambda api: api.add_job(),
    "user": user,
    "credential": credential,
}


@pytest.mark.parametrize("make", EDITABLE.values(), ids=EDITABLE)
def test_an_edit_with_the_current_tag_succeeds_and_with_an_old_one_fails(
    api: Client, make: Callable[[Client], str]
) -> None:
    resource = make(api)
    read = tag_of(api, resource)
    edited = api(ADMIN, "PUT", resource, {"description": "first"}, **if_match(read))
    assert edited.status_code == 200
    assert edited.headers["etag"] == tag_of(api, resource) != read
    late = api(ADMIN, "PUT", resource, {"description": "second"}, **if_match(read))
    refused(late, 412, STALE)
    assert late.json()["resource-id"] == resource
    assert api.get(resource)["description"] == "first"
    refused(api(ADMIN, "DELETE", resource, **if_match(read)), 412, STALE)
    gone = api(ADMIN, "DELETE", resource, **if_match(edited.headers["etag"]))
    assert gone.status_code == 200


def test_a_resource_that_cannot_be_edited_is_deleted_by_its_tag(api: Client) -> None:
    upload = blob(api)
    tag = tag_of(api, upload, TEACHER)
    refused(api(TEACHER, "DELETE", upload, **if_match('"else"')), 412, STALE)
    assert api(TEACHER, "DELETE", upload, **if_match(tag)).status_code == 200


def test_tags_are_optional(api: Client) -> None:
    job = api.add_job()
    assert api(ADMIN, "PUT", job, {"name": "a"}).status_code == 200
    assert api(ADMIN, "PUT", job, {"name": "b"}).status_code == 200
    assert api(ADMIN, "DELETE", job).status_code == 200


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ("*", 200),
        ('"other", {tag}', 200),
        ("{tag}", 200),
        ("W/{tag}", 412),  # weak ones never match strongly
        ('"other"', 412),
        ("unquoted", 412),
        ("", 412),
    ],
)
def test_how_tags_are_compared(api: Client, wanted: str, status: int) -> None:
    job = api.add_job()
    tag = tag_of(api, job)
    reply = api(ADMIN, "PUT", job, {"name": "x"}, **if_match(wanted.format(tag=tag)))
    assert reply.status_code == status, reply.text


def test_operations_that_end_a_job_mind_it_too(api: Client) -> None:
    job = api.add_job(acl=JJ_ACL)
    read = tag_of(api, job, JANE)
    api(ADMIN, "PUT", job, {"name": "x"})
    refused(api(JANE, "POST", f"{job}/cancel", **if_match(read)), 412, STALE)
    assert api.get(job)["state"] == "QUEUED"
    cancelled = api(JANE, "POST", f"{job}/cancel", **if_match(tag_of(api, job, JANE)))
    assert cancelled.headers["etag"] == tag_of(api, job, JANE)


def test_every_refusal_but_that_of_the_body_comes_first(api: Client) -> None:
    """As RFC 9110 §13.2.1 has it: a condition only counts where the request would succeed."""
    job = api.add_job()
    refused(api(JOE, "PUT", job, {}, **if_match('"x"')), 403, "invalid credentials")
    refused(api(ADMIN, "PUT", "job/none", {}, **if_match('"x"')), 404, "not found")
    refused(api(ADMIN, "PUT", job, {"name": None}, **if_match('"x"')), 412, STALE)
    api(ADMIN, "POST", f"{job}/cancel")
    refused(api(ADMIN, "PUT", job, {}, **if_match('"x"')), 409, "final state")


def test_a_tag_tells_of_what_one_sees(api: Client) -> None:
    acl = {"owners": ["group/nuvla-admin"], "view-meta": ["user/jane"]}
    job = api.add_job(acl=acl, output="42")
    other = api.add_job(acl=acl, output="43")
    assert len({tag_of(api, job), tag_of(api, job, JANE), tag_of(api, other, JANE)}) == 3
    assert api(JANE, "GET", f"{job}?select=name").headers["etag"] == tag_of(api, job, JANE)
    # Whoever comes before it in the queue changes its place there, and nothing else.
    before = tag_of(api, job)
    api.add_job(priority=0)
    assert tag_of(api, job) == before
    # A run of ours does.
    assert claim(api.services.store, job, entry(7), Fence(1, 7)).answer.runs
    assert tag_of(api, job) != before
    assert tag_of(api, job, JANE) != before


def test_of_writers_that_read_the_same_one_wins(api: Client) -> None:
    writers = 8
    barrier = threading.Barrier(writers)
    for make in EDITABLE.values():
        resource = make(api)
        read = if_match(tag_of(api, resource))

        def write(n: int, resource: str = resource, read: dict[str, Any] = read) -> Response:
            barrier.wait(10)
            return api(ADMIN, "PUT", resource, {"description": str(n)}, **read)

        with ThreadPoolExecutor(writers) as pool:
            statuses = [reply.status_code for reply in pool.map(write, range(writers))]
        assert sorted(statuses) == [200] + [412] * (writers - 1)


# --- not to be told again -------------------------------------------------------------


def unless(tag: str) -> dict[str, Any]:
    return {"headers": {"if-none-match": tag}}


@pytest.mark.parametrize("make", [*EDITABLE.values(), blob], ids=[*EDITABLE, "blob"])
def test_a_known_version_is_answered_304(api: Client, make: Callable[[Client], str]) -> None:
    resource = make(api)
    who = TEACHER if resource.startswith("blob/") else ADMIN
    path = f"{resource}?select=id,name"
    tag = api(who, "GET", path).headers["etag"]
    for method in ("GET", "HEAD"):
        for known in (tag, f'"other", W/{tag}', "*"):
            same = api(who, method, path, **unless(known))
            assert (same.status_code, same.content) == (304, b""), known
            assert same.headers["etag"] == tag
            assert same.headers["cache-control"] == "private, no-cache"
            assert "content-type" not in same.headers
            assert same.headers["x-request-id"]
        for other in ('"other"', "", tag.strip('"')):
            assert api(who, method, path, **unless(other)).status_code == 200
    if who == ADMIN:
        assert api(ADMIN, "PUT", resource, {"description": "new"}).status_code == 200
        assert api(ADMIN, "GET", path, **unless(tag)).status_code == 200


def test_the_bytes_of_an_upload_are_known_by_their_digest(api: Client) -> None:
    upload = f"{blob(api)}/content"
    read = api(TEACHER, "GET", upload)
    assert (read.content, read.headers["etag"]) == (b"bytes", f'"{upload.split("/")[1]}"')
    for method in ("GET", "HEAD"):
        same = api(TEACHER, method, upload, **unless(read.headers["etag"]))
        assert (same.status_code, same.content) == (304, b"")
    part = {"range": "bytes=1-2", "if-range": read.headers["etag"]}
    assert api(TEACHER, "GET", upload, headers=part).content == b"yt"
    # Whoever may not read it does not learn that it is there.
    refused(api(JANE, "GET", upload, **unless("*")), 404, "not found")


def test_a_place_in_the_queue_is_told_every_time(api: Client) -> None:
    job = api.add_job()
    tag = tag_of(api, job)
    assert api(ADMIN, "GET", job, **unless(tag)).json()["queue-position"]
    assert api(ADMIN, "GET", f"{job}?select=state", **unless(tag)).status_code == 304
    api(ADMIN, "POST", f"{job}/cancel")
    assert api(ADMIN, "GET", job, **unless(tag)).json()["state"] == "CANCELED"
    assert api(ADMIN, "GET", job, **unless(tag_of(api, job))).status_code == 304


def test_the_tag_depends_on_the_callers_rights(api: Client) -> None:
    """Else a client would go on to offer what is refused now."""
    acl = {"owners": ["group/nuvla-admin"], "view-acl": ["group/a"], "manage": ["group/m"]}
    job = api.add_job(acl=acl)
    member, outsider = (f"user/x user/x user/x group/nuvla-user {g}" for g in ("group/m", ""))
    tag = tag_of(api, job, f"{member} group/a")
    left = api(f"{outsider} group/a", "GET", f"{job}?select=operations", **unless(tag))
    assert (left.status_code, left.json()) == (200, {"id": job})


def test_the_tag_depends_on_the_right_to_resubmit(api: Client) -> None:
    job = api.add_job(acl=JJ_ACL)
    api(ADMIN, "POST", f"{job}/cancel")
    tag = tag_of(api, job, JANE)
    reply = api(f"{JANE} group/job-submitter", "GET", job, **unless(tag))
    assert (reply.status_code, operations(reply.json())) == (200, ["resubmit"])


def test_a_session_is_listed_whatever_its_tag(api: Client) -> None:
    template = {
        "href": "session-template/password",
        "username": "admin",
        "password": ADMIN_PASSWORD,
    }
    session = str(api("", "POST", "session", {"template": template}).json()["resource-id"])
    found = api(f"user/admin user/admin {session}", "GET", "session", **unless("*"))
    assert [item["id"] for item in found.json()["resources"]] == [session]


def test_a_caller_without_the_right_gets_403_before_304(api: Client) -> None:
    job = api.add_job()
    refused(api(JOE, "GET", job, **unless("*")), 403, "invalid credentials")
    refused(api(ADMIN, "GET", "job/none", **unless("*")), 404, "not found")


@pytest.mark.parametrize("known", ["*", "{tag}", "W/{tag}"])
def test_nothing_is_changed_that_is_to_be_absent(api: Client, known: str) -> None:
    """RFC 9110 §13.1.2: a PUT with `If-None-Match: *` means to create, and we create by POST."""
    job = api.add_job()
    known = known.format(tag=tag_of(api, job))
    for method, path, body in (("PUT", job, {"name": "x"}), ("DELETE", job, None)):
        refused(api(ADMIN, method, path, body, **unless(known)), 412, STALE)
    refused(api(ADMIN, "POST", f"{job}/cancel", **unless(known)), 412, STALE)
    edited = api(ADMIN, "PUT", job, {"name": "x"}, **unless('"other"'))
    assert edited.json()["name"] == "x"
