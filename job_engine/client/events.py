"""The API's streams of server-sent events, followed across broken connections."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import requests

from job_engine.client.api import Api
from job_engine.client.retries import reason_of
from job_engine.client.transport import CONNECT_TIMEOUT_S, accepted
from job_engine.errors import ApiUnavailableError
from job_engine.log import get_logger
from job_engine.model import JobState
from job_engine.model.protocol.events import Changes, JobEvent
from job_engine.model.protocol.message import Message

log = get_logger(__name__)

M = TypeVar("M", bound=Message)

READ_TIMEOUT_S: Final = 40.0
"""The API sends a comment every 15 s; a stream that is silent for longer is dead."""

RECONNECT_S: Final = 0.5


class Stream(Generic[M]):
    """Calls `on_message` for every message of a stream, from a thread of its own.

    It resumes after the last event (`Last-Event-ID`). `on_gap` is called after each
    (re)connection, because events may have been missed.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        kind: type[M],
        on_message: Callable[[M], None],
        on_gap: Callable[[], None],
        params: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._api = api
        self._path = path
        self._kind = kind
        self._on_message = on_message
        self._on_gap = on_gap
        self._params = dict(params or {})
        self._last_id: str | None = None
        self._stopping = threading.Event()
        self._response: requests.Response | None = None
        self._interrupted = False
        self._thread = threading.Thread(target=self._run, name="event-stream", daemon=True)

    def start(self) -> None:
        """Start following."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop following; wait up to `timeout_s` for the thread."""
        self._stopping.set()
        response = self._response
        if response is not None:
            _shut(response)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except (requests.RequestException, OSError, AttributeError, ValueError) as error:
                # Closing the stream from another thread makes urllib3 raise AttributeError.
                # Logged once an outage, because it reconnects twice a second.
                if not self._stopping.is_set() and not self._interrupted:
                    self._interrupted = True
                    if _is_refusal(error):
                        log.error("events.refused", stream=self._path, error=reason_of(error))
                    else:
                        log.info("events.interrupted", stream=self._path, error=reason_of(error))
            except Exception:
                # The thread must survive: without it no cancel would arrive any more.
                log.exception("events.failed")
            self._stopping.wait(RECONNECT_S)

    def _follow(self) -> None:
        with _opened(
            self._api, f"/api/engine/{self._path}", self._last_id, self._params
        ) as response:
            response.raise_for_status()
            self._response = response
            if self._interrupted:
                self._interrupted = False
                log.info("events.resumed", stream=self._path)
            self._on_gap()
            for event_id, data in whole_events(response):
                if self._stopping.is_set():
                    return
                self._last_id = event_id or self._last_id
                if data:
                    self._on_message(self._kind.model_validate_json(data))


@dataclass(frozen=True)
class SeenEvent:
    """An event of the stream, with the id after which to resume."""

    id: str
    event: JobEvent


def follow_events(
    api: Api,
    *,
    actions: Sequence[str] = (),
    states: Sequence[JobState | str] = (),
    after: str | None = None,
) -> Iterator[SeenEvent]:
    """Yield job events as they happen, without end; for services and admins.

    A broken connection is resumed. To resume after a restart, pass the `id` of the last event
    that you have processed as `after`; without it the stream begins now. Raises `RefusedError`
    for a caller without the right, and `ApiUnavailableError` when the client is closed.
    """
    params = {"action": list(actions), "state": [str(state) for state in states]}
    last = after
    while True:
        try:
            with _opened(api, "/api/engine/events", last, params) as response:
                if response.status_code < 500:
                    accepted(response)
                response.raise_for_status()
                for event_id, data in whole_events(response):
                    last = event_id or last
                    if data and last is not None:
                        yield SeenEvent(last, JobEvent.model_validate_json(data))
        except (requests.RequestException, OSError, AttributeError) as error:
            log.info("events.interrupted", error=reason_of(error))
        api.pause(RECONNECT_S)


@dataclass(frozen=True)
class Seen:
    """An item of a job's stream: `log`, `phase`, `test`, `output`, `job` or `end`."""

    kind: str
    data: dict[str, Any]
    offset: str | None
    """The offset after which to resume; None: that of the item before."""


def follow_job(
    api: Api, job: str, after: str | None = None, *, patience_s: float = math.inf
) -> Iterator[Seen]:
    """Yield the items of a job's stream, from its start or `after` an offset, to its end.

    The last item is `end`. A broken connection is resumed, for up to `patience_s` seconds
    without an event from the API. Raises `RefusedError` for a caller who may not read the job, and
    `ApiUnavailableError` when the API stays away for longer, or the client is closed.
    """
    last = after
    away_since: float | None = None
    while True:
        reason = "it ended"
        try:
            with _opened(api, f"/api/{job}/stream", last, {}) as response:
                if response.status_code < 500 and response.status_code != requests.codes.too_many:
                    accepted(response)
                response.raise_for_status()
                if response.status_code == requests.codes.no_content:
                    return  # its end was seen before
                for event_id, kind, data in named_events(response):
                    away_since = None
                    last = event_id or last
                    if data:
                        yield Seen(kind, json.loads(data), event_id)
                    if kind == "end":
                        return
        except (requests.RequestException, OSError, AttributeError) as error:
            reason = reason_of(error)
            log.info("stream.interrupted", job=job, error=reason)
        # From the first failure on: the caller may have paused for long between two items.
        now = time.monotonic()
        away_since = now if away_since is None else away_since
        if now - away_since > patience_s:
            raise ApiUnavailableError(f"The stream of {job} broke: {reason}")
        api.pause(RECONNECT_S)


def _is_refusal(error: Exception) -> bool:
    response = error.response if isinstance(error, requests.HTTPError) else None
    return response is not None and response.status_code == requests.codes.forbidden


@contextmanager
def _opened(
    api: Api, path: str, last_id: str | None, params: Mapping[str, Sequence[str]]
) -> Iterator[requests.Response]:
    headers = {"Accept": "text/event-stream"}
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    with api.session.request(
        "GET",
        f"{api.endpoint}{path}",
        headers=headers,
        params=params,
        stream=True,
        timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
    ) as response:
        yield response


def whole_events(chunks: Iterable[bytes]) -> Iterator[tuple[str | None, str]]:
    """Yield id and data of server-sent events, of those without data too.

    An incomplete event at the end of a broken connection is dropped: its id would mark it as
    seen, and it would never be sent again. An event without data only has the first id.
    """
    for event_id, _, data in named_events(chunks):
        yield event_id, data


def named_events(chunks: Iterable[bytes]) -> Iterator[tuple[str | None, str, str]]:
    """Yield id, name and data of server-sent events; see `whole_events`."""
    pending = b""
    for chunk in chunks:
        *whole, pending = (pending + chunk).replace(b"\r\n", b"\n").split(b"\n\n")
        for block in whole:
            fields = [line.partition(":") for line in block.decode().split("\n")]
            values: dict[str, list[str]] = {"id": [], "event": [], "data": []}
            for name, _, value in fields:
                if name in values:
                    values[name].append(value.removeprefix(" "))
            event_id = values["id"][-1] if values["id"] else None
            yield event_id, "".join(values["event"][-1:]), "\n".join(values["data"])


def event_stream(
    api: Api,
    on_event: Callable[[JobEvent], None],
    on_gap: Callable[[], None],
    params: Mapping[str, Sequence[str]] | None = None,
) -> Stream[JobEvent]:
    """Follow every job event; `params` (`action`, `state`) narrow it."""
    return Stream(api, "events", JobEvent, on_event, on_gap, params)


def change_stream(
    api: Api, on_changes: Callable[[Changes], None], on_gap: Callable[[], None]
) -> Stream[Changes]:
    """Follow the summaries for leaders (`Changes`)."""
    return Stream(api, "changes", Changes, on_changes, on_gap)


def _shut(response: requests.Response) -> None:
    """Shut the socket down, which wakes the reading thread; closing alone would not."""
    connection = getattr(response.raw, "_connection", None) or getattr(
        response.raw, "connection", None
    )
    sock = getattr(connection, "sock", None)
    if sock is not None:
        try:
            sock.shutdown(2)
        except OSError:
            return
