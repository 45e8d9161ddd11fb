"""Jobs that wait, are sent again, or are sent twice, over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from job_engine.model import Fence
from job_engine.model.timestamps import format_ms
from tests.contract.store.support import claim, entry, finish
from tests.unit.api.support import (
    ADMIN,
    DISTRIBUTOR,
    EXECUTOR,
    JANE,
    JJ_ACL,
    JOE,
    LMS,
    NB,
    TEACHER,
    Client,
    operations,
    refused,
)

LATER = "2100-01-01T00:00:00.000Z"


def end(api: Client, job: str) -> None:
    """Have an executor run a job to its end."""
    store = api.services.store
    assert claim(store, job, entry(1), Fence(1, 1)).answer.runs
    finish(store, job, Fence(1, 1), output="secret", return_code=0)


def once(api: Client, key: str, body: Any, who: str = LMS, **headers: str) -> Any:
    return api(who, "POST", "job", body, headers={"Idempotency-Key": key, **headers})


# --- not before, and no more than ------------------------------------------------


def test_a_job_may_have_to_wait_for_its_time(api: Client) -> None:
    job = api.add_job(not_before=LATER, action="later")
    assert api.get(job)["not-before"] == LATER
    assert api.count(ADMIN, f"id='{job}' and not-before>'2099-01-01T00:00:00.000Z'") == 1
    fed = api(DISTRIBUTOR, "GET", "engine/feed?action=later&window=5").json()
    assert fed["jobs"] == []
    assert format_ms(fed["next_due_ms"]) == LATER
    for none in (None, "2001-01-01T00:00:00.000Z"):
        assert "not-before" not in api.get(api.add_job(not_before=none))
    refused(api(ADMIN, "POST", "job", {"action": "x", "not-before": "soon"}), 400, "not-before")


def test_its_time_is_not_edited(api: Client) -> None:
    job = api.add_job(not_before=LATER)
    for body, query in (
        ({"not-before": "2101-01-01T00:00:00.000Z"}, ""),
        ({}, "?select=not-before"),
    ):
        assert api(ADMIN, "PUT", f"{job}{query}", body).json()["not-before"] == LATER


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "1", 1001])
def test_how_often_a_job_is_tried(api: Client, wrong: Any) -> None:
    assert api.get(api.add_job(max_attempts=1))["max-attempts"] == 1
    refused(api(ADMIN, "POST", "job", {"action": "x", "max-attempts": wrong}), 400, "max-attempts")


def test_the_sweep_fails_what_has_expired(api: Client) -> None:
    job = api.add_job(expiry="2001-01-01T00:00:00.000Z")
    refused(api(EXECUTOR, "POST", "engine/sweep"), 403, "credentials required")
    assert api(DISTRIBUTOR, "POST", "engine/sweep").json() == {"expired": 1, "keys": 0}
    found = api.get(job)
    assert found["state"] == "FAILED"
    assert "Expired" in found["status-message"]
    assert "resubmit" in operations(found)


# --- again -----------------------------------------------------------------------


def test_a_job_that_is_over_is_sent_again(api: Client) -> None:
    asked = {
        "action": "again",
        "payload": '{"x":1}',
        "priority": 7,
        "parent": "course/1",
        "name": "homework",
        "max-attempts": 2,
        "target-resource": {"href": "module/x"},
        "acl": {"view-data": ["user/joe"]},
        "expiry": LATER,
    }
    old = api(LMS, "POST", "job", asked).json()["resource-id"]
    before = api.get(old, LMS)
    refused(api(LMS, "POST", f"{old}/resubmit"), 403, "invalid credentials")
    assert "resubmit" not in operations(before)
    store = api.services.store
    assert claim(store, old, entry(1), Fence(1, 1), actions=("again",)).answer.runs
    finish(store, old, Fence(1, 1), output="o", status_message="done")
    assert "resubmit" in operations(api.get(old, LMS))
    reply = api(LMS, "POST", f"{old}/resubmit")
    new = reply.json()["resource-id"]
    assert (reply.status_code, reply.headers["location"]) == (201, new)
    found = api.get(new, LMS)
    kept = ("action", "payload", "priority", "parent", "name", "max-attempts", "target-resource")
    assert {k: found[k] for k in kept} == {k: asked[k] for k in kept}
    assert found["acl"] == before["acl"]
    assert (found["state"], found["progress"], found["resubmitted-from"]) == ("QUEUED", 0, old)
    assert not {"output", "expiry", "status-message", "started", "tags"} & found.keys()


def test_the_right_to_resubmit(api: Client) -> None:
    job = api.add_job(acl=JJ_ACL)
    end(api, job)
    for who in (JANE, JOE):  # one may not create jobs, the other sees nothing of it
        assert "resubmit" not in operations(api(who, "GET", job).json())
        refused(api(who, "POST", f"{job}/resubmit"), 403, "invalid credentials")
    refused(api(ADMIN, "GET", f"{job}/resubmit"), 405, "invalid method")
    shared = api.add_job(TEACHER, acl={"manage": ["user/lms"], "view-data": ["user/lms"]})
    end(api, shared)
    # Without the ACL in sight: the new job would show it, and what else is hidden.
    refused(api(LMS, "POST", f"{shared}/resubmit"), 403, "invalid credentials")
    assert api(TEACHER, "POST", f"{shared}/resubmit").status_code == 201


def test_where_it_comes_from_is_nobodys_to_say(api: Client) -> None:
    forged: dict[str, Any] = {"resubmitted-from": "job/1", "queue-position": 1, "estimated-wait": 1}
    job = api.add_job(**{k.replace("-", "_"): v for k, v in forged.items()})
    assert "resubmitted-from" not in api.get(job)
    assert "resubmitted-from" not in api(ADMIN, "PUT", job, forged).json()


# --- twice -----------------------------------------------------------------------


def test_a_create_that_is_sent_twice_makes_one_job(api: Client) -> None:
    first = once(api, "a key", {"action": "x", "name": "one"})
    again = once(api, "a key", {"name": "one", "action": "x"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    other = once(api, "a key", {"action": "x", "name": "one"}, who=TEACHER)
    assert other.json()["resource-id"] != first.json()["resource-id"]
    assert api.count(ADMIN, "name='one'") == 2


def test_bulk_creates_too(api: Client) -> None:
    body = {"jobs": [{"action": "x", "name": "bulk"}] * 3}
    first, again = (once(api, "bulk", body, bulk="yes") for _ in range(2))
    assert again.json() == first.json()
    assert len(first.json()["resource-ids"]) == 3
    assert api.count(ADMIN, "name='bulk'") == 3


def test_a_key_is_for_one_request(api: Client) -> None:
    once(api, "used", {"action": "x"})
    refused(once(api, "used", {"action": "y"}), 422, "use a new key")
    refused(once(api, "used", {"action": "x"}, bulk="yes"), 422, "use a new key")
    for key in ("", "x" * 256, "tab\there", "ü".encode("latin-1").decode("latin-1")):
        headers = {"Idempotency-Key": key.encode("latin-1")}
        refused(api(LMS, "POST", "job", {"action": "x"}, headers=headers), 400, "printable")
    assert once(api, "x" * 255, {"action": "x"}).status_code == 201


def test_a_refused_request_may_be_corrected_under_the_same_key(api: Client) -> None:
    refused(once(api, "corrected", {"action": 5}), 400, "action")
    assert once(api, "corrected", {"action": "x"}).status_code == 201


def test_of_many_at_once_one_makes_the_job(api: Client) -> None:
    barrier = Barrier(8)

    def send(_: int) -> str:
        barrier.wait()
        return str(once(api, "at once", {"action": "x", "name": "raced"}).json()["resource-id"])

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(send, range(8)))) == 1
    assert api.count(ADMIN, "name='raced'") == 1


def test_sending_again_may_be_sent_twice(api: Client) -> None:
    old, other = api.add_job(), api.add_job()
    end(api, old)
    end(api, other)
    headers = {"Idempotency-Key": "resubmit"}
    first, again = (api(ADMIN, "POST", f"{old}/resubmit", headers=headers) for _ in range(2))
    assert again.json() == first.json()
    refused(api(ADMIN, "POST", f"{other}/resubmit", headers=headers), 422, "use a new key")


# --- shares, and the line --------------------------------------------------------


def test_shares_are_the_admins(api: Client) -> None:
    share = {"name": "course/1", "weight": 2.5}
    for who in (JANE, LMS, DISTRIBUTOR):
        refused(api(who, "PUT", "engine/shares", share), 403, "credentials required")
        refused(api(who, "GET", "engine/shares"), 403, "credentials required")
    assert api(ADMIN, "PUT", "engine/shares", share).json() == share
    assert api(ADMIN, "GET", "engine/shares").json() == {"shares": [share], "next": None}
    assert api(ADMIN, "GET", "engine/shares?after=course/1").json()["shares"] == []
    for weight in (0, -1, 1001, "much", None):
        assert api(ADMIN, "PUT", "engine/shares", {**share, "weight": weight}).status_code == 400


def test_waiting_jobs_have_a_position_and_an_estimate(api: Client) -> None:
    jobs = [api.add_job(action="line", name="line") for _ in range(3)]
    assert [api.get(job)["queue-position"] for job in jobs] == [1, 2, 3]
    assert "estimated-wait" not in api.get(jobs[0])
    claim(api.services.store, jobs[0], entry(1), Fence(1, 1), actions=("line",))
    assert "queue-position" not in api.get(jobs[0])
    found = api(ADMIN, "PUT", "job", data={"filter": "name='line'", "orderby": "created"}).json()
    seen = {d["id"]: d.get("queue-position") for d in found["resources"]}
    assert seen == {jobs[0]: None, jobs[1]: 1, jobs[2]: 2}
    assert isinstance(api.get(jobs[2])["estimated-wait"], int)
    some = api(ADMIN, "GET", f"{jobs[2]}?select=queue-position").json()
    assert some["queue-position"] == 2
    assert "queue-position" not in api(ADMIN, "GET", f"{jobs[2]}?select=state").json()


def test_a_document_that_is_sent_back_says_nothing_of_the_line(api: Client) -> None:
    job = api.add_job()
    whole = api.get(job)
    assert "queue-position" in whole
    edited = api(ADMIN, "PUT", job, {**whole, "name": "x"})
    assert (edited.status_code, edited.json()["name"]) == (200, "x")


def test_positions_are_visible_with_view_data_only(api: Client) -> None:
    job = api.add_job(acl={"owners": ["group/nuvla-admin"], "view-meta": ["nuvlabox/x"]})
    assert api(NB, "GET", job).status_code == 200
    assert "queue-position" not in api(NB, "GET", job).json()
