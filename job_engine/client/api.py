"""The API's client: `nuvla.api.Api`, and what executors, distributors and people add to it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import requests
from nuvla.api import Api as NuvlaApi
from pydantic import BaseModel, ValidationError
from requests.adapters import HTTPAdapter
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    stop_when_event_set,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event

from job_engine.client.credentials import login_credentials
from job_engine.errors import ApiError, ApiUnavailableError, PlatformFaultError
from job_engine.model import Fence
from job_engine.model.protocol import (
    ActionDescription,
    ActionsRequest,
    CancelChildrenReply,
    CancelChildrenRequest,
    ClaimReplies,
    ClaimReply,
    ClaimRequest,
    CleanupReply,
    CleanupRequest,
    EntriesReply,
    EntriesRequest,
    EntryItem,
    FeedReply,
    ForeignRun,
    ForeignRuns,
    IncarnationReply,
    OrphansReply,
    OrphansRequest,
    Receipt,
    RecordedEntries,
    ReportReplies,
    ReportRequest,
    ScheduleReply,
    ScheduleRequest,
    Share,
    SharesReply,
    SweepReply,
    TokenReply,
    TokenRequest,
)
from job_engine.model.webhooks import (
    ResultsReply,
    ResultsRequest,
    SendResult,
    SignedMessage,
    TakeReply,
    TakeRequest,
)
from job_engine.settings import ConnectionSettings

REQUEST_TIMEOUT_S: Final = (3.05, 15.0)
"""Seconds to connect, and to wait for the next byte."""

TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})
"""Status codes after which the same request may do better."""

CHUNK: Final = 1 << 16

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class _FileBody:
    """A request body that is read from the file's start whenever it is sent.

    It is sent again after a new login and after a broken connection; a file object
    would go on from where it was left, which is its end.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        return self._path.stat().st_size

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb") as source:
            while chunk := source.read(CHUNK):
                yield chunk


class _TransientError(Exception):
    """A request that may be sent again."""


class Api(NuvlaApi):  # type: ignore[misc]
    """A `nuvla.api.Api` for this engine; threads may share it.

    Everything of the parent works unchanged. The methods here are retried with
    back-off while the API does not answer, for `retry_s` seconds in all, then raise
    `ApiUnavailableError`; what the API refuses raises `ApiError`. All of them may
    safely be sent twice: fences, compare-and-set and digests make them idempotent.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        credentials: dict[str, str] | None = None,
        insecure: bool = False,
        retry_s: float = 30.0,
    ) -> None:
        super().__init__(
            endpoint=endpoint,
            insecure=insecure or endpoint.startswith("http://"),
            persist_cookie=False,
            reauthenticate=True,
            login_creds=credentials,
        )
        self._retry_s = retry_s
        self._closing = threading.Event()
        adapter = HTTPAdapter(pool_maxsize=64)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)

    @classmethod
    def from_settings(cls, settings: ConnectionSettings) -> Api:
        """Make a client that logs in with the key of these settings."""
        return cls(
            settings.api_url,
            credentials=login_credentials(settings),
            insecure=settings.api_insecure,
            retry_s=settings.api_retry_s,
        )

    def close(self) -> None:
        """End retries and connections; a call in progress raises `ApiUnavailableError`."""
        self._closing.set()
        self.session.close()

    # --- the executor's calls -------------------------------------------------

    def claim(self, request: ClaimRequest) -> list[ClaimReply]:
        """Ask what to do with claimed entries."""
        replies = self._post("engine/claim", request, ClaimReplies).replies
        return _one_each(replies, request.claims)

    def report(self, request: ReportRequest, retry_s: float | None = None) -> list[Receipt]:
        """Write progress, outcomes, retries and releases, each with its fence."""
        receipts = self._post("engine/report", request, ReportReplies, retry_s).receipts
        return _one_each(receipts, request.reports)

    def publish_actions(self, actions: Sequence[ActionDescription]) -> None:
        """Tell the API which actions this executor has."""
        body = ActionsRequest(actions=list(actions))
        self._call("PUT", "engine/actions", body=body)

    def claim_token(self, job: str, fence: Fence) -> str:
        """Get a token that lets its holder add to the log of a job that we run."""
        body = TokenRequest(job=job, fence=fence)
        return self._post("engine/token", body, TokenReply).token

    def cleanup(self, older_than_s: float) -> int:
        """Delete final jobs created that long ago; returns how many there were."""
        body = CleanupRequest(older_than_s=older_than_s)
        return self._post("engine/cleanup", body, CleanupReply).deleted

    def cancel_children(self, job: str) -> int:
        """Cancel what a cancelled job had started; returns how many there were."""
        body = CancelChildrenRequest(job=job)
        return self._post("engine/cancel-children", body, CancelChildrenReply).cancelled

    def take_webhooks(
        self, job: str, fence: Fence, *, closing: bool = False
    ) -> list[SignedMessage]:
        """Get webhooks to send now; none: nothing is due, or the sender is closing."""
        body = TakeRequest(job=job, fence=fence, closing=closing)
        return self._post("engine/webhooks/take", body, TakeReply).messages

    def settle_webhooks(self, job: str, fence: Fence, results: Sequence[SendResult]) -> list[bool]:
        """Tell what became of webhooks; false for those that are somebody else's by now."""
        body = ResultsRequest(job=job, fence=fence, results=list(results))
        return self._post("engine/webhooks/results", body, ResultsReply).written

    # --- the distributor's calls ----------------------------------------------

    def actions(self) -> list[ActionDescription]:
        """Every action that an executor ever published."""
        return self._get("engine/actions", ActionsRequest).actions

    def feed(self, action: str, window: int, version: int) -> FeedReply:
        """What to push now, so that `window` entries of the action wait.

        Jobs of a version beyond `version` are passed over.
        """
        return self._get("engine/feed", FeedReply, action=action, window=window, version=version)

    def pushed(self, entries: Sequence[EntryItem]) -> list[bool]:
        """Record entries on their jobs; false where the job has one, or is not QUEUED."""
        return self._post(
            "engine/pushed", EntriesRequest(entries=list(entries)), EntriesReply
        ).written

    def cleared(self, entries: Sequence[EntryItem]) -> list[bool]:
        """Forget entries that are gone, where they are still the recorded ones."""
        return self._post(
            "engine/cleared", EntriesRequest(entries=list(entries)), EntriesReply
        ).written

    def recorded_entries(self, action: str) -> Iterator[EntryItem]:
        """Entries on the action's jobs that are not final, page by page."""
        after: str | None = ""
        while after is not None:
            page = self._get("engine/entries", RecordedEntries, action=action, after=after)
            yield from page.entries
            after = page.next

    def foreign_runs(self, action: str, silent_s: float) -> list[ForeignRun]:
        """Jobs that a foreign consumer runs, and that nobody has touched for so long."""
        return self._get("engine/foreign", ForeignRuns, action=action, silent_s=silent_s).runs

    def requeue(self, runs: Sequence[ForeignRun]) -> list[bool]:
        """Queue foreign runs again that have ended without a word, if nobody touched them since."""
        return self._post("engine/foreign", ForeignRuns(runs=list(runs)), EntriesReply).written

    def draw_incarnation(self) -> int:
        """Draw a number that no ZooKeeper had before."""
        return _parsed(self._call("POST", "engine/incarnation"), IncarnationReply).incarnation

    def schedule(self, action: str, tick_ms: int) -> ScheduleReply:
        """Create the scheduled job of this tick, unless there is one."""
        body = ScheduleRequest(action=action, tick_ms=tick_ms)
        return self._post("engine/schedule", body, ScheduleReply)

    def fail_orphans(self, live_actions: Sequence[str], grace_s: float) -> int:
        """Fail waiting jobs whose action no live executor has."""
        body = OrphansRequest(live_actions=list(live_actions), grace_s=grace_s)
        return self._post("engine/orphans", body, OrphansReply).failed

    def sweep(self) -> SweepReply:
        """Fail jobs that have expired, and forget what is out of date."""
        return _parsed(self._call("POST", "engine/sweep"), SweepReply)

    # --- the operator's calls -------------------------------------------------

    def shares(self) -> Iterator[Share]:
        """Every share that has a weight of its own, page by page."""
        after: str | None = ""
        while after is not None:
            page = self._get("engine/shares", SharesReply, after=after)
            yield from page.shares
            after = page.next

    def set_share(self, name: str, weight: float) -> None:
        """Give a share its weight."""
        self._call("PUT", "engine/shares", body=Share(name=name, weight=weight))

    # --- blobs ----------------------------------------------------------------

    def upload_blob(self, path: Path) -> str:
        """Upload a file; returns its digest, `sha256:<hex>`."""
        headers = {"Content-Type": "application/octet-stream"}
        reply = self._call("POST", "blob", data=_FileBody(path), headers=headers).json()
        return str(reply["digest"])

    def download_blob(self, digest: str, target: Path) -> None:
        """Write a blob to `target`, and check it against its digest on the way.

        Raises `PlatformFaultError` when what came is not what the digest names.
        """
        name = digest.removeprefix("sha256:")
        with self._call("GET", f"blob/{name}/content", stream=True) as response:
            running = hashlib.sha256()
            with target.open("wb") as sink:
                for chunk in response.iter_content(CHUNK):
                    running.update(chunk)
                    sink.write(chunk)
        if running.hexdigest() != name:
            target.unlink()
            raise PlatformFaultError(f"The blob {digest} arrived damaged.")

    # --- underneath -----------------------------------------------------------

    def ready(self) -> bool:
        """Whether the API answers right now; no retries."""
        try:
            response = self.session.get(
                f"{self.endpoint}/api/health/ready", timeout=REQUEST_TIMEOUT_S
            )
        except requests.RequestException:
            return False
        return bool(response.status_code == 200)

    def _post(self, path: str, body: BaseModel, kind: type[M], retry_s: float | None = None) -> M:
        return _parsed(self._call("POST", path, body=body, retry_s=retry_s), kind)

    def _get(self, path: str, kind: type[M], **params: Any) -> M:
        return _parsed(self._call("GET", path, params=params), kind)

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: BaseModel | None = None,
        data: _FileBody | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, Any] | None = None,
        stream: bool = False,
        retry_s: float | None = None,
    ) -> requests.Response:
        """Send one request, again and again while it is worth it."""
        headers = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
        payload = None if body is None else body.model_dump_json(exclude_none=True).encode()

        def attempt() -> requests.Response:
            try:
                response = self.session.request(
                    method,
                    f"{self.endpoint}/api/{path}",
                    data=payload if data is None else data,
                    headers=headers,
                    params=params,
                    stream=stream,
                    timeout=REQUEST_TIMEOUT_S,
                    allow_redirects=False,
                )
            except (requests.RequestException, OSError) as error:
                raise _TransientError(str(error)) from error
            if response.status_code in TRANSIENT:
                raise _TransientError(f"{response.status_code}: {response.text[:500]}")
            return _accepted(response)

        retrying = Retrying(
            retry=retry_if_exception_type(_TransientError),
            stop=stop_after_delay(self._retry_s if retry_s is None else retry_s)
            | stop_when_event_set(self._closing),
            wait=wait_random_exponential(multiplier=0.05, max=2.0),
            sleep=sleep_using_event(self._closing),
            retry_error_callback=_give_up,
        )
        answer: requests.Response = retrying(attempt)
        return answer


def _give_up(state: RetryCallState) -> requests.Response:
    cause = state.outcome.exception() if state.outcome else None
    raise ApiUnavailableError(f"The API does not answer: {cause}") from cause


def _parsed(response: requests.Response, kind: type[M]) -> M:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        # A proxy's page, or a version that speaks otherwise: nothing was said to us.
        raise ApiUnavailableError(f"What answers is not the API: {error}") from error


def _one_each(answers: list[T], asked: Sequence[object]) -> list[T]:
    if len(answers) != len(asked):
        raise ApiUnavailableError(f"The API gave {len(answers)} answers to {len(asked)} questions.")
    return answers


def _accepted(response: requests.Response) -> requests.Response:
    if response.status_code < 400:
        return response
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = response.text[:500]
    raise ApiError(f"The API refused ({response.status_code}): {message}")
