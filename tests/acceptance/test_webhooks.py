"""Webhooks through the real processes, to a receiver on loopback that the operator allows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from job_engine.client import Api
from tests.support.engine import Engine, eventually
from tests.support.receiver import Received, Receiver


@pytest.fixture
def engine(tmp_path: Path, zk_hosts: str) -> Iterator[Engine]:
    with Engine(tmp_path, zk_hosts) as engine:
        engine.start_api(webhook_allow_http=True)
        engine.start_distributor()
        yield engine


@pytest.fixture
def api(engine: Engine) -> Iterator[Api]:
    api = engine.admin()
    yield api
    api.close()


def start_executor(engine: Engine, receiver: Receiver | None, name: str = "executor") -> None:
    """Start an executor that may send to the receiver, or to nobody private."""
    pairs = [f"127.0.0.1:{receiver.server_port}"] if receiver is not None else []
    engine.start_executor(name, webhook_allow_http=True, webhook_private_hosts=pairs)


def add(api: Api, url: str, secret: str, **more: Any) -> str:
    """Create a job with a callback."""
    document = {"action": "noop", "callbacks": [{"url": url, "secret": secret}], **more}
    return str(api.add("job", document).data["resource-id"])


def make_secret(api: Api) -> tuple[str, str]:
    """Make a secret; returns its id and what it is."""
    made = api.add("webhook-secret", {"name": "for jobs"}).data
    return made["resource-id"], made["secret"]


def delivery(api: Api, job: str) -> dict[str, Any]:
    """The one delivery of a job; empty where there is none yet."""
    found = api.search("webhook-delivery", filter=f"job='{job}'").resources
    return dict(found[0].data) if found else {}


def test_a_job_tells_that_it_ended_and_goes_on_until_it_is_heard(engine: Engine, api: Api) -> None:
    secret, value = make_secret(api)
    with Receiver(answers=[500]) as receiver:
        start_executor(engine, receiver)
        job = add(api, receiver.url, secret)
        eventually(lambda: delivery(api, job).get("state") == "DELIVERED", 60)
        first, second = receiver.received
    assert first.body["data"]["id"] == job
    assert (first.body["type"], first.body["data"]["state"]) == ("job.success", "SUCCESS")
    assert first.id == second.id
    assert first.raw == second.raw
    assert first.signed_with(value)
    assert second.signed_with(value)
    assert [attempt.get("status") for attempt in delivery(api, job)["log"]] == [500, 204]


def test_an_executor_killed_before_it_could_say_so_is_stood_in_for(
    engine: Engine, api: Api
) -> None:
    """Killed between the send and the record: the message is sent again, under the same id."""
    secret, value = make_secret(api)
    killed = threading.Event()

    def kill(_message: Received) -> None:
        if not killed.is_set():
            killed.set()
            engine.kill("first")

    with Receiver() as receiver:
        receiver.before_answer = kill
        start_executor(engine, receiver, "first")
        job = add(api, receiver.url, secret)
        assert killed.wait(60)
        start_executor(engine, receiver, "second")
        eventually(lambda: delivery(api, job).get("state") == "DELIVERED", 60)
        first, second = receiver.received
    assert first.id == second.id
    assert first.signed_with(value)
    assert second.signed_with(value)
    assert delivery(api, job)["attempts"] == 2


def test_a_private_address_is_refused_and_can_be_replayed(engine: Engine, api: Api) -> None:
    secret, _ = make_secret(api)
    with Receiver() as receiver:
        start_executor(engine, None)
        job = add(api, receiver.url, secret)
        eventually(lambda: delivery(api, job).get("state") == "FAILED", 60)
        assert "webhook_private_hosts" in delivery(api, job)["error"]
        assert receiver.received == []
        engine.kill("executor")
        start_executor(engine, receiver, "allowed")
        api.operation(api.get(delivery(api, job)["id"]), "replay")
        eventually(lambda: delivery(api, job).get("state") == "DELIVERED", 60)
        assert len(receiver.received) == 1
