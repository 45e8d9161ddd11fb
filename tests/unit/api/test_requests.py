"""What every request passes: an id, a limit on how many, packed answers, and probes."""

from __future__ import annotations

import gzip
import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from job_engine.api.http.rates import Buckets, RateLimits, make_limits
from job_engine.api.identity import ANONYMOUS, from_header
from job_engine.log import JsonFormatter
from job_engine.settings import ApiSettings
from tests.unit.api.support import (
    ADMIN,
    ANON,
    DISTRIBUTOR,
    EXECUTOR,
    JANE,
    JOE,
    LMS,
    Client,
    refused,
    serving,
)

# --- request ids ---------------------------------------------------------------


@contextmanager
def lines(level: int = logging.DEBUG) -> Iterator[list[dict[str, Any]]]:
    """What the engine logs meanwhile, as it is written to a file."""
    sink = io.StringIO()
    handler = logging.StreamHandler(sink)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("job_engine")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    found: list[dict[str, Any]] = []
    try:
        yield found
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        found += [json.loads(line) for line in sink.getvalue().splitlines()]


def test_a_sane_request_id_is_kept(api: Client) -> None:
    reply = api(JANE, "GET", "job", headers={"X-Request-ID": "lms-7:abc/1"})
    assert reply.headers["x-request-id"] == "lms-7:abc/1"


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "é", 'a"b', "a;b", "\x7f"])
def test_any_other_is_replaced(api: Client, given: str) -> None:
    reply = api(JANE, "GET", "job", headers={"X-Request-ID": given.encode()})
    assert reply.headers["x-request-id"] not in ("", given)
    again = api(JANE, "GET", "job", headers={"X-Request-ID": given.encode()})
    assert again.headers["x-request-id"] != reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "health/live", {}, 200),
        ("OPTIONS", "job", {}, 204),
        ("GET", "nothing/of/this/kind", {}, 404),
        ("GET", "nosuchtype", {}, 405),
        ("TRACE", "job", {}, 405),
        ("GET", "job/none", {}, 404),
        ("GET", "job?filter=bad bad", {}, 400),
        ("POST", "job", {"content": "{", "headers": {"content-type": "application/json"}}, 400),
        ("POST", "job", {"content": b"x" * 1_000_001}, 413),
        ("POST", "job", {"content": b"x", "headers": {"content-encoding": "br"}}, 415),
        ("GET", "", {}, 302),
    ],
)
def test_every_answer_has_one(
    api: Client, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    reply = api(LMS, method, path, **more)
    assert (reply.status_code, len(reply.headers["x-request-id"])) == (status, 32)


def test_a_crash_is_answered_and_logged_with_the_request_id(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_args: object) -> None:
        raise RuntimeError("the password of somebody")

    monkeypatch.setattr("job_engine.api.types.job.run_query", crash)
    with lines() as logged:
        reply = api(JANE, "GET", "job", headers={"X-Request-ID": "seen-by-jane"})
    refused(reply, 500, "RuntimeError")
    assert "somebody" not in reply.text
    assert reply.headers["x-request-id"] == "seen-by-jane"
    mine = [line for line in logged if line.get("request_id") == "seen-by-jane"]
    assert [line["event"] for line in mine] == ["request.crashed", "request.answered"]
    assert "somebody" in mine[0]["exception"]
    assert mine[1]["status"] == 500


def test_threads_that_work_for_a_request_log_under_its_id(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(*_args: object) -> None:
        logging.getLogger("job_engine.test").warning("told", extra={"fields": {"a": 1}})
        raise KeyError

    monkeypatch.setattr("job_engine.api.types.job.run_query", tell)
    with lines(logging.WARNING) as logged:
        for number in range(3):
            api(JANE, "GET", "job", headers={"X-Request-ID": f"number-{number}"})
    told = [line for line in logged if line["event"] == "told"]
    assert [(line["request_id"], line["a"]) for line in told] == [
        (f"number-{number}", 1) for number in range(3)
    ]


# --- gzip ------------------------------------------------------------------------


def test_large_responses_are_compressed_if_the_client_accepts_it(api: Client) -> None:
    job = api.add_job(LMS, description="x" * 5000)
    raw: dict[str, httpx.Response] = {}
    for accepted in ("gzip", "identity"):
        request = api.http.build_request(
            "GET", f"/api/{job}", headers={"nuvla-authn-info": LMS, "accept-encoding": accepted}
        )
        raw[accepted] = api.http.send(request, stream=True)
        packed = b"".join(raw[accepted].iter_raw())
        text = gzip.decompress(packed) if accepted == "gzip" else packed
        assert json.loads(text)["description"] == "x" * 5000
        assert "Accept-Encoding" in raw[accepted].headers["vary"]
    assert raw["gzip"].headers["content-encoding"] == "gzip"
    assert int(raw["gzip"].headers["content-length"]) < 1000
    assert "content-encoding" not in raw["identity"].headers


def test_small_answers_streams_and_uploads_are_not(api: Client) -> None:
    packing = {"accept-encoding": "gzip"}
    assert "content-encoding" not in api(ANON, "GET", "health/live", headers=packing).headers
    content = b"a" * 10_000
    blob = api(LMS, "POST", "blob", content=content).json()["resource-id"]
    reply = api(LMS, "GET", f"{blob}/content", headers=packing)
    assert "content-encoding" not in reply.headers
    assert reply.headers["content-length"] == "10000"
    headers = {"nuvla-authn-info": EXECUTOR, **packing}
    with api.http.stream("GET", "/api/engine/events", headers=headers) as stream:
        assert "content-encoding" not in stream.headers
        assert next(stream.iter_lines()) == ": connected"


def packed(api: Client, content: bytes) -> httpx.Response:
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    return api(LMS, "POST", "job", content=content, headers=headers)


def test_bodies_may_be_packed(api: Client) -> None:
    assert packed(api, gzip.compress(b'{"action": "noop"}')).status_code == 201


def test_a_body_that_is_cut_off_looks_whole_and_is_refused(api: Client) -> None:
    whole = gzip.compress(b'{"action": "noop"}')
    refused(packed(api, whole[:-8]), 400, "ends before its gzip does")


def test_a_bomb_is_not_unpacked(api: Client) -> None:
    bomb = gzip.compress(b'{"action": "noop", "description": "' + b"x" * 100_000_000)
    assert len(bomb) < 200_000
    refused(packed(api, bomb), 413, "limit of 1000000 bytes")


# --- rate limits -------------------------------------------------------------------


def test_a_bucket_is_emptied_and_fills_up_again() -> None:
    now_s = 0.0
    buckets = Buckets(per_s=2, burst=3, monotonic_s=lambda: now_s)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a") == pytest.approx(0.5)
    assert buckets.take("b") == 0
    now_s = 0.5
    assert [buckets.take("a") > 0 for _ in range(2)] == [False, True]
    now_s = 100.0
    assert [buckets.take("a") > 0 for _ in range(4)] == [False, False, False, True]


def test_callers_are_forgotten_before_they_are_too_many() -> None:
    buckets = Buckets(per_s=1, burst=1, monotonic_s=lambda: 0.0)
    for number in range(10_001):
        assert buckets.take(str(number)) == 0
    assert buckets.take("10000") > 0
    assert buckets.take("0") == 0


def test_an_ipv6_customer_has_one_bucket() -> None:
    limits = RateLimits(None, Buckets(per_s=1, burst=1, monotonic_s=lambda: 0.0))
    assert limits.take(ANONYMOUS, "2001:db8:1:2::1") == 0
    assert limits.take(ANONYMOUS, "2001:db8:1:2:ffff::2") > 0
    assert limits.take(ANONYMOUS, "2001:db8:1:3::1") == 0
    assert limits.take(ANONYMOUS, "::ffff:192.0.2.1") == 0
    assert limits.take(ANONYMOUS, "192.0.2.1") > 0


def test_a_rate_of_zero_is_no_limit() -> None:
    limits = make_limits(0, 1, 0, 1)
    assert {limits.take(who, "a") for who in (ANONYMOUS, from_header(JANE)) for _ in range(9)} == {
        0
    }


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Client]:
    """An API that refuses the third request of anybody."""
    settings = ApiSettings(
        data_dir=tmp_path,
        port=0,
        trusted_peers=["127.0.0.1"],
        rate_per_s=0.01,
        rate_burst=2,
        anonymous_rate_per_s=0.05,
        anonymous_rate_burst=2,
    )
    with serving(settings) as running, httpx.Client(base_url=running.url, timeout=30) as http:
        yield Client(http, running)


def test_a_429_has_the_time_of_the_next_request(limited: Client) -> None:
    for who, within in ((JANE, 100), (ANON, 20)):
        statuses = [limited(who, "GET", "session-template").status_code for _ in range(2)]
        assert statuses == [200, 200]
        reply = limited(who, "POST", "job", {"action": "noop"})
        refused(reply, 429, "too many requests; try again in")
        assert within - 10 <= int(reply.headers["retry-after"]) <= within
        assert "x-request-id" in reply.headers
    assert limited(JOE, "GET", "job").status_code == 200


def test_strangers_behind_a_proxy_are_told_apart(limited: Client) -> None:
    def come(address: str) -> int:
        headers = {"x-forwarded-for": f"192.0.2.99, {address}"}
        return limited(ANON, "GET", "session-template", headers=headers).status_code

    assert [come("192.0.2.1") for _ in range(3)] == [200, 200, 429]
    assert come("192.0.2.2") == 200
    # A proxy that adds a line of its own: the first one may be the client's.
    lines = [("x-forwarded-for", "192.0.2.77"), ("x-forwarded-for", "192.0.2.1")]
    reply = limited.http.get("/api/session-template", headers=httpx.Headers(lines))
    assert reply.status_code == 429


@pytest.mark.parametrize("who", [ADMIN, EXECUTOR, DISTRIBUTOR])
def test_requests_of_the_engines_services_have_no_limit(limited: Client, who: str) -> None:
    assert {limited(who, "GET", "session-template").status_code for _ in range(9)} == {200}


def test_probes_are_not_counted(limited: Client) -> None:
    assert {limited(ANON, "GET", "health/live").status_code for _ in range(9)} == {200}


# --- health -------------------------------------------------------------------------


def test_probes_need_no_login(api: Client) -> None:
    for probe in ("live", "ready"):
        reply = api(ANON, "GET", f"health/{probe}")
        assert (reply.status_code, reply.json()) == (200, {"status": probe})


def test_a_store_that_does_not_write_is_not_ready(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It still reads, and the process lives: only the writer hangs."""
    monkeypatch.setattr("job_engine.api.readiness.PATIENCE_S", 0.2)
    monkeypatch.setattr(api.services.readiness, "_until_s", 0.0)  # nobody has just asked
    go = threading.Event()
    hanging = api.services.store.database.submit(lambda _connection: go.wait(30))
    try:
        reply = api(ANON, "GET", "health/ready")
        assert api(ANON, "GET", "health/live").status_code == 200
    finally:
        go.set()
    assert hanging.result(30)
    refused(reply, 503, "not ready: store-writer")
    assert reply.json()["not-ready"] == ["store-writer"]
    assert "retry-after" in reply.headers
    assert api(ANON, "GET", "health/ready").status_code == 200


def test_a_store_that_cannot_write_is_not_ready(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk, where a transaction in which nothing is written still succeeds."""

    def rename(table: str, to: str) -> None:
        database = api.services.store.database
        database.write(lambda made: made.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {to}"))
        monkeypatch.setattr(api.services.readiness, "_until_s", 0.0)

    rename("counters", "gone")
    try:
        refused(api(ANON, "GET", "health/ready"), 503, "not ready: store-writer")
    finally:
        rename("gone", "counters")
    assert api(ANON, "GET", "health/ready").status_code == 200


# --- errors -------------------------------------------------------------------------


def problems(reply: httpx.Response) -> dict[str, str]:
    assert reply.status_code == 400, reply.text
    return {error["attribute"]: error["message"] for error in reply.json()["errors"]}


def test_every_attribute_that_will_not_do_is_named(api: Client) -> None:
    body = {"priority": "high", "tags": ["a", "a"], "nmae": "x", "version": 2.5}
    found = problems(api(LMS, "POST", "job", {**body, "execution-mode": "pull"}))
    assert found.keys() == {"action", "priority", "tags", "nmae", "version"}
    assert found["action"] == "is required"
    assert found["nmae"] == "unknown attribute"
    assert "integer" in found["priority"]


def test_errors_of_patterns_are_in_words(api: Client) -> None:
    body = {"action": " ", "parent": "Course 1", "parent-job": "user/1", "execution-mode": "pull"}
    found = problems(api(LMS, "POST", "job", body))
    assert found["action"] == "must not be empty or blank"
    assert "as course/1" in found["parent"]
    assert found["parent-job"].startswith("must be the id of a job")


def test_so_is_every_one_of_a_payload(api: Client) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "array", "items": {"minimum": 3}}},
        "required": ["c"],
    }
    action = {"name": "picky", "payload_schema": schema, "timeout_s": 1}
    api(EXECUTOR, "PUT", "engine/actions", {"actions": [action]})
    body = {"action": "picky", "payload": {"a": "x", "b": [5, 1]}}
    assert problems(api(LMS, "POST", "job", body)).keys() == {"payload", "payload/a", "payload/b/1"}


def test_so_is_every_job_of_many(api: Client) -> None:
    jobs = [{"action": "noop"}, {"action": 5, "priority": -1}, "noop", {}]
    found = problems(api(LMS, "POST", "job", {"jobs": jobs}, headers={"bulk": "yes"}))
    assert found.keys() == {"jobs/1/action", "jobs/1/priority", "jobs/2", "jobs/3/action"}


def test_so_is_every_one_of_a_message(api: Client) -> None:
    body = {"older_than_s": 5, "more": 1}
    assert problems(api(EXECUTOR, "POST", "engine/cleanup", body)).keys() == {
        "older_than_s",
        "more",
    }
