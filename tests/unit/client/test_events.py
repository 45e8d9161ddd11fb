"""A stream that breaks goes on where it broke off: no event is lost, and none comes twice."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace

import pytest

from job_engine.client import Api, RefusedError, events, follow_events, follow_job
from job_engine.client.events import whole_events
from job_engine.errors import ApiUnavailableError
from job_engine.model import JobState
from tests.unit.client.scripted import Drop, Say, Scripted

HEADERS = {"Content-Type": "text/event-stream"}


def event(number: int) -> bytes:
    """One event as it is on the wire."""
    data = f'{{"job":"job/{number}","action":"noop","state":"QUEUED","priority":1}}'
    return f"id: {number}\r\nevent: job\r\ndata: {data}\r\n\r\n".encode()


def stream(*parts: bytes) -> Say:
    """A connection's worth of a stream."""
    return Say(200, b"".join(parts), HEADERS)


BEGIN = b": connected\r\nid: 4\r\n\r\n"


def seen_in(wire: bytes, size: int) -> list[tuple[str | None, str]]:
    """What is read when it comes in chunks of that size."""
    return list(whole_events(wire[i : i + size] for i in range(0, len(wire), size)))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 128, 4096])
def test_half_an_event_is_none(size: int) -> None:
    """Cut anywhere, what was whole is there, and what was not is not."""
    wire = BEGIN + event(5) + event(6)
    ends = [len(BEGIN), len(BEGIN + event(5)), len(wire)]
    for cut in range(len(wire) + 1):
        found = seen_in(wire[:cut], size)
        assert [event_id for event_id, _ in found] == ["4", "5", "6"][: sum(e <= cut for e in ends)]
        assert all(data for event_id, data in found if event_id != "4")


def test_other_ways_to_write_events() -> None:
    assert seen_in(b"data: a\ndata:b\n\n:x\n\nid: 1\n\nretry: 5\n\n", 3) == [
        (None, "a\nb"),
        (None, ""),
        ("1", ""),
        (None, ""),
    ]


@pytest.mark.parametrize("cut", [1, 20, len(event(6)) - 1])
def test_a_stream_goes_on_where_it_was_cut(cut: int) -> None:
    broken = stream(BEGIN, event(5), event(6)[:cut])
    with Scripted(broken, stream(event(6), event(7))) as server:
        api = Api(server.url)
        seen = list(islice(follow_events(api), 3))
        api.close()
    assert [e.event.job for e in seen] == ["job/5", "job/6", "job/7"]
    assert [e.id for e in seen] == ["5", "6", "7"]
    assert server.asked[1].headers["last-event-id"] == "5"


def test_it_resumes_from_the_beginning_that_it_was_told() -> None:
    with Scripted(stream(BEGIN), Drop(), Say(503), stream(event(5))) as server:
        api = Api(server.url)
        (seen,) = islice(follow_events(api, actions=["noop"], states=[JobState.QUEUED]), 1)
        api.close()
    assert seen.event.job == "job/5"
    assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "4", "4", "4"]
    assert server.asked[0].path == "/api/engine/events?action=noop&state=QUEUED"


def test_it_begins_after_the_last_processed_event() -> None:
    with Scripted(stream(event(9))) as server:
        api = Api(server.url)
        assert next(follow_events(api, after="8")).id == "9"
        api.close()
    assert server.asked[0].headers["last-event-id"] == "8"


def test_a_refused_reader_gets_an_error() -> None:
    refusal = Say(403, {"status": 403, "message": "credentials required"})
    with Scripted(refusal) as server, pytest.raises(RefusedError, match="credentials required"):
        next(follow_events(Api(server.url)))


def test_closing_the_client_ends_it() -> None:
    with Scripted(stream(BEGIN)) as server:
        api = Api(server.url)
        api.close()
        with pytest.raises(ApiUnavailableError, match="closed"):
            next(follow_events(api))


def item(kind: str, number: int) -> bytes:
    """One item of a job's stream."""
    return f"id: {number}\nevent: {kind}\ndata: {{}}\n\n".encode()


def test_patience_with_a_job_begins_when_its_stream_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hours = iter(range(0, 10**9, 3600))
    now = next(hours)
    monkeypatch.setattr(events, "time", SimpleNamespace(monotonic=lambda: now))
    with Scripted(stream(item("log", 1)), Drop(), stream(item("end", 2))) as server:
        kinds = []
        for seen in follow_job(Api(server.url), "job/1", patience_s=60.0):
            kinds.append(seen.kind)
            now = next(hours)  # the reader pauses for an hour, as a stopped terminal does
        assert kinds == ["log", "end"]


@pytest.mark.parametrize("away", [Drop(), Say(503), Say(429), Say(200, b"", HEADERS)])
def test_a_job_is_followed_until_the_engine_was_away_for_too_long(away: Drop | Say) -> None:
    with Scripted(stream(item("log", 1)), away) as server:
        items = follow_job(Api(server.url), "job/1", patience_s=0.1)
        assert next(items).kind == "log"
        with pytest.raises(ApiUnavailableError, match="job/1"):
            next(items)
        assert len(server.asked) >= 2


def test_a_refused_stream_of_a_job_is_not_tried_again() -> None:
    with Scripted(Say(403, {"message": "no"})) as server:
        with pytest.raises(RefusedError, match="no"):
            next(follow_job(Api(server.url), "job/1"))
        assert len(server.asked) == 1
