"""A job's stream: in order, resumable, and to each no more than they may see."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

import httpx
import pytest

from job_engine.client.events import named_events
from job_engine.store.jobs.logs import MAX_NOTES
from tests.unit.api.support import ADMIN, ANON, EXECUTOR, JANE, JOE, LMS, Client

_numbers = itertools.count(1)


class Run:
    """A job of the LMS's that Jane may read, claimed by an executor."""

    def __init__(self, api: Client) -> None:
        self.api = api
        made = api(LMS, "POST", "job", {"action": "grade", "acl": {"view-data": ["user/jane"]}})
        self.job = made.json()["resource-id"]
        self.fence = {"incarnation": 1, "czxid": next(_numbers)}
        claim = {"job": self.job, "entry": "entry-1", "fence": self.fence}
        body = {"executor": "x", "actions": ["grade"], "job_version": 2, "claims": [claim]}
        assert api(EXECUTOR, "POST", "engine/claim", body).json()["replies"][0]["answer"] == "run"

    def tell(self, kind: str = "progress", **report: Any) -> None:
        """Report something of the run."""
        whole = {"job": self.job, "fence": self.fence, "kind": kind, **report}
        body = {"executor": "x", "reports": [whole]}
        receipts = self.api(EXECUTOR, "POST", "engine/report", body).json()["receipts"]
        assert receipts == ["accepted"]

    def finish(self) -> None:
        """End it."""
        self.tell("finish", state="SUCCESS", return_code=0)

    def read(self, who: str, query: str = "", **headers: str) -> list[tuple[str, Any, str | None]]:
        """Return name, data and id of what a stream has until it ends."""
        given = {"nuvla-authn-info": who, **headers}
        url = f"{self.api.running.url}/api/{self.job}/stream{query}"
        with httpx.stream("GET", url, headers=given, timeout=20) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"].startswith("text/event-stream")
            events = list(named_events(response.iter_raw()))
        return [(kind, json.loads(data), id_) for id_, kind, data in events if data]


def note(kind: str, *, staff: bool = False, after: int = 0, **data: Any) -> dict[str, Any]:
    return {"kind": kind, "data": json.dumps(data), "staff": staff, "after": after}


@pytest.fixture
def run(api: Client) -> Run:
    return Run(api)


@pytest.fixture
def told(run: Run) -> Run:
    run.tell(
        log=["one", "two"],
        events=[
            note("phase", phase="test"),
            note("test", after=1, name="open"),
            note("test", after=1, staff=True, name="secret"),
            note("output", after=2, staff=True, text="secret too"),
        ],
    )
    run.tell(log=["three"])
    run.finish()
    return run


def kinds(events: list[tuple[str, Any, str | None]]) -> list[str]:
    return [kind for kind, _, _ in events if kind != "job"]


def test_lines_and_events_come_in_the_order_they_were_told(told: Run) -> None:
    events = told.read(LMS)
    assert kinds(events) == ["phase", "log", "test", "test", "log", "output", "log", "end"]
    assert [data["line"] for kind, data, _ in events if kind == "log"] == ["one", "two", "three"]
    assert [id_ for _, _, id_ in events if id_] == [
        *("0.1", "1.1", "1.2", "1.3", "2.3", "2.4", "3.4", "end")
    ]
    assert events[0][0] == "job"
    assert events[-1] == ("end", events[0][1], "end")
    assert events[0][1]["state"] == "SUCCESS"


def test_a_stream_goes_on_from_any_offset(told: Run) -> None:
    whole = [event for event in told.read(LMS) if event[2]]
    for index, (_, _, offset) in enumerate(whole[:-1]):
        assert [e for e in told.read(LMS, f"?offset={offset}") if e[2]] == whole[index + 1 :]
    resumed = told.read(LMS, "?offset=0.0", **{"Last-Event-ID": "2.4"})
    assert [event for event in resumed if event[2]] == whole[-2:]


def test_a_reader_that_has_seen_the_end_is_answered_204(told: Run) -> None:
    """A browser's EventSource connects again, unless it is answered 204."""
    seen = {"Last-Event-ID": "end"}
    reply = told.api(LMS, "GET", f"{told.job}/stream", headers=seen)
    assert (reply.status_code, reply.content) == (204, b"")
    assert told.api(ANON, "GET", f"{told.job}/stream", headers=seen).status_code == 403


def test_events_for_staff_do_not_reach_callers_who_may_only_read(told: Run) -> None:
    events = told.read(JANE)
    assert kinds(events) == ["phase", "log", "test", "log", "log", "end"]
    assert "secret" not in json.dumps(events)
    assert "secret" in json.dumps(told.read(ADMIN))
    # Nor by an offset that only staff has seen.
    assert "secret" not in json.dumps(told.read(JANE, "?offset=1.2"))


@pytest.mark.parametrize("who", [ANON, JOE])
def test_callers_who_may_not_read_the_job_may_not_follow_it(told: Run, who: str) -> None:
    assert told.api(who, "GET", f"{told.job}/stream").status_code == 403
    assert told.api(who, "GET", f"{told.job}/log").status_code == 403


@pytest.mark.parametrize("offset", ["x", "1", "-1.0", "1.1.1", "9999999999.1", "1.1 "])
def test_an_offset_is_one_of_the_streams_own(told: Run, offset: str) -> None:
    reply = told.api(LMS, "GET", f"{told.job}/stream", params={"offset": offset})
    assert (reply.status_code, "offset" in reply.text) == (400, True)


def test_a_job_that_is_not_there(api: Client) -> None:
    assert api(ADMIN, "GET", "job/none/stream").status_code == 404


def test_events_are_sent_while_the_run_goes_on(run: Run) -> None:
    """Each event is waited for before the next thing is reported: none is held back."""
    seen: list[str] = []
    changed = threading.Condition()

    def follow() -> None:
        url = f"{run.api.running.url}/api/{run.job}/stream"
        headers = {"nuvla-authn-info": LMS}
        with httpx.stream("GET", url, headers=headers, timeout=20) as response:
            for _, kind, _data in named_events(response.iter_raw()):
                with changed:
                    seen.append(kind)
                    changed.notify()

    thread = threading.Thread(target=follow)
    thread.start()

    def wait_for(kind: str, count: int = 1) -> None:
        with changed:
            assert changed.wait_for(lambda: seen.count(kind) >= count, 15), seen

    wait_for("job")
    run.tell(log=["line"])
    wait_for("log")
    run.tell(events=[note("test", name="a")])
    wait_for("test")
    run.tell(progress=50, status_message="half")
    run.tell(events=[note("test", name="b")])
    wait_for("test", 2)
    wait_for("job", 2)
    run.finish()
    wait_for("end")
    thread.join(10)
    assert not thread.is_alive()


def test_a_flood_of_events_leaves_room_for_the_log(run: Run) -> None:
    for _ in range(4):
        run.tell(events=[note("test", name="x") for _ in range(2_000)])
    run.tell(log=["still here"], events=[note("test", name="too late", large="x" * 20_000)])
    run.finish()
    events = kinds(run.read(LMS))
    assert events.count("test") == MAX_NOTES
    assert events[-2:] == ["log", "end"]
    lines = run.api(LMS, "GET", f"{run.job}/log").json()
    assert (lines["lines"], lines["next"]) == (["still here"], 1)


def test_long_streams_come_in_pages_without_a_gap(run: Run) -> None:
    for start in range(0, 2_400, 800):
        run.tell(
            log=[f"{n}" for n in range(start, start + 800)],
            events=[note("test", after=n, name=f"{start + n}") for n in range(800)],
        )
    run.finish()
    events = run.read(LMS)
    lines = [data["line"] for kind, data, _ in events if kind == "log"]
    tests = [data["name"] for kind, data, _ in events if kind == "test"]
    assert lines == tests == [str(n) for n in range(2_400)]
    assert kinds(events)[:4] == ["test", "log", "test", "log"]
