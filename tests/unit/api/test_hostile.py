"""Requests of people who mean harm, or whose program is broken: answered, and kept out."""

from __future__ import annotations

import gzip
import json
import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import Any

import httpx
import pytest

from job_engine.api.services import SEARCHES_AT_ONCE, SEARCHES_WAITING
from job_engine.store.search.query import run
from tests.unit.api.support import (
    ADMIN,
    ANON,
    DISTRIBUTOR,
    EXECUTOR,
    JANE,
    LMS,
    TEACHER,
    Client,
    refused,
)

MALFORMED = "Malformed JSON in request body."


def send(api: Client, who: str, path: str, text: str, method: str = "POST") -> Any:
    """Send JSON that no encoder of ours would write."""
    return api(who, method, path, content=text, headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    "value",
    [
        '"\\ud800"',
        '{"\\uDC00": 1}',
        '"\\u0000"',
        '{"\\u0000": 1}',
        "1e400",
        "-1e400",
        "NaN",
        "9223372036854775808",
        "[" * 101,
    ],
)
def test_values_that_cannot_be_stored_are_malformed(api: Client, value: str) -> None:
    """One of them in a document, and every search through it would fail."""
    value += "]" * value.count("[")
    job = f'{{"action": "noop", "target-resource": {{"href": "a/b", "x": {value}}}}}'
    reply = send(api, LMS, "job", job)
    assert reply.status_code == 400
    assert reply.text.startswith(f"{MALFORMED} "), "it says which value will not do"
    assert send(api, EXECUTOR, "engine/actions", job, "PUT").status_code == 400
    assert send(api, EXECUTOR, "engine/claim", f'{{"claims": {value}}}').status_code == 400
    assert api(LMS, "GET", "job", params={"filter": "target-resource/x='1'"}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"action": "noop", "name": "\xed\xa0\x80"}',
        '{"action": "noop", "name": "\\u0000"}'.encode("utf-16"),
        '{"action": "noop", "name": "\xe9"}'.encode("latin-1"),
    ],
)
def test_bodies_in_other_encodings_are_malformed(api: Client, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    reply = api(LMS, "POST", "job", content=body, headers=headers)
    assert (reply.status_code, reply.text) == (400, f"{MALFORMED} It is not in UTF-8.")


@pytest.mark.parametrize("field", ["username", "password"])
def test_names_that_are_no_text_do_not_log_in(api: Client, field: str) -> None:
    template = {"href": "session-template/password", "username": "a", "password": "b"}
    text = json.dumps({"template": {**template, field: "\ud800"}})
    assert send(api, ANON, "session", text).text.startswith(MALFORMED)


def test_values_within_the_limits_are_stored_unchanged(api: Client) -> None:
    value = {"deep": [[[1.5, -(2**63), 2**63 - 1, "\U0001f600", "\\u0000"]]]}
    job = api.add_job(LMS, target_resource={"href": "a/b", "x": value})
    assert api.get(job)["target-resource"]["x"] == value


@pytest.mark.parametrize(
    "expiry", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999-23:59", "0000-01-01T00:00:00Z"]
)
def test_times_outside_the_calendar_are_refused(api: Client, expiry: str) -> None:
    refused(api(LMS, "POST", "job", {"action": "noop", "expiry": expiry}), 400, "expiry")


def test_the_first_year_of_the_calendar(api: Client) -> None:
    job = api.add_job(expiry="0001-01-01T00:00:00Z")
    assert api.get(job)["expiry"] == "0001-01-01T00:00:00.000Z"


@pytest.mark.parametrize("principals", [[{}], [1], ["user/a", 1], [[]]])
def test_lists_of_no_principals_are_refused(api: Client, principals: list[Any]) -> None:
    acl = {"manage": principals, "view-acl": principals}
    refused(api(LMS, "POST", "job", {"action": "noop", "acl": acl}), 400, "acl: ")
    body = {"name": "x", "digest": "sha256:" + "0" * 64, "acl": {"owners": ["user/t"], **acl}}
    refused(api(TEACHER, "POST", "assignment", body), 400, "acl: ")


def deep_filter() -> str:
    """A filter with few comparisons that is too deep for the database."""
    text = "a<1"
    for level in range(8):
        joint = " and " if level % 2 else " or "
        text = f"({joint.join([text, *(f'b<{n}' for n in range(199))])})"
    return text


@pytest.mark.parametrize(
    "parameters",
    [
        {"filter": deep_filter()},
        {"filter": "/".join(["a"] * 100) + "=1"},
        {"filter": ["name=[" + " ".join(["'a'"] * 3000) + "]"] * 2},
        {"filter": "name='" + "x" * 500_001 + "'"},
        {"filter": " or ".join(f"a{n}/b/c>{n}" for n in range(1000))},
        {"filter": "name=='" + "x " * 101 + "'"},
        {"aggregation": "terms:" + "/".join(["a"] * 100)},
        {"aggregation": ",".join(f"max:a{n}" for n in range(51))},
        {"orderby": ",".join(f"a{n}" for n in range(51))},
    ],
)
def test_queries_that_are_too_much_are_refused(api: Client, parameters: dict[str, Any]) -> None:
    reply = api(JANE, "PUT", "job", data={**parameters, "last": "0"})
    assert reply.status_code == 400, reply.text


def test_searches_of_users_leave_room_for_everything_else(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds all of the store's readers holds up claims and events too."""
    job = api.add_job()
    began, go = threading.Semaphore(0), threading.Event()

    def slow(*args: Any) -> Any:
        began.release()
        assert go.wait(30)
        return run(*args)

    def search(n: int) -> int:
        # None of them so often that it is refused for that.
        who = JANE.replace("jane", f"jane-{n % 12}")
        return httpx.get(
            f"{api.running.url}/api/job", headers={"nuvla-authn-info": who}, timeout=60
        ).status_code

    together = SEARCHES_AT_ONCE + SEARCHES_WAITING + 2
    with ThreadPoolExecutor(together) as threads, monkeypatch.context() as patch:
        patch.setattr("job_engine.api.collections.run", slow)
        answers = [threads.submit(search, n) for n in range(together)]
        try:
            for _ in range(SEARCHES_AT_ONCE):
                assert began.acquire(timeout=30)
            refused_at_once = [next(as_completed(answers, timeout=30)).result()]
            assert api.get(job)["id"] == job
            assert not began.acquire(blocking=False)
        finally:
            go.set()
    assert refused_at_once == [503]
    assert sorted(answer.result() for answer in answers)[: together - 2] == [200] * (together - 2)


def test_dates_far_away_can_be_searched_for(api: Client) -> None:
    for number in ("99999999999999999999", "9223372036854775807"):
        assert api.count(JANE, f"expiry>{number}", "credential") == 0
        assert api.count(JANE, f"created>{number}") == 0


def test_a_body_that_goes_on_after_its_gzip_is_refused(api: Client) -> None:
    """zlib would keep all of it."""
    host, port = api.running.url.removeprefix("http://").split(":")
    head = (
        "POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    packed, more = gzip.compress(b"{}"), b"\0" * 1000
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        for chunk in (packed, more):  # and no end of the body
            connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")


def test_a_body_that_trickles_in_is_given_up(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job_engine.api.http.body.BODY_S", 0.1)
    host, port = api.running.url.removeprefix("http://").split(":")
    head = "POST /api/session HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    ("who", "path", "body", "status"),
    [
        (EXECUTOR, "engine/cleanup", {"older_than_s": 1e300}, 200),
        (DISTRIBUTOR, "engine/orphans", {"live_actions": [], "grace_s": 1e300}, 200),
        (
            EXECUTOR,
            "engine/report",
            {
                "executor": "e",
                "reports": [
                    {"job": "job/x", "fence": [1, 1], "kind": "retry", "retry_after_s": 1e300}
                ],
            },
            200,
        ),
    ],
)
def test_numbers_without_room_in_a_column(
    api: Client, who: str, path: str, body: dict[str, Any], status: int
) -> None:
    assert api(who, "POST", path, body).status_code == status


@pytest.mark.parametrize("reference", ["#/nowhere", "http://127.0.0.1:9/schema"])
def test_a_broken_schema_of_an_executor_refuses_no_job(api: Client, reference: str) -> None:
    """Nor is what it refers to fetched from anywhere."""
    action = {"name": "broken", "payload_schema": {"$ref": reference}, "timeout_s": 1}
    assert api(EXECUTOR, "PUT", "engine/actions", {"actions": [action]}).status_code == 200
    assert api(LMS, "POST", "job", {"action": "broken"}).status_code == 201


def test_a_payload_that_is_nested_too_deep_is_refused(api: Client) -> None:
    action = {"name": "deep", "payload_schema": {"type": "object"}, "timeout_s": 1}
    api(EXECUTOR, "PUT", "engine/actions", {"actions": [action]})
    body = {"action": "deep", "payload": "[" * 100_000}
    refused(api(LMS, "POST", "job", body), 400, "must be a JSON text")


def test_every_refusal_has_a_message(api: Client) -> None:
    refused(api(ADMIN, "TRACE", "job"), 405, "Method Not Allowed")


def test_the_creator_of_a_job_cannot_set_its_outcome(api: Client) -> None:
    outcome = {"output": "100 points", "return-code": 0, "started": "2024-01-01T00:00:00Z"}
    for who, kept in ((LMS, set()), (ADMIN, outcome.keys())):
        reply = api(who, "POST", "job", {"action": "noop", "duration": 1, **outcome})
        job = api.get(reply.json()["resource-id"])
        assert job.keys() & outcome.keys() == kept
        assert ("duration" in job) is bool(kept)


def test_a_form_with_a_boundary_that_is_none(api: Client) -> None:
    headers = {"content-type": f"multipart/form-data; boundary={'x' * 5000}"}
    refused(api(LMS, "POST", "blob", content=b"x", headers=headers), 400, "malformed")


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 8000 + b"\r\n", b"a" * 8000])
def test_headers_have_an_end(api: Client, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", api.running.server.port), timeout=10) as connection:
        connection.sendall(b"GET /api/health/ready HTTP/1.1\r\nHost: here\r\nX-B: ")
        sent = 0
        with suppress(ConnectionError):
            # What is sent beyond the limit lies in buffers until the server has had its turn.
            while sent < 100 and not select.select([connection], [], [], 0.1 * (sent > 10))[0]:
                connection.sendall(line)
                sent += 1
        assert sent < 100
