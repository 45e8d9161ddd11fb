"""What is sent again, and what is not: a request whose answer is lost may have been done."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from nuvla.api.api import NuvlaError

from job_engine.client import Api, RefusedError, UnansweredError
from job_engine.client.retries import is_repeatable
from job_engine.errors import ApiError, ApiUnavailableError
from job_engine.settings import ConnectionSettings
from tests.unit.client.scripted import Drop, Hang, Say, Scripted

JOB = "job/0a1b"
FOUND = Say(200, {"id": "job", "count": 0, "resources": []})
BUSY = Say(503, {"status": 503, "message": "busy"})


def client(server: Scripted, retry_s: float = 20.0, **more: Any) -> Api:
    """A client of a server."""
    return Api(server.url, retry_s=retry_s, **more)


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.get(JOB),
        lambda api: api.search("job", filter="state='QUEUED'"),
        lambda api: api.submit("noop"),
        lambda api: api.operate(JOB, "resubmit", key="mine"),
    ],
    ids=["get", "search", "submit", "keyed operation"],
)
@pytest.mark.parametrize("trouble", [Drop(), BUSY, Say(502, b"<html>")], ids=["lost", "503", "502"])
def test_safe_requests_are_retried(call: Callable[[Api], object], trouble: Say | Drop) -> None:
    answer = Say(201, {"id": JOB, "resource-id": JOB, "count": 0})
    with Scripted(trouble, trouble, answer) as server:
        call(client(server))
    first, *others = server.asked
    assert len(others) == 2
    assert {(other.method, other.path, other.body) for other in others} == {
        (first.method, first.path, first.body)
    }
    keys = {asked.headers.get("idempotency-key") for asked in server.asked}
    assert len(keys) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.edit(JOB, {"name": "n"}),
        lambda api: api.operate(JOB, "cancel"),
        lambda api: api.delete_bulk("job", "state='QUEUED'"),
        lambda api: api._cimi_post(resource_id="job", json={"action": "noop"}),
        lambda api: api.edit_patch(JOB, []),
        lambda api: api.operation_bulk("job", "state='QUEUED'", "cancel", {}),
    ],
    ids=["edit", "operation", "bulk delete", "create without a key", "patch", "bulk operation"],
)
def test_requests_that_may_have_been_carried_out_are_not_retried(
    call: Callable[[Api], object],
) -> None:
    with (
        Scripted(Drop(), Say()) as server,
        pytest.raises(UnansweredError, match="whether it did as asked is not known") as raised,
    ):
        call(client(server))
    assert len(server.asked) == 1
    assert isinstance(raised.value, requests.ConnectionError)  # as programs for the parent expect
    assert isinstance(raised.value, ApiUnavailableError)
    with Scripted(BUSY, Say()) as server, pytest.raises(RefusedError, match="busy"):
        call(client(server))
    assert len(server.asked) == 1


def test_a_429_is_retried_after_the_given_time() -> None:
    """429: nothing was done, so that anything may be sent again."""
    wait = Say(429, {"status": 429, "message": "slow down"}, {"Retry-After": "1"})
    with Scripted(wait, Say(200, {"id": JOB, "name": "n"})) as server:
        assert client(server).edit(JOB, {"name": "n"}).data["name"] == "n"
    assert len(server.asked) == 2
    with Scripted(wait) as server, pytest.raises(RefusedError, match="slow down") as raised:
        client(server, retry_s=0.1).get(JOB)
    assert raised.value.status == 429


def test_a_request_that_was_never_sent_is_reported_as_unanswered() -> None:
    with Scripted(Say()) as server:
        url = server.url
    with pytest.raises(
        UnansweredError, match=f"The API at {url} does not answer: Connection refused$"
    ):
        Api(url, retry_s=0.2).edit(JOB, {})


def test_a_delete_whose_answer_was_lost_was_a_delete() -> None:
    found, gone = Say(200, {"id": JOB}), Say(404, {"status": 404, "message": f"{JOB} not found"})
    with Scripted(found, Drop(), gone) as server:
        assert client(server).delete(JOB).data["resource-id"] == JOB
    with Scripted(found, gone) as server, pytest.raises(RefusedError) as raised:
        client(server).delete(JOB)
    assert raised.value.status == 404


def test_a_refusal_is_what_both_kinds_of_programs_expect() -> None:
    said = Say(400, {"status": 400, "message": "action: is required"}, {"X-Request-ID": "r-1"})
    with Scripted(said) as server, pytest.raises(RefusedError) as raised:
        client(server).submit("")
    error = raised.value
    assert len(server.asked) == 1
    assert isinstance(error, NuvlaError)
    assert isinstance(error, ApiError)
    assert (error.status, error.reason, error.message) == (400, *["action: is required"] * 2)
    assert error.response.status_code == 400
    assert error.request_id == "r-1"


def test_a_search_that_cannot_be_answered_is_not_asked_again() -> None:
    said = Say(500, {"status": 500, "message": "unexpected exception querying: x"})
    with Scripted(said) as server, pytest.raises(RefusedError, match="querying"):
        client(server).search("job")
    assert len(server.asked) == 1


def test_an_answer_that_is_not_the_apis_is_an_error() -> None:
    with (
        Scripted(Say(200, b"<html>")) as server,
        pytest.raises(UnansweredError, match="not the API"),
    ):
        client(server).get(JOB)
    with (
        Scripted(Say(200, b"<html>")) as server,
        pytest.raises(ApiUnavailableError, match="not the API"),
    ):
        client(server).actions()


def test_every_request_ends_in_time() -> None:
    with Scripted(Hang()) as server, pytest.raises(UnansweredError):
        client(server, retry_s=0, timeout_s=0.2).get(JOB)
    with Scripted(Hang()) as server, pytest.raises(requests.Timeout):
        client(server, timeout_s=0.2).login_password("a", "b")


def test_closing_ends_retries() -> None:
    arrived = threading.Event()
    with Scripted(BUSY) as server:
        api = client(server, retry_s=1000)
        raised: list[BaseException] = []

        def call() -> None:
            arrived.set()
            with pytest.raises((UnansweredError, RefusedError)) as caught:
                api.get(JOB)
            raised.append(caught.value)

        thread = threading.Thread(target=call)
        thread.start()
        assert arrived.wait(10)
        api.close()
        thread.join(10)
        assert not thread.is_alive()
    assert raised


@pytest.mark.parametrize(
    ("method", "uri", "headers", "repeatable"),
    [
        ("GET", JOB, {}, True),
        ("PUT", "job", {}, True),
        ("PUT", JOB, {}, False),
        ("POST", "job", {}, False),
        ("POST", "job", {"Idempotency-Key": "k"}, True),
        ("DELETE", JOB, {}, True),
        ("DELETE", "job", {}, False),
        ("PATCH", "job/x", {}, False),
    ],
)
def test_repeatable_requests(
    method: str, uri: str, headers: dict[str, str], repeatable: bool
) -> None:
    assert is_repeatable(method, uri, headers) is repeatable


def test_a_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(FOUND) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "inside.example")
        assert Api("http://api.example").search("job").count == 0
        with pytest.raises(UnansweredError):
            Api("http://inside.example", retry_s=0).search("job")
    assert [asked.path for asked in proxy.asked] == ["http://api.example/api/job"]


def test_the_environment_says_whom_to_believe_unless_anybody_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ours.pem")
    assert Api("https://api.example").session.verify == "/etc/ours.pem"
    assert Api("https://api.example", insecure=True).session.verify is False


def test_passwords_kept_for_other_programs_are_not_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Scripted(FOUND) as server:
        client(server).search("job")
    assert "authorization" not in {name.lower() for name in server.asked[0].headers}


def test_a_key_that_was_replaced_in_its_file_needs_no_restart(tmp_path: Path) -> None:
    file = tmp_path / "executor.json"
    file.write_text('{"key": "credential/old", "secret": "1"}')
    refused = Say(403, {"status": 403, "message": "no"})
    made = Say(201, {"status": 201, "resource-id": "session/1"})
    with Scripted(*[refused] * 6, made, FOUND) as server:
        settings = ConnectionSettings(api_url=server.url, credentials_file=file)
        api = Api.from_settings(settings)
        with pytest.raises(RefusedError):
            api.search("job")  # the file is as it was
        file.unlink()
        with pytest.raises(RefusedError):
            api.search("job")
        file.write_text('{"key": "credential/new", "secret": "2"}')
        api.search("job")
    logins = [json.loads(a.body)["template"]["key"] for a in server.asked if "session" in a.path]
    assert logins == ["credential/old"] * 3 + ["credential/new"]
