"""Webhooks over HTTP: secrets, callbacks of new jobs, deliveries, and what senders ask for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from job_engine.model import Fence
from job_engine.model.protocol.claims import ClaimItem, ClaimRequest
from job_engine.model.webhooks import ACTION
from tests.support.receiver import Received
from tests.unit.api.support import (
    ADMIN,
    DISTRIBUTOR,
    EXECUTOR,
    JANE,
    LMS,
    TEACHER,
    Client,
    operations,
    refused,
)

URL = "https://lms.example.org/hook"
FENCE = {"incarnation": 1, "czxid": 1000}


def make_secret(api: Client, who: str = LMS) -> tuple[str, str]:
    """Make a secret; returns its id and what it is."""
    reply = api(who, "POST", "webhook-secret", {"name": "for jobs"})
    assert reply.status_code == 201, reply.text
    body = reply.json()
    return body["resource-id"], body["secret"]


def add_job(api: Client, secret: str, who: str = LMS, **more: Any) -> str:
    """Create a job that tells of itself."""
    return api.add_job(who, action="told", callbacks=[{"url": URL, "secret": secret, **more}])


def deliveries(api: Client, who: str, job: str) -> list[dict[str, Any]]:
    """What somebody sees of a job's deliveries."""
    reply = api(who, "PUT", "webhook-delivery", data={"filter": f"job='{job}'"})
    assert reply.status_code == 200, reply.text
    found: list[dict[str, Any]] = reply.json()["resources"]
    return found


@pytest.fixture
def sender(api: Client) -> str:
    """A sender that runs under `FENCE`."""
    claims = api.services.store.claims
    query = {"filter": f"action='{ACTION}' and state='QUEUED'"}
    waiting = api(ADMIN, "PUT", "job", data=query).json()["resources"]
    if not waiting:
        secret, _ = make_secret(api)
        api(ADMIN, "POST", f"{add_job(api, secret)}/cancel")
        waiting = api(ADMIN, "PUT", "job", data=query).json()["resources"]
    job = str(waiting[0]["id"])
    FENCE["czxid"] += 1
    item = ClaimItem(job=job, entry="entry-100-0000000001", fence=Fence(1, FENCE["czxid"]))
    claims.claim(ClaimRequest(executor="e", actions=[ACTION], claims=[item]), "service/executor")
    return job


def take(api: Client, sender: str, **more: Any) -> list[dict[str, Any]]:
    """What a sender is handed."""
    body = {"job": sender, "fence": FENCE, **more}
    reply = api(EXECUTOR, "POST", "engine/webhooks/take", body)
    assert reply.status_code == 200, reply.text
    messages: list[dict[str, Any]] = reply.json()["messages"]
    return messages


def test_a_secret_is_shown_once(api: Client) -> None:
    secret, value = make_secret(api)
    assert value.startswith("whsec_")
    for who in (LMS, ADMIN):
        assert value not in api(who, "GET", secret).text
        assert value not in api(who, "PUT", "webhook-secret").text
    assert value not in api(LMS, "PUT", secret, {"name": "renamed"}).text
    refused(api(JANE, "GET", secret), 403, "invalid credentials")
    refused(api(JANE, "POST", "webhook-secret", {}), 403, "credentials required")
    refused(api(LMS, "POST", "webhook-secret", {"secret": "mine"}), 400, "secret")
    assert api(LMS, "DELETE", secret).status_code == 200


def test_callbacks_are_checked_when_the_job_is_created(api: Client) -> None:
    secret, _ = make_secret(api)
    good = {"url": URL, "secret": secret}
    for callbacks, why in (
        ([], "callbacks"),
        ([good] * 11, "callbacks"),
        ([{"url": URL}], "callbacks/0/secret: is required"),
        ([{**good, "states": ["QUEUED"]}], "callbacks/0/states/0"),
        ([{**good, "states": []}], "callbacks/0/states"),
        ([{**good, "more": 1}], "callbacks/0/more: unknown attribute"),
        ([good, {**good, "url": "https://u:p@lms.example.org/"}], "callbacks/1/url"),
        ([{**good, "url": "http://lms.example.org/"}], "webhook_allow_http"),
        ([{**good, "secret": "credential/x"}], "callbacks/0/secret"),
        ([{**good, "secret": "webhook-secret/" + "0" * 36}], "callbacks/0/secret: there is no"),
    ):
        refused(api(LMS, "POST", "job", {"action": "told", "callbacks": callbacks}), 400, why)


def test_nobody_signs_with_anothers_secret(api: Client) -> None:
    """Its owner's receiver would believe what somebody else's job says."""
    secret, _ = make_secret(api)
    body = {"action": "told", "callbacks": [{"url": URL, "secret": secret}]}
    refused(api(TEACHER, "POST", "job", body), 400, "there is no")
    assert api(ADMIN, "POST", "job", body).status_code == 201


def test_callbacks_stay_as_they_are(api: Client) -> None:
    secret, _ = make_secret(api)
    job = add_job(api, secret)
    callbacks = api.get(job, LMS)["callbacks"]
    changed = [{"url": "https://elsewhere.example/", "secret": secret}]
    assert api(ADMIN, "PUT", job, {"callbacks": changed}).status_code == 200
    assert api(ADMIN, "PUT", f"{job}?select=callbacks", {}).status_code == 200
    assert api.get(job, LMS)["callbacks"] == callbacks
    assert api(LMS, "POST", f"{job}/cancel").status_code == 200
    again = api(ADMIN, "POST", f"{job}/resubmit").json()["resource-id"]
    assert api.get(again, LMS)["callbacks"] == callbacks


def test_managers_of_a_job_read_and_replay_its_deliveries(api: Client, sender: str) -> None:
    secret, value = make_secret(api)
    job = add_job(api, secret)
    assert deliveries(api, LMS, job) == []
    api(LMS, "POST", f"{job}/cancel")
    (pending,) = deliveries(api, LMS, job)
    assert (pending["state"], pending["type"], pending["attempts"]) == (
        "PENDING",
        "job.canceled",
        0,
    )
    assert value not in json.dumps(pending)
    assert operations(pending) == ["replay"]
    assert deliveries(api, JANE, job) == []
    refused(api(JANE, "GET", pending["id"]), 403, "invalid credentials")

    (message,) = [m for m in take(api, sender) if m["delivery"] == pending["id"]]
    raw = message["body"].encode()
    assert Received("/", message["headers"], raw).signed_with(value)
    assert message["headers"]["webhook-id"] == pending["id"].partition("/")[2]
    result = {"delivery": pending["id"], "attempt": message["attempt"], "status": 410}
    body = {"job": sender, "fence": FENCE, "results": [result]}
    assert api(EXECUTOR, "POST", "engine/webhooks/results", body).json() == {"written": [True]}
    failed = api.get(pending["id"], LMS)
    assert (failed["state"], failed["error"]) == ("FAILED", "It answered 410.")
    assert failed["log"][0]["status"] == 410

    refused(api(JANE, "POST", f"{pending['id']}/replay"), 403, "invalid credentials")
    refused(api(LMS, "GET", f"{pending['id']}/replay"), 405, "invalid method")
    assert api(LMS, "POST", f"{pending['id']}/replay").json()["state"] == "PENDING"
    again = [m for m in take(api, sender) if m["delivery"] == pending["id"]]
    assert [m["headers"]["webhook-id"] for m in again] == [message["headers"]["webhook-id"]]


def test_deliveries_are_the_engines_alone(api: Client) -> None:
    secret, _ = make_secret(api)
    job = add_job(api, secret)
    api(LMS, "POST", f"{job}/cancel")
    (delivery,) = deliveries(api, LMS, job)
    for method, path in (
        ("POST", "webhook-delivery"),
        ("PUT", delivery["id"]),
        ("DELETE", delivery["id"]),
    ):
        refused(api(ADMIN, method, path, {}), 405, "invalid method")


def test_messages_are_handed_out_to_running_senders_only(api: Client, sender: str) -> None:
    body = {"job": sender, "fence": FENCE}
    for who in (LMS, JANE, DISTRIBUTOR):
        refused(api(who, "POST", "engine/webhooks/take", body), 403, "credentials required")
    another = EXECUTOR.replace("service/executor", "service/another")
    refused(api(another, "POST", "engine/webhooks/take", body), 409, "does not run")
    older = {**body, "fence": {"incarnation": 1, "czxid": 1}}
    refused(api(EXECUTOR, "POST", "engine/webhooks/take", older), 409, "does not run")
    results = {**older, "results": []}
    refused(api(EXECUTOR, "POST", "engine/webhooks/results", results), 409, "does not run")
    assert isinstance(take(api, sender, closing=True), list)
