"""What HTTP itself asks of a server, and what browsers and curl make of it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from job_engine.settings import ApiSettings
from tests.unit.api.support import ADMIN, ANON, Client, refused, serving

LMS_PAGE = "https://lms.example.org"


def test_head_is_get_without_its_body(api: Client) -> None:
    job = api.add_job()
    blob = api(ADMIN, "POST", "blob", content=b"bytes").json()["resource-id"]
    for path in (
        job,
        "job?last=1",
        "cloud-entry-point",
        f"{job}/log",
        "session",
        f"{blob}/content",
    ):
        got, head = api(ADMIN, "GET", path), api(ADMIN, "HEAD", path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-length"] == got.headers["content-length"]
        assert head.headers.get("etag") == got.headers.get("etag")
    for path in ("health/live", "health/ready"):
        assert api(ANON, "HEAD", path).status_code == 200
    assert api(ANON, "HEAD", job).status_code == 403
    assert api(ADMIN, "HEAD", f"{job}/cancel").status_code == 405


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "job", "GET, HEAD, PUT, POST, DELETE"),
        ("POST", "job/x", "GET, HEAD, PUT, DELETE"),
        ("GET", "job/x/cancel", "POST"),
        ("POST", "event", "GET, HEAD, PUT"),
        ("DELETE", "session", "GET, HEAD, PUT, POST"),
        ("PUT", "session/x", "GET, HEAD, DELETE"),
        ("DELETE", "blob", "GET, HEAD, PUT, POST"),
        ("DELETE", "cloud-entry-point", "GET, HEAD, PUT"),
        ("POST", "engine/events", "GET"),
        ("GET", "engine/claim", "POST"),
        ("GET", "nosuchtype", ""),
    ],
)
def test_a_405_says_what_is_allowed(api: Client, method: str, path: str, allowed: str) -> None:
    reply = api(ADMIN, method, path)
    assert (reply.status_code, reply.headers["allow"]) == (405, allowed)


def test_options_say_what_is_allowed(api: Client) -> None:
    assert api(ANON, "OPTIONS", "job").headers["allow"] == "GET, HEAD, PUT, POST, DELETE, OPTIONS"
    for path, allowed in (
        ("event/x", "GET, HEAD"),
        ("cloud-entry-point", "GET, HEAD, PUT"),
        ("blob", "GET, HEAD, PUT, POST"),
        ("job/x/cancel", "POST"),
        ("job/x/log", "GET, HEAD, POST"),
        ("blob/x/content", "GET, HEAD"),
        ("engine/events", "GET"),
        ("nosuchtype/x", "GET, PUT, POST, DELETE, PATCH"),
    ):
        assert api(ANON, "OPTIONS", path).headers["allow"] == f"{allowed}, OPTIONS", path


@pytest.mark.parametrize(
    "media_type",
    ["Application/JSON", "application/json; charset=utf-8", "application/vnd.x+JSON", ""],
)
def test_media_types_in_any_spelling(api: Client, media_type: str) -> None:
    headers = {"content-type": media_type}
    body = b'\xef\xbb\xbf{"action": "noop"}'  # with the mark that some editors write
    assert api(ADMIN, "POST", "job", content=body, headers=headers).status_code == 201


@pytest.mark.parametrize("media_type", ["application/x-www-form-urlencoded", "text/plain"])
def test_json_that_came_as_something_else_is_told_what_it_is(api: Client, media_type: str) -> None:
    """What `curl --data` sends without a header."""
    headers = {"content-type": media_type}
    reply = api(ADMIN, "POST", "job", content=b'{"action": "noop"}', headers=headers)
    refused(reply, 400, f"came as {media_type}: send it with 'Content-Type: application/json'")


def test_proxies_in_a_row_say_the_first_one_first(api: Client) -> None:
    forwarded = {"x-forwarded-proto": "https, http", "x-forwarded-host": "jobs.example.org, inner"}
    found = api(ANON, "GET", "cloud-entry-point", headers=forwarded).json()
    assert found["base-uri"] == "https://jobs.example.org/api/"


def test_the_entry_point_has_a_name(api: Client) -> None:
    found = api.get("cloud-entry-point")
    assert refused(api(ANON, "PUT", "cloud-entry-point", {"name": "x"}), 403, "invalid credentials")
    body = {**found, "name": "Grading", "base-uri": "https://elsewhere/"}
    edited = api(ADMIN, "PUT", "cloud-entry-point", body).json()
    assert edited["name"] == "Grading"
    assert edited["base-uri"] == found["base-uri"]
    assert api(ADMIN, "PUT", "cloud-entry-point", {"description": "d"}).json()["name"] == "Grading"
    assert api(ANON, "GET", "cloud-entry-point").json()["description"] == "d"
    refused(api(ADMIN, "PUT", "cloud-entry-point", {"name": ""}), 400, "name: ")
    assert "name" not in api(ADMIN, "PUT", "cloud-entry-point?select=name", {}).json()


def test_templates_are_searched_as_everything_else(api: Client) -> None:
    def found(**params: str) -> list[str]:
        reply = api(ANON, "PUT", "session-template", data=params)
        assert reply.status_code == 200, reply.text
        return [template["id"].partition("/")[2] for template in reply.json()["resources"]]

    assert found(orderby="name:desc") == ["password", "api-key"]
    assert found(filter="method='api-key'") == ["api-key"]
    assert found(filter="description=='password'") == ["password"]
    assert found(orderby="id", first="2", last="2") == ["password"]
    assert found(last="-1") == []
    asked = {"aggregation": "terms:method", "last": "0"}
    counted = api(ANON, "PUT", "session-template", data=asked).json()
    assert counted["count"] == 2
    assert len(counted["aggregations"]["terms:method"]["buckets"]) == 2
    refused(api(ANON, "GET", "session-template?last=10001"), 400, "less than or equal to 10'000")
    seen = api(ADMIN, "GET", "session-template?first=1&last=1").json()
    assert "operations" not in seen["resources"][0]


def test_every_unknown_attribute_of_a_template_is_named(api: Client) -> None:
    reply = api(ADMIN, "POST", "credential", {"nmae": "x", "template": {"tll": 1, "role": []}})
    named = {error["attribute"] for error in reply.json()["errors"]}
    assert named == {"nmae", "template/href", "template/role", "template/tll"}


def test_an_order_by_nothing_is_none(api: Client) -> None:
    assert api(ADMIN, "GET", "job?orderby=:desc,,created").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/"), ("POST", "//api/job"), ("GET", "//api/job"), ("PUT", "/x")]
)
def test_nobody_is_led_to_the_entry_point_by_mistake(api: Client, method: str, path: str) -> None:
    """A URL of one slash too many: a client that follows would take what it reads for a job."""
    reply = api.http.request(method, f"{api.running.url}{path}")
    refused(reply, 404, "unknown resource: the API is under /api/")


def test_gzip_that_is_refused_is_not_sent(api: Client) -> None:
    for accepted, packed in (
        ("gzip;q=0", None),
        ("br, gzip; q=0.0, identity", None),
        ("gzip;q=0.5", "gzip"),
    ):
        reply = api.http.get("/openapi.json", headers={"accept-encoding": accepted})
        assert reply.headers.get("content-encoding") == packed


# --- who offers another protocol ---------------------------------------------------

OFFER = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
)
BODY = b'{"action": "offered"}'
AGAIN = b"GET /api/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"Content-Length: 21\r\n", BODY),
        (b"Transfer-Encoding: chunked\r\n", b"15\r\n" + BODY + b"\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_an_offer_of_another_protocol_is_answered_in_http_1_1(
    api: Client, framing: bytes, body: bytes, pieces: int
) -> None:
    """As Java's HttpClient does, and `curl --http2`: the body is not lost, nor a request."""
    head = b"POST /api/job HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    who = f"nuvla-authn-info: {ADMIN}\r\n".encode()
    post = head + who + OFFER + framing + b"\r\n" + body
    get = b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n" + OFFER + b"\r\n"
    sent = post + get + post + AGAIN
    size = -(-len(sent) // pieces)
    with socket.create_connection(("127.0.0.1", api.running.server.port), timeout=30) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(sent), size):
            raw.sendall(sent[start : start + size])
        answers = b"".join(iter(lambda: raw.recv(65_536), b""))
    statuses = re.findall(rb"HTTP/1\.1 ([0-9]+)", answers)
    assert statuses == [b"201", b"200", b"201", b"200"], answers


# --- pages of other origins --------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An API that a page of one other origin may use."""
    directory: Path = tmp_path_factory.mktemp("cors")
    settings = ApiSettings(data_dir=directory, port=0, cors_origins=[LMS_PAGE])
    with serving(settings) as running, httpx.Client(base_url=running.url) as http:
        yield http


def test_pages_of_an_origin_that_is_named_may_read(shared: httpx.Client) -> None:
    origin = {"origin": LMS_PAGE}
    asked = {
        **origin,
        "access-control-request-method": "PUT",
        "access-control-request-headers": "content-type,if-match",
    }
    preflight = shared.options("/api/job/x", headers=asked)
    assert preflight.status_code == 200
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    refusal = shared.get("/api/job", headers=origin)
    assert refusal.status_code == 403
    assert refusal.headers["access-control-allow-origin"] == LMS_PAGE
    assert refusal.headers["access-control-allow-credentials"] == "true"
    assert "ETag" in refusal.headers["access-control-expose-headers"]


def test_nobody_elses_may(shared: httpx.Client, api: Client) -> None:
    for reply in (
        shared.get("/api/job", headers={"origin": "https://evil.example"}),
        api(ANON, "GET", "job", headers={"origin": LMS_PAGE}),
    ):
        assert "access-control-allow-origin" not in reply.headers
    for everybody in ("*", "https://*", "null", "https://lms.example.org/"):
        with pytest.raises(ValidationError):
            ApiSettings(cors_origins=[everybody])


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_url_that_is_too_long_says_what_to_do(api: Client, pieces: int) -> None:
    """A head is counted while it arrives, or once it is complete."""
    address = (api.http.base_url.host, api.http.base_url.port)
    head = b"GET /api/job?filter=" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    size = len(head) // pieces + 1
    with socket.create_connection(address, timeout=10) as connection:
        for start in range(0, len(head), size):
            connection.sendall(head[start : start + size])
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 414 ")
    assert b"send a search by PUT" in answer
