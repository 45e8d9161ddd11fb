"""The API's streams of server-sent events, followed across broken connections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

import requests
import sseclient

from job_engine.client.api import Api
from job_engine.log import get_logger
from job_engine.model.protocol import Changes, JobEvent, Message

log = get_logger(__name__)

M = TypeVar("M", bound=Message)

READ_TIMEOUT_S: Final = 40.0
"""The API sends a comment every 15 s; a stream that is silent for longer is dead."""

RECONNECT_S: Final = 0.5


class Stream(Generic[M]):
    """Calls `on_message` for every message of a stream, from a thread of its own.

    It resumes where it broke off (`Last-Event-ID`). `on_gap` is called at each
    (re)connection: something may have been missed, so look for yourself.
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
        self._thread = threading.Thread(target=self._run, name="event-stream", daemon=True)

    def start(self) -> None:
        """Start following."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Stop following; waits no longer than that."""
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
                # A stream closed under urllib3's feet surfaces as an AttributeError.
                if not self._stopping.is_set():
                    log.info("events.interrupted", error=str(error))
            except Exception:
                # Without this thread nobody would hear of a cancel again.
                log.exception("events.failed")
            self._stopping.wait(RECONNECT_S)

    def _follow(self) -> None:
        headers = {"Accept": "text/event-stream"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        with self._api.session.request(
            "GET",
            f"{self._api.endpoint}/api/engine/{self._path}",
            headers=headers,
            params=self._params,
            stream=True,
            timeout=(3.05, READ_TIMEOUT_S),
        ) as response:
            response.raise_for_status()
            self._response = response
            self._on_gap()
            for event in sseclient.SSEClient(response).events():
                if self._stopping.is_set():
                    return
                if event.id:
                    self._last_id = event.id
                if event.data:
                    self._on_message(self._kind.model_validate_json(event.data))


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
    """Follow what leaders have to look at."""
    return Stream(api, "changes", Changes, on_changes, on_gap)


def _shut(response: requests.Response) -> None:
    """Wake the thread that reads the stream: closing alone waits for its next byte."""
    connection = getattr(response.raw, "_connection", None) or getattr(
        response.raw, "connection", None
    )
    sock = getattr(connection, "sock", None)
    if sock is not None:
        try:
            sock.shutdown(2)
        except OSError:
            return
