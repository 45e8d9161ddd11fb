"""The services' messages and the event stream, over HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from job_engine.settings import ApiSettings
from tests.contract.store.support import entry
from tests.unit.api.support import (
    ADMIN,
    ANON,
    DISTRIBUTOR,
    EXECUTOR,
    JANE,
    Client,
    refused,
    serving,
)

FENCE = [1, 7]


def ok(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


def claim_body(job: str) -> dict[str, Any]:
    item = {"job": job, "entry": entry(1), "fence": FENCE}
    return {"executor": "e", "actions": ["noop"], "claims": [item]}


def test_the_life_of_a_job(api: Client) -> None:
    job = api.add_job(action="life", priority=3)
    fed = ok(api(DISTRIBUTOR, "GET", "engine/feed?action=life&window=5"))
    assert fed == {
        "jobs": [{"job": job, "priority": 3}],
        "next_due_ms": None,
        "more": False,
        "waiting": 0,
    }
    entries = {"entries": [{"job": job, "entry": entry(1)}]}
    assert ok(api(DISTRIBUTOR, "POST", "engine/pushed", entries)) == {"written": [True]}
    found = ok(api(DISTRIBUTOR, "GET", "engine/entries?action=life&after="))
    assert found == {**entries, "next": None}
    claim = {**claim_body(job), "actions": ["life"]}
    (reply,) = ok(api(EXECUTOR, "POST", "engine/claim", claim))["replies"]
    assert reply["answer"] == "run"
    assert reply["document"]["id"] == job
    report: dict[str, Any] = {"job": job, "fence": FENCE, "kind": "progress", "log": ["x"]}
    reports = {"executor": "e", "reports": [report]}
    assert ok(api(EXECUTOR, "POST", "engine/report", reports)) == {"receipts": ["accepted"]}
    reports["reports"] = [{**report, "kind": "finish", "state": "SUCCESS"}] * 2
    assert ok(api(EXECUTOR, "POST", "engine/report", reports)) == {
        "receipts": ["accepted", "final"]
    }
    assert api.get(job)["state"] == "SUCCESS"
    assert ok(api(DISTRIBUTOR, "POST", "engine/cleared", entries)) == {"written": [False]}


def test_other_messages(api: Client) -> None:
    drawn = ok(api(DISTRIBUTOR, "POST", "engine/incarnation"))["incarnation"]
    assert ok(api(DISTRIBUTOR, "POST", "engine/incarnation"))["incarnation"] > drawn
    action = {"name": "clean", "payload_schema": {}, "timeout_s": 5.0, "interval_s": 60.0}
    told = ok(api(EXECUTOR, "PUT", "engine/actions", {"actions": [action]}))["actions"]
    assert told[0]["name"] == "clean"
    assert ok(api(DISTRIBUTOR, "GET", "engine/actions"))["actions"] == told
    tick = {"action": "clean", "tick_ms": 1000}
    made = ok(api(DISTRIBUTOR, "POST", "engine/schedule", tick))
    assert api.get(made["job"])["target-resource"] == {"href": "job"}
    again = ok(api(DISTRIBUTOR, "POST", "engine/schedule", tick))
    assert again == {"job": None, "last_tick_ms": 1000}
    api.add_job(action="nobody")
    orphans = {"live_actions": ["clean", "noop"], "grace_s": 0}
    assert ok(api(DISTRIBUTOR, "POST", "engine/orphans", orphans)) == {"failed": 1}


def test_a_foreign_run_that_says_nothing_is_queued_again(api: Client) -> None:
    job = api.add_job()
    ok(api(ADMIN, "PUT", job, {"state": "RUNNING"}))
    path = "engine/foreign?action=noop&silent_s="
    assert ok(api(DISTRIBUTOR, "GET", f"{path}3600")) == {"runs": []}
    silent = ok(api(DISTRIBUTOR, "GET", f"{path}0"))
    assert [(run["job"], run["entry"]) for run in silent["runs"]] == [(job, None)]
    assert ok(api(DISTRIBUTOR, "POST", "engine/foreign", silent)) == {"written": [True]}
    assert ok(api(DISTRIBUTOR, "POST", "engine/foreign", silent)) == {"written": [False]}
    assert api.get(job)["state"] == "QUEUED"


def test_a_claims_token_adds_to_the_log_of_its_job_while_it_runs(api: Client) -> None:
    job, other = api.add_job(), api.add_job()
    asked = {"job": job, "fence": FENCE}
    for claimed in (job, other):
        ok(api(EXECUTOR, "POST", "engine/claim", claim_body(claimed)))
    refused(api(JANE, "POST", "engine/token", asked), 403, "credentials required")
    token = ok(api(EXECUTOR, "POST", "engine/token", asked))["token"]

    def say(job: str, body: Any, bearer: str = token) -> httpx.Response:
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        return api(ANON, "POST", f"{job}/log", body, headers=headers)

    ok(say(job, {"lines": ["one", "two"], "message": "half way"}))
    assert api(ADMIN, "GET", f"{job}/log").json()["lines"] == ["one", "two"]
    assert api.get(job)["status-message"] == "half way"
    refused(say(job, {"lines": "x"}), 400, "lines")
    refused(say(job, {"state": "SUCCESS"}), 400, "state")
    for wrong in (say(other, {}), say(job, {}, "forged"), say(job, {}, "")):
        refused(wrong, 403, "invalid credentials")
    session = api.services.tokens.issue("session/x")  # another kind of token is none
    refused(say(job, {}, session), 403, "invalid credentials")
    finish = {"job": job, "fence": FENCE, "kind": "finish", "state": "SUCCESS"}
    ok(api(EXECUTOR, "POST", "engine/report", {"executor": "e", "reports": [finish]}))
    refused(say(job, {"lines": ["late"]}), 409, "is over")
    assert api(ADMIN, "GET", f"{job}/log").json()["lines"] == ["one", "two"]


@pytest.mark.parametrize(
    ("who", "method", "path"),
    [
        (who, method, path)
        for method, path, refused_ in [
            ("POST", "engine/claim", (ANON, JANE, DISTRIBUTOR)),
            ("POST", "engine/report", (ANON, JANE, DISTRIBUTOR)),
            ("PUT", "engine/actions", (ANON, JANE, DISTRIBUTOR)),
            ("GET", "engine/feed?action=x&window=1", (ANON, JANE, EXECUTOR)),
            ("POST", "engine/pushed", (ANON, JANE, EXECUTOR)),
            ("POST", "engine/cleared", (ANON, JANE, EXECUTOR)),
            ("GET", "engine/entries?action=x", (ANON, JANE, EXECUTOR)),
            ("GET", "engine/foreign?action=x&silent_s=1", (ANON, JANE, EXECUTOR)),
            ("POST", "engine/foreign", (ANON, JANE, EXECUTOR)),
            ("POST", "engine/incarnation", (ANON, JANE, EXECUTOR)),
            ("POST", "engine/schedule", (ANON, JANE, EXECUTOR)),
            ("POST", "engine/orphans", (ANON, JANE, EXECUTOR)),
            ("GET", "engine/events", (ANON, JANE)),
            ("GET", "engine/changes", (ANON, JANE, EXECUTOR)),
        ]
        for who in refused_
    ],
)
def test_each_message_is_its_services_own(api: Client, who: str, method: str, path: str) -> None:
    bodies: dict[str, Any] = {
        "engine/claim": {"executor": "e", "actions": [], "claims": []},
        "engine/report": {"executor": "e", "reports": []},
        "engine/actions": {"actions": []},
        "engine/pushed": {"entries": []},
        "engine/cleared": {"entries": []},
        "engine/incarnation": {},
        "engine/schedule": {"action": "x", "tick_ms": 1},
        "engine/orphans": {"live_actions": [], "grace_s": 0},
        "engine/foreign": {"runs": []},
    }
    refused(api(who, method, path, bodies.get(path)), 403, "credentials required")


def test_messages_that_will_not_do(api: Client) -> None:
    refused(api(EXECUTOR, "POST", "engine/claim", {"executor": "e"}), 400, "actions")
    odd = {"executor": "e", "reports": [], "odd": 1}
    refused(api(EXECUTOR, "POST", "engine/report", odd), 400, "odd")
    job = api.add_job()
    ok(api(EXECUTOR, "POST", "engine/claim", claim_body(job)))
    unfinished = {"job": job, "fence": FENCE, "kind": "finish", "state": "RUNNING"}
    reply = api(EXECUTOR, "POST", "engine/report", {"executor": "e", "reports": [unfinished]})
    refused(reply, 400, "SUCCESS or FAILED")
    refused(api(DISTRIBUTOR, "GET", "engine/feed?action=x&window=-1"), 400, "window")


# --- events --------------------------------------------------------------------


class Stream:
    """Follows the event stream in a thread."""

    def __init__(self, api: Client, query: str = "", **headers: str) -> None:
        self._seen: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self.ended = threading.Event()
        self._connected = threading.Event()
        self._url = f"{api.running.url}/api/engine/events{query}"
        self._headers = {"nuvla-authn-info": DISTRIBUTOR, **headers}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._connected.wait(10)

    def _run(self) -> None:
        event: dict[str, Any] = {}
        with httpx.stream("GET", self._url, headers=self._headers, timeout=30) as response:
            for line in response.iter_lines():
                self._connected.set()
                key, _, value = line.partition(": ")
                if key == "id":
                    event["id"] = int(value)
                elif key == "data":
                    event |= json.loads(value)
                elif not line and "job" in event:
                    with self._changed:
                        self._seen.append({**event, "at": time.monotonic()})
                        self._changed.notify_all()
                    event = {}
        self.ended.set()

    def wait(self, count: int) -> list[dict[str, Any]]:
        """Return the first events, once there are so many."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._seen) >= count, 10), self._seen
            return list(self._seen)

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join(10)
        assert not self._thread.is_alive()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Client]:
    """A server of the test's own, which it may stop."""
    settings = ApiSettings(
        data_dir=tmp_path,
        port=0,
        trusted_peers=["127.0.0.1"],
        admin_password=SecretStr("long enough"),
    )
    with (
        serving(settings) as running,
        httpx.Client(base_url=running.url, timeout=30) as http,
    ):
        yield Client(http, running)


def test_streams_go_on_where_they_were_and_end_with_the_server(own: Client) -> None:
    first = own.add_job(action="a")
    live = Stream(own)
    began = time.monotonic()
    second = own.add_job(action="b")
    (event,) = live.wait(1)
    assert (event["job"], event["state"], event["action"]) == (second, "QUEUED", "b")
    assert event["at"] - began < 1.0  # woken by the commit, not by the poll
    own(ADMIN, "POST", f"{first}/cancel")
    assert [e["state"] for e in live.wait(2)] == ["QUEUED", "CANCELED"]
    resumed = Stream(own, **{"Last-Event-ID": "0"})
    assert [e["id"] for e in resumed.wait(3)] == [1, 2, 3]
    queried = Stream(own, "?last_event_id=1&action=a&action=c&state=CANCELED")
    assert [e["id"] for e in queried.wait(1)] == [3]
    ahead = Stream(own, **{"Last-Event-ID": "999"})  # the store came from a backup
    third = own.add_job(action="c")
    assert [e["job"] for e in ahead.wait(1)] == [third]
    began = time.monotonic()
    own.running.server.should_exit = True
    for stream in (live, resumed, queried, ahead):
        assert stream.ended.wait(5)
        stream.join()
    assert time.monotonic() - began < 3


def test_leaders_are_told_at_once_what_waits(own: Client) -> None:
    url = f"{own.running.url}/api/engine/changes"
    headers = {"nuvla-authn-info": DISTRIBUTOR}
    with httpx.stream("GET", url, headers=headers, timeout=30) as response:
        lines = response.iter_lines()
        assert "connected" in next(lines)
        began = time.monotonic()
        own.add_job(action="b")
        told = next(line for line in lines if line.startswith("data: "))
        assert time.monotonic() - began < 1.0
        assert json.loads(told.removeprefix("data: "))["waiting"] == ["b"]


def test_a_start_is_remembered(tmp_path: Path) -> None:
    """The second start makes no second admin, and keys that were handed out still work."""
    settings = ApiSettings(data_dir=tmp_path, port=0)
    keys = []
    for start in range(2):
        with serving(settings) as running:
            found = running.services.store.resources.find("user", "admin")
            assert found is not None
            keys.append((found.id, (settings.credentials / "executor.json").read_text()))
            assert start == 0 or keys[0] == keys[1]


def test_a_restricted_action_is_the_administrators(api: Client) -> None:
    published = {
        "actions": [
            {"name": "sweep", "payload_schema": {}, "timeout_s": 1, "restricted": True},
        ]
    }
    ok(api(EXECUTOR, "PUT", "engine/actions", published))
    submitter = "user/s user/s user/s group/nuvla-user group/job-submitter"
    refused(api(submitter, "POST", "job", {"action": "sweep"}), 403, "only administrators")
    assert api(ADMIN, "POST", "job", {"action": "sweep"}).status_code == 201
