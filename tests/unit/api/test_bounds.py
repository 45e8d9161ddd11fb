"""Limits on what one caller may cost the others, or do with what belongs to them."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import uuid
from typing import Any

import httpx
import pytest

from job_engine.api.concurrency.limit import ConcurrencyLimit
from job_engine.api.errors import TooManySearchesError
from job_engine.api.http.body import STRANGERS_BYTES, BodyMiddleware, drain
from job_engine.api.services import COOKIE
from job_engine.model.protocol.actions import ActionDescription
from job_engine.settings import ApiSettings
from tests.unit.api.people import add_user, log_in_as
from tests.unit.api.support import (
    ADMIN,
    ANON,
    EXECUTOR,
    JANE,
    LMS,
    Client,
    refused,
    serving,
)

OCTETS = {"content-type": "application/octet-stream"}
LMS_SEES = {"owners": ["group/nuvla-admin"], "view-acl": ["user/lms"]}


def published(api: Client, who: str, name: str, **more: Any) -> httpx.Response:
    """Publish an action as an executor does."""
    action = {"name": name, "payload_schema": {}, "timeout_s": 1, **more}
    return api(who, "PUT", "engine/actions", {"actions": [action]})


# --- strangers ------------------------------------------------------------------------


def test_strangers_may_say_little(api: Client) -> None:
    body = {"template": {"href": "x", "username": "y" * STRANGERS_BYTES}}
    refused(api(ANON, "POST", "session", body), 413, str(STRANGERS_BYTES))
    reply = api(ANON, "POST", "session", content=iter([b" " * (STRANGERS_BYTES + 1)]))
    refused(reply, 413, str(STRANGERS_BYTES))
    job = {"action": "noop", "description": "y" * STRANGERS_BYTES}
    assert api(LMS, "POST", "job", job).status_code == 201


@pytest.mark.parametrize("size", [STRANGERS_BYTES, 900_000])
@pytest.mark.parametrize("whole", [True, False])
def test_whose_session_is_over_is_told_to_log_in(api: Client, size: int, whole: bool) -> None:
    """A client that logs in again by itself does so after a 403, and after nothing else."""
    body = json.dumps({"jobs": [{"action": "noop", "description": "y" * size}]}).encode()
    content = body if whole else iter([body[:100], body[100:]])
    headers = {"content-type": "application/json", "bulk": "yes", "cookie": f"{COOKIE}=gone"}
    reply = api.http.post("/api/job", content=content, headers=headers)
    refused(reply, 403, "credentials required")


@pytest.mark.parametrize("path", ["job", "blob"])
def test_a_client_that_expects_100_continue_is_refused_before_it_sends(
    api: Client, path: str
) -> None:
    head = f"POST /api/{path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", api.running.server.port), timeout=30) as raw:
        raw.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 403 ")


def test_filters_of_callers_without_the_right_to_search_are_not_parsed(api: Client) -> None:
    refused(api(ANON, "PUT", "job", data={"filter": "a=b"}), 403, "credentials required")
    refused(api(JANE, "PUT", "job", data={"filter": "a=b"}), 400, "Invalid CIMI filter")


def test_many_probes_ask_the_store_once(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api(ANON, "GET", "health/ready").status_code == 200
    monkeypatch.setattr("job_engine.api.readiness.PATIENCE_S", 0.1)
    monkeypatch.setattr(api.services.readiness, "_until_s", time.monotonic() + 60)
    go = threading.Event()
    hanging = api.services.store.database.submit(lambda _connection: go.wait(30))
    try:
        assert api(ANON, "GET", "health/ready").status_code == 200  # as of a moment ago
        monkeypatch.setattr(api.services.readiness, "_until_s", 0.0)
        assert api(ANON, "GET", "health/ready").status_code == 503
    finally:
        go.set()
    assert hanging.result(30)


def test_attributes_of_a_login_are_bounded(api: Client) -> None:
    user = add_user(api)
    name = api.services.store.resources.get(user)["username"]
    template = {"href": "session-template/password", "username": name, "password": "long enough"}
    for wrong in ({"description": "x" * 3000}, {"tags": ["x"] * 51}, {"tags": 5}, {"name": 1}):
        reply = api(ANON, "POST", "session", {"template": template, **wrong})
        refused(reply, 400, f"{next(iter(wrong))}")
    assert log_in_as(api, user)


@pytest.mark.parametrize("path", ["job/a%00b", "user/%00", "job?filter=name='%00'", "%00"])
def test_a_nul_in_a_url_is_refused(api: Client, path: str) -> None:
    refused(api(JANE, "GET", path), 400, "NUL")


def test_a_nul_in_a_form_is_refused(api: Client) -> None:
    refused(api(JANE, "PUT", "job", data={"filter": "name='\0'"}), 400, "NUL")


# --- one caller and the others ----------------------------------------------------------


def test_one_caller_has_a_part_of_the_turns() -> None:
    limit = ConcurrencyLimit(4, 8, TooManySearchesError, 2)
    entered: list[str] = []
    go = threading.Event()

    def search(who: str) -> None:
        with limit.admit(who):
            entered.append(who)
            assert go.wait(30)

    threads = [threading.Thread(target=search, args=("greedy",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline_s = time.monotonic() + 30
    while limit._here["greedy"] < 4:
        assert time.monotonic() < deadline_s
    with pytest.raises(TooManySearchesError), limit.admit("greedy"):
        pass
    with limit.admit("other"):  # there is room, though two of the greedy one's wait
        assert entered == ["greedy", "greedy"]
    go.set()
    for thread in threads:
        thread.join(30)
    assert entered == ["greedy"] * 4
    with limit.admit("greedy"):
        pass


def test_uploads_of_one_owner_have_a_quota(
    tmp_path_factory: pytest.TempPathFactory, settings: ApiSettings
) -> None:
    small = settings.model_copy(
        update={"data_dir": tmp_path_factory.mktemp("quota"), "blob_quota_bytes": 100}
    )
    with serving(small) as running, httpx.Client(base_url=running.url, timeout=30) as http:
        api = Client(http, running)

        def upload(who: str, content: bytes) -> httpx.Response:
            return api(who, "POST", "blob", content=content, headers=OCTETS)

        first = upload(JANE, b"a" * 60)
        assert first.status_code == 201
        refused(upload(JANE, b"b" * 60), 403, "may take 100: delete some")
        assert upload(JANE, b"a" * 60).status_code == 201  # is there already
        assert upload(LMS, b"b" * 60).status_code == 201
        assert api(JANE, "DELETE", first.json()["resource-id"]).status_code == 200
        assert upload(JANE, b"b" * 60).status_code == 201


def test_a_parent_that_is_stored_here_has_to_be_visible(api: Client) -> None:
    """Its turns would be used up by somebody who has nothing to do with it."""
    jane = add_user(api)
    refused(api(LMS, "POST", "job", {"action": "noop", "parent": jane}), 400, "parent: there is no")
    jobs = {"jobs": [{"action": "noop", "parent": "course/1"}, {"action": "noop", "parent": jane}]}
    reply = api(LMS, "POST", "job", jobs, headers={"bulk": "yes"})
    refused(reply, 400, "jobs/1/parent")
    assert api(LMS, "POST", "job", {"action": "noop", "parent": "course/1"}).status_code == 201
    assert api(ADMIN, "POST", "job", {"action": "noop", "parent": jane}).status_code == 201


def test_a_child_needs_a_bulk_job_that_its_creator_sees(api: Client) -> None:
    """Whoever follows a bulk job counts its children, and would wait for a stranger's."""
    hidden, shared = api.add_job(action="bulk_x"), api.add_job(action="bulk_x", acl=LMS_SEES)
    child = {"action": "noop", "parent-job": hidden}
    refused(api(LMS, "POST", "job", child), 400, f"parent-job: there is no {hidden} that you")
    refused(api(LMS, "POST", "job", {"jobs": [child]}, headers={"bulk": "1"}), 400, "jobs/0/parent")
    assert api(ADMIN, "POST", "job", child).status_code == 201
    for good in (shared, f"job/{uuid.uuid4()}"):  # one that was deleted says nothing
        assert api(LMS, "POST", "job", {**child, "parent-job": good}).status_code == 201

    theirs = api.add_job(parent_job=hidden, acl={**LMS_SEES, "manage": ["user/lms"]})
    assert api(ADMIN, "PUT", theirs, {"state": "FAILED"}).status_code == 200
    again = api(LMS, "POST", f"{theirs}/resubmit").json()["resource-id"]
    assert api.get(again)["parent-job"] == hidden


def test_each_upload_is_looked_up_once(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = api(LMS, "POST", "blob", content=b"mine", headers=OCTETS).json()["digest"]
    looked: list[str] = []
    get = api.services.store.blobs.get

    def counting(wanted: str, owners: Any) -> Any:
        looked.append(wanted)
        return get(wanted, owners)

    monkeypatch.setattr(api.services.store.blobs, "get", counting)
    payload = {"files": [{"blob": digest}] * 500}
    assert api(LMS, "POST", "job", {"action": "blobs", "payload": payload}).status_code == 201
    assert len(looked) == 1


# --- what executors publish ---------------------------------------------------------------


def test_only_an_administrator_opens_a_restricted_action(api: Client) -> None:
    assert published(api, EXECUTOR, "closed", restricted=True).status_code == 200
    assert published(api, EXECUTOR, "closed", restricted=False).status_code == 200
    refused(api(LMS, "POST", "job", {"action": "closed"}), 403, "only administrators")
    assert published(api, ADMIN, "closed", restricted=False).status_code == 200
    assert api(LMS, "POST", "job", {"action": "closed"}).status_code == 201


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(a|a)*$"},
        {"type": "string", "pattern": r"^(a+)+\1$"},  # not in linear time: left to the executor
        {
            "$ref": "#/$defs/d0",
            "$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
            | {"d40": {}},
        },
        {"$ref": "#"},
        {"patternProperties": {"^(a|a)*$": {}}, "additionalProperties": False},
    ],
    ids=["exponential", "back reference", "doubling", "endless", "names"],
)
def test_no_schema_holds_the_api_up(api: Client, schema: dict[str, Any]) -> None:
    assert published(api, EXECUTOR, "dear", payload_schema=schema).status_code == 200
    began = time.monotonic()
    for payload in (f'"{"a" * 60}!"', json.dumps({"a" * 60 + "!": 1})):
        job = {"action": "dear", "payload": payload}
        assert api(LMS, "POST", "job", job).status_code in (201, 400)
    assert time.monotonic() - began < 20  # where it would take years


def test_patterns_are_checked(api: Client) -> None:
    schema = {"properties": {"commit": {"type": "string", "pattern": "^[0-9a-f]{4}$"}}}
    published(api, EXECUTOR, "patterned", payload_schema=schema)
    job = {"action": "patterned", "payload": {"commit": "12af"}}
    assert api(LMS, "POST", "job", job).status_code == 201
    job["payload"] = {"commit": "12ag"}
    refused(api(LMS, "POST", "job", job), 400, "commit: '12ag' does not match")


def test_a_schema_that_is_not_worth_keeping_is_refused(api: Client) -> None:
    reply = published(api, EXECUTOR, "refused", payload_schema={"description": "x" * 100_000})
    refused(reply, 400, "refused/payload_schema")
    assert api.services.store.actions.get("refused") is None
    kept = ActionDescription(name="kept", payload_schema={}, timeout_s=1)
    api.services.store.actions.publish([kept])
    assert api.services.store.actions.get("kept") == kept


@pytest.mark.parametrize("path", ["/api/blob", "/api/job"])
def test_a_refused_body_that_has_arrived_is_not_waited_for(path: str) -> None:
    messages = [{"type": "http.request", "body": b"x" * 11, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> Any:
        assert messages, "in a server, this would wait for the client to leave"
        return messages.pop()

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    async def refuses(scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        await drain(scope, receive, 10)

    headers = [(b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "state": {}}
    asyncio.run(BodyMiddleware(refuses, 10)(scope, receive, send))
    assert statuses[:1] == ([] if path == "/api/blob" else [413])
