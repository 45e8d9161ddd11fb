"""The event streams: jobs that were created or changed state, as server-sent events.

`events` sends each event; `changes` sends summaries to leaders, which would otherwise read
three events a job only to learn that there is something to do.

A stream continues after `Last-Event-ID` (a header, or `last_event_id` in the query), else from
now. It wakes when this process commits an event, and reads the store now and then for events
of other processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from job_engine.api.concurrency.streams import Waiter, at_once, log_cut
from job_engine.api.identity import DISTRIBUTOR, EXECUTOR
from job_engine.api.openapi.answers import Responses, answer
from job_engine.api.routes.common import Caller, Shared, allow
from job_engine.api.services import Services
from job_engine.errors import StoreError
from job_engine.model import JobState
from job_engine.model.protocol.events import Changes
from job_engine.store.jobs.events import StoredEvent

router = APIRouter(prefix="/api/engine", tags=["engine"])

KEEPALIVE_S: Final = 15
POLL_S: Final = 2.0
PAGE: Final = 500
PACE_S: Final = 0.1
"""Seconds for which claims are collected before leaders are notified; new jobs are reported at
once. A window holds a second's worth of jobs, so it does not run empty in that time."""
SEND_TIMEOUT_S: Final = 30.0
"""Seconds after which a reader that accepts no data is disconnected; it can resume."""

_NOTHING: Final = Changes()
_DELAYS: Final[dict[str, float]] = {
    JobState.QUEUED: 0.0,
    JobState.CANCELED: 0.0,
    JobState.RUNNING: PACE_S,
}


_STREAM: Final[Responses] = {200: answer(200, {"type": "string"}, "text/event-stream")}


@router.get("/events", response_class=EventSourceResponse, responses=_STREAM)
async def events(
    services: Shared,
    who: Caller,
    action: Annotated[list[str] | None, Query()] = None,
    state: Annotated[list[JobState] | None, Query()] = None,
    last_event_id: Annotated[str | None, Query()] = None,
    last_event_id_header: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> EventSourceResponse:
    """Stream events; `action` and `state` narrow it, and may be repeated."""
    allow(who, EXECUTOR, DISTRIBUTOR)
    after = await _start(services, last_event_id_header or last_event_id)
    return _response(_stream(services, after, action or [], [str(s) for s in state or []]))


@router.get("/changes", response_class=EventSourceResponse, responses=_STREAM)
async def changes(
    services: Shared,
    who: Caller,
    last_event_id: Annotated[str | None, Query()] = None,
    last_event_id_header: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> EventSourceResponse:
    """Stream what leaders have to look at, as `Changes`."""
    allow(who, DISTRIBUTOR)
    after = await _start(services, last_event_id_header or last_event_id)
    return _response(_sums(services, after))


def _response(stream: AsyncIterator[ServerSentEvent | bytes]) -> EventSourceResponse:
    return EventSourceResponse(
        stream,
        ping=KEEPALIVE_S,
        ping_message_factory=lambda: ServerSentEvent(comment="keep-alive"),
        send_timeout=SEND_TIMEOUT_S,
    )


async def _start(services: Services, last: str | None) -> int:
    """Return the event id to continue after: the client's, unless this store never issued it."""
    newest = await run_in_threadpool(services.store.events.newest)
    if last is None or not last.isdecimal() or len(last) > 18:
        return newest
    # A store that was restored from a backup issues ids again that a reader has seen.
    return min(int(last), newest)


async def _stream(
    services: Services, after: int, actions: Sequence[str], states: Sequence[str]
) -> AsyncIterator[ServerSentEvent | bytes]:
    waiter = services.streams.open(at_once(states), "events")
    # Sent at once, so that a reader knows that it is connected, and where to resume.
    yield ServerSentEvent(comment="connected", id=str(after))
    try:
        while not services.streams.closed:
            waiter.woken.clear()
            page = await services.threads.run(
                partial(
                    services.store.events.after, after, actions=actions, states=states, limit=PAGE
                )
            )
            after = page.upto
            if page.events:
                # In one write: a thousand small ones would cost more than all the rest.
                yield b"".join(_encode(stored) for stored in page.events)
            if not page.more:
                await _wait(waiter)
    except StoreError as error:
        log_cut(waiter, error)
    finally:
        services.streams.leave(waiter)


async def _sums(services: Services, after: int) -> AsyncIterator[ServerSentEvent | bytes]:
    waiter = services.streams.open(_DELAYS, "changes")
    yield ServerSentEvent(comment="connected", id=str(after))
    try:
        while not services.streams.closed:
            waiter.woken.clear()
            page = await services.threads.run(partial(services.store.events.changes, after))
            after = page.upto
            if page.changes != _NOTHING:
                data = page.changes.model_dump_json()
                yield ServerSentEvent(data=data, id=str(after), event="changes").encode()
            await _wait(waiter)
    except StoreError as error:
        log_cut(waiter, error)
    finally:
        services.streams.leave(waiter)


def _encode(stored: StoredEvent) -> bytes:
    data = stored.event.model_dump_json()
    return ServerSentEvent(data=data, id=str(stored.id), event="job").encode()


async def _wait(waiter: Waiter) -> None:
    try:
        await asyncio.wait_for(waiter.woken.wait(), POLL_S)
    except TimeoutError:
        return
