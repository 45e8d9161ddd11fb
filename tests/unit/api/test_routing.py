"""Paths, methods, envelopes and parameters (docs/cimi.md §7, 1 to 44)."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from tests.unit.api.support import ADMIN, ANON, JANE, JJ_ACL, Client, operations, refused


def test_entry_point(api: Client) -> None:
    found = api(ANON, "GET", "cloud-entry-point").json()
    assert found["base-uri"] == f"{api.running.url}/api/"
    assert found["collections"]["job"] == {"href": "job"}
    assert "operations" not in found
    assert operations(api(ADMIN, "GET", "cloud-entry-point").json()) == ["edit"]
    forwarded = {"x-forwarded-proto": "https", "x-forwarded-host": "h"}
    found = api(ANON, "GET", "cloud-entry-point", headers=forwarded).json()
    assert found["base-uri"] == "https://h/api/"


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/apix"])
def test_redirects_to_the_entry_point(api: Client, path: str) -> None:
    reply = api.http.get(path)
    assert (reply.status_code, reply.headers["location"]) == (302, "/api/cloud-entry-point")


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "cloud-entry-point", 405, "invalid method (post) for /api/cloud-entry-point"),
        ("DELETE", "cloud-entry-point", 405, "invalid method"),
        ("GET", "a/b/c/d", 404, "unknown resource"),
        ("GET", "job/", 404, "unknown resource"),
        ("GET", "nosuchtype", 405, "invalid method (get) for /api/nosuchtype"),
        ("POST", "job/x", 405, "invalid method (post) for /api/job/x"),
        ("PATCH", "job", 405, "invalid method (patch)"),
        ("POST", "job/x/nosuchaction", 404, 'undefined action (post, ["job" "nosuchaction"])'),
        ("GET", "job/x", 404, "job/x not found"),
        ("PUT", "job/x", 400, "must be a JSON object"),
        ("DELETE", "job/x", 404, "job/x not found"),
        ("DELETE", "session", 405, "invalid method"),
        ("PUT", "session/x", 405, "invalid method"),
        ("POST", "user-template", 405, "invalid method"),
        ("GET", "job/x/cancel", 405, "invalid method"),
    ],
)
def test_unknown_resources_are_not_found(
    api: Client, method: str, path: str, status: int, message: str
) -> None:
    refused(api(ADMIN, method, path), status, message)


def test_preflight(api: Client) -> None:
    assert api(ANON, "OPTIONS", "job/x").status_code == 204


def test_malformed_json_is_answered_in_plain_text(api: Client) -> None:
    for path in ("job", "engine/claim"):
        reply = api(ADMIN, "POST", path, content=b"{", headers={"content-type": "application/json"})
        assert reply.status_code == 400
        assert reply.text == "Malformed JSON in request body."
        assert reply.headers["content-type"].startswith("text/plain")


def test_gzip_bodies(api: Client) -> None:
    body = gzip.compress(json.dumps({"action": "packed"}).encode())
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    assert api(ADMIN, "POST", "job", content=body, headers=headers).status_code == 201
    refused(api(ADMIN, "POST", "job", content=b"no gzip", headers=headers), 400, "not gzip")


def test_bodies_have_a_limit_packed_or_not(api: Client) -> None:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    bomb = gzip.compress(b" " * 50_000_000)
    refused(api(ADMIN, "POST", "job", content=bomb, headers=headers), 413, "limit of 1000000 bytes")
    refused(api(ADMIN, "POST", "job", {"action": "x" * 1_000_000}), 413, "limit of 1000000")


def test_an_unexpected_error_is_a_500_with_a_message(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_args: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(api.services.store.jobs, "get", crash)
    monkeypatch.setattr(api.services.store.resources, "get", crash)
    for path in ("job/x", "user/x", "job/x/stream"):
        refused(api(ADMIN, "GET", path), 500, "Unexpected exception thrown: ZeroDivisionError")


def test_queries(api: Client) -> None:
    refused(api(ANON, "GET", "job"), 403, "credentials required")
    assert "resource-id" not in api(ANON, "GET", "job").json()
    found = api(JANE, "PUT", "job").json()
    assert (found["id"], found["resource-type"]) == ("job", "job-collection")
    assert found["acl"]["query"] == ["group/nuvla-user"]
    assert isinstance(found["count"], int)
    assert "operations" not in found
    assert operations(api(ADMIN, "PUT", "job").json()) == ["add", "bulk-delete"]


def test_pages_and_select(api: Client) -> None:
    for n in range(3):
        api.add_job(action="paged", name=str(n), acl=JJ_ACL)

    def search(who: str = ADMIN, **params: str) -> list[dict[str, object]]:
        data = {"filter": "action='paged'", "orderby": "name", **params}
        put = api(who, "PUT", "job", data=data)
        got = api(who, "GET", "job", params=data)
        assert put.json() == got.json()
        assert put.json()["count"] == 3
        return list(put.json()["resources"])

    def names(**params: str) -> str:
        return "".join(str(found["name"]) for found in search(**params))

    assert search(last="0") == []
    assert names(first="2", last="3") == "12"
    assert names(first="5", last="3") == ""
    assert names(first="abc", last="xyz") == "012"
    assert names(first="-7") == "012"
    assert names(last="-1") == ""
    assert names(orderby="name:desc") == "210"
    assert names(first="9991", last="10000") == ""
    refused(api(ADMIN, "GET", "job?last=10001"), 400, "less than or equal to 10'000")
    refused(api(ADMIN, "GET", "job?first=20000&last=5"), 400, "less than or equal to 10'000")
    assert [sorted(f) for f in search(select="id,state")] == [["id", "state"]] * 3
    assert [sorted(f) for f in search(select="target-resource/href,*")] == [["id"]] * 3
    assert all("operations" in f for f in search(select="id, operations"))
    assert all("operations" in f for f in search())
    repeated = api(ADMIN, "GET", "job?filter=action='paged'&select=id&select=state").json()
    assert sorted(repeated["resources"][0]) == ["id", "state"]
    (first, *_) = search(JANE)
    assert operations(first) == ["cancel"]


def test_filters_in_requests(api: Client) -> None:
    job = api.add_job(action="filtered")
    refused(api(ADMIN, "GET", "job?filter="), 400, "Invalid CIMI filter. ")
    refused(api(ADMIN, "PUT", "job", data={"filter": "a=b"}), 400, "Invalid CIMI filter. ")
    refused(api(ADMIN, "GET", f"{job}?filter=bad bad"), 400, "Invalid CIMI filter. ")
    both = api(ADMIN, "GET", f"job?filter=action='filtered'&filter=id='{job}'").json()
    assert both["count"] == 1
    # Only parameters count; a JSON body does not.
    assert api(ADMIN, "PUT", "job", {"filter": "action='none'"}).json()["count"] >= 1
    # The query string wins over the form.
    won = api(ADMIN, "PUT", "job?filter=action='none'", data={"filter": f"id='{job}'"}).json()
    assert won["count"] == 0


def test_aggregations(api: Client) -> None:
    api.add_job(action="summed", target_resource={"href": "deployment/x"}, acl=JJ_ACL)
    api.add_job(action="summed", target_resource={"href": "deployment/x"})
    asked = {"filter": "action='summed'", "last": "0"}
    asked["aggregation"] = "terms:target-resource/href,bogus:state,min:progress"
    found = api(ADMIN, "PUT", "job", data=asked).json()["aggregations"]
    assert found["terms:target-resource/href"]["buckets"][0]["doc_count"] == 2
    assert found["min:progress"] == {"value": 0.0}
    assert "bogus:state" not in found
    seen = api(JANE, "PUT", "job", data=asked).json()
    assert seen["count"] == 1
    assert seen["aggregations"]["terms:target-resource/href"]["buckets"][0]["doc_count"] == 1


def test_select_on_a_get(api: Client) -> None:
    job = api.add_job()
    assert sorted(api(ADMIN, "GET", f"{job}?select=state").json()) == ["id", "state"]


def test_openapi_and_health(api: Client) -> None:
    document = api.http.get("/openapi.json").json()
    paths = document["paths"]
    assert {"/api/job", "/api/job/{uuid}", "/api/engine/claim", "/api/blob"} <= paths.keys()
    assert {"ClaimRequest", "ClaimItem"} <= document["components"]["schemas"].keys()
    claim = paths["/api/engine/claim"]["post"]["requestBody"]["content"]["application/json"]
    assert claim["schema"] == {"$ref": "#/components/schemas/ClaimRequest"}
    named = set(re.findall(r'"#/components/schemas/([\w-]+)"', json.dumps(document)))
    assert named <= document["components"]["schemas"].keys()
    ids = [op["operationId"] for path in paths.values() for op in path.values()]
    assert len(ids) == len(set(ids))
    assert api.http.get("/api/health/live").json() == {"status": "live"}
    assert api.http.get("/api/health/ready").json() == {"status": "ready"}


def test_templates_are_for_everybody(api: Client) -> None:
    for collection, name in (
        ("session-template", "password"),
        ("session-template", "api-key"),
        ("credential-template", "generate-api-key"),
        ("user-template", "username-password"),
    ):
        assert api(ANON, "GET", f"{collection}/{name}").json()["instance"] == name
        assert api(ANON, "PUT", collection).json()["count"] >= 1
    refused(api(ANON, "GET", "session-template/nope"), 404, "session-template/nope not found")
