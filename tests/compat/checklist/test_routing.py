"""Checklist 1 to 14: routing and envelope."""

from __future__ import annotations

import gzip
import json
import sqlite3
from contextlib import closing

import pytest
from nuvla.api import Api
from nuvla.api.api import NuvlaError

from tests.compat.checklist.conftest import ADMIN, ANON, JANE, Http, Served, refused


def test_001_anybody_reads_the_entry_point(http: Http) -> None:
    reply = http.get("/api/cloud-entry-point", headers=ANON)
    assert reply.status_code == 200
    found = reply.json()
    assert found["base-uri"] == f"{http.base_url}/api/"
    assert found["collections"]["job"]["href"] == "job"
    assert "operations" not in found


def test_002_an_admin_may_edit_the_entry_point_and_not_delete_it(http: Http) -> None:
    operations = http.read("cloud-entry-point")["operations"]
    assert operations == [{"rel": "edit", "href": "cloud-entry-point"}]


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH"])
def test_003_the_entry_point_is_neither_posted_nor_deleted(http: Http, method: str) -> None:
    reply = http.request(method, "/api/cloud-entry-point", headers=ADMIN)
    message = f"invalid method ({method.lower()}) for /api/cloud-entry-point"
    refused(reply, 405, message)


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/apix"])
def test_004_what_is_outside_leads_to_the_entry_point(http: Http, path: str) -> None:
    reply = http.get(path)
    assert reply.status_code == 302
    assert reply.headers["location"] == "/api/cloud-entry-point"


def test_005_a_longer_path_is_an_unknown_resource(http: Http) -> None:
    assert (
        refused(http.get("/api/a/b/c/d"), 404, "unknown resource")["resource-id"] == "/api/a/b/c/d"
    )


def test_006_an_unknown_collection_is_an_invalid_method(http: Http) -> None:
    body = refused(http.get("/api/nosuchtype"), 405, "")
    assert body["message"] == "invalid method (get) for /api/nosuchtype"


def test_007_a_job_is_not_posted_and_the_collection_not_patched(http: Http) -> None:
    job = http.add_job()
    refused(http.post(f"/api/{job}", headers=ADMIN), 405, f"invalid method (post) for /api/{job}")
    refused(http.patch("/api/job", headers=ADMIN), 405, "invalid method (patch) for /api/job")


def test_008_an_unknown_action_is_not_found(http: Http) -> None:
    reply = http.post(f"/api/{http.add_job()}/nosuchaction", headers=ADMIN)
    assert refused(reply, 404, "")["message"].startswith("undefined action (post,")


@pytest.mark.parametrize(
    "path", ["job", "job/x", "job/x/cancel", "cloud-entry-point", "nosuchtype"]
)
def test_009_a_preflight_is_answered_on_every_path(http: Http, path: str) -> None:
    """Replaces statement 9: HTTP allows no body with a 204, and client libraries choke on one."""
    reply = http.options(f"/api/{path}", headers=ANON)
    assert (reply.status_code, reply.content) == (204, b"")


def test_010_every_json_error_says_its_status_and_a_message(http: Http) -> None:
    job = http.add_job()
    final = http.add_job()
    http.post(f"/api/{final}/cancel", headers=ADMIN)
    replies = [
        http.get("/api/job?filter=bad bad", headers=ADMIN),
        http.post("/api/job", json={"nosuch": 1}, headers=ADMIN),
        http.get("/api/job", headers=ANON),
        http.get(f"/api/{job}", headers=ANON),
        http.get("/api/job/nosuch", headers=ADMIN),
        http.get("/api/a/b/c/d"),
        http.get("/api/nosuchtype"),
        http.put(f"/api/{final}", json={"name": "x"}, headers=ADMIN),
        http.get("/api/job?last=10001", headers=ADMIN),
    ]
    assert [reply.status_code for reply in replies] == [400, 400, 403, 403, 404, 404, 405, 409, 400]
    for reply in replies:
        body = reply.json()
        assert type(body["status"]) is int
        assert body["status"] == reply.status_code
        assert isinstance(body["message"], str)
        assert body["message"]


def test_011_malformed_json_is_answered_in_plain_text(http: Http, server: Served) -> None:
    text = "Malformed JSON in request body."
    headers = {**ADMIN, "content-type": "application/json"}
    reply = http.post("/api/job", content=b'{"action": ', headers=headers)
    assert (reply.status_code, reply.text) == (400, text)
    assert reply.headers["content-type"].startswith("text/plain")
    api = Api(server.url, authn_header=ADMIN["nuvla-authn-info"], persist_cookie=False)
    try:
        with pytest.raises(NuvlaError, match=text) as refusal:
            api._cimi_request("POST", "job", data="{", headers={"Content-Type": "application/json"})
        assert refusal.value.response.status_code == 400
    finally:
        api.session.close()


def test_012_a_packed_body_is_unpacked(http: Http) -> None:
    body = gzip.compress(json.dumps({"action": "noop", "name": "packed"}).encode())
    headers = {**ADMIN, "content-encoding": "gzip", "content-type": "application/json"}
    reply = http.post("/api/job", content=body, headers=headers)
    assert reply.status_code == 201
    assert http.read(reply.json()["resource-id"])["name"] == "packed"


def test_013_an_unexpected_exception_is_a_500_that_says_so(http: Http, server: Served) -> None:
    job = http.add_job()
    with closing(sqlite3.connect(server.store)) as connection, connection:
        # What nobody expects: a disk that gives back something else than was written.
        connection.execute("UPDATE jobs SET document = '{' WHERE id = ?", (job,))
    try:
        with Http(base_url=server.url) as other:
            body = refused(other.get(f"/api/{job}", headers=ADMIN), 500, "")
        assert body["message"].startswith("Unexpected exception thrown: ")
        assert http.get("/api/cloud-entry-point").status_code == 200
    finally:
        with closing(sqlite3.connect(server.store)) as connection, connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (job,))


def test_014_the_base_uri_is_the_one_that_a_proxy_was_asked_by(http: Http) -> None:
    forwarded = {"x-forwarded-proto": "https", "x-forwarded-host": "h"}
    for who in (ANON, JANE):
        reply = http.get("/api/cloud-entry-point", headers={**who, **forwarded})
        assert reply.json()["base-uri"] == "https://h/api/"
