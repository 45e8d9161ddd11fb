"""The API's client without the wire: the store behind a net that loses things."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from job_engine.errors import ApiUnavailableError
from job_engine.model.protocol.actions import ActionDescription, ScheduleReply
from job_engine.model.protocol.claims import ClaimReply, ClaimRequest, ReportReceipt, ReportRequest
from job_engine.model.protocol.feed import EntryItem, FeedReply, ForeignRun
from tests.contract.protocol.book import SILENT_S, Book
from tests.contract.protocol.small_client import Fault, Net

T = TypeVar("T")

_DESCRIBED: Final = [
    ActionDescription(name=name, payload_schema={}, timeout_s=SILENT_S)
    for name in ("one", "two", "noop", "other")
]


class StoreApi:
    """What executors and leaders call; every answer is held against the book.

    A request that is lost may be only late: it is kept, and delivered when a test says.
    """

    def __init__(self, book: Callable[[], Book], net: Net) -> None:
        self._book = book
        self._net = net
        self.late: list[Callable[[], object]] = []
        self.faults: dict[str, Fault] = {}
        """What becomes of the next call of a name."""
        self.before: dict[str, Callable[[], None]] = {}
        """What happens before the next call of a name."""

    def _call(self, name: str, act: Callable[[], T]) -> T:
        self.before.pop(name, lambda: None)()
        if name in self.faults:
            self._net.faults.insert(0, self.faults.pop(name))
        if self._net.faults and self._net.faults[0] is Fault.REQUEST_LOST:
            self.late = [*self.late[-2:], act]
        return self._net.carry(act, ApiUnavailableError, again=True)

    # --- executors ------------------------------------------------------------

    def ready(self) -> bool:
        """See `Api`."""
        try:
            return self._call("ready", lambda: True)
        except ApiUnavailableError:
            return False

    def publish_actions(self, _actions: Sequence[ActionDescription]) -> None:
        """See `Api`."""
        self._call("publish_actions", lambda: None)

    def claim(self, request: ClaimRequest) -> list[ClaimReply]:
        """See `Api`."""
        return self._call("claim", lambda: self._book().claim(request))

    def report(self, request: ReportRequest, retry_s: float | None = None) -> list[ReportReceipt]:
        """See `Api`."""
        return self._call("report", lambda: self._book().report(request.reports))

    def close(self) -> None:
        """See `Api`."""

    # --- leaders --------------------------------------------------------------

    def feed(self, action: str, window: int, newest_version: int = 2) -> FeedReply:
        """See `Api`."""
        return self._call("feed", lambda: self._book().feed(action, window))

    def pushed(self, entries: Sequence[EntryItem]) -> Sequence[bool]:
        """See `Api`."""
        return self._call("pushed", lambda: self._book().pushed(entries))

    def cleared(self, entries: Sequence[EntryItem]) -> Sequence[bool]:
        """See `Api`."""
        return self._call("cleared", lambda: self._book().cleared(entries))

    def recorded_entries(self, action: str) -> Iterator[EntryItem]:
        """See `Api`."""
        yield from self._call(
            "recorded_entries", lambda: self._book().store.feed.entries(action, "")
        ).entries

    def draw_incarnation(self) -> int:
        """See `Api`."""
        return self._call("draw_incarnation", self._book().store.counters.draw_incarnation)

    def foreign_runs(self, action: str, silent_s: float) -> Sequence[ForeignRun]:
        """See `Api`."""
        return self._call(
            "foreign_runs", lambda: self._book().store.foreign.silent(action, silent_s)
        )

    def requeue(self, runs: Sequence[ForeignRun]) -> Sequence[bool]:
        """See `Api`."""
        return self._call("requeue", lambda: self._book().requeue(runs))

    def actions(self) -> list[ActionDescription]:
        """See `Api`."""
        return self._call("actions", lambda: _DESCRIBED)

    def schedule(self, _action: str, _tick_ms: int) -> ScheduleReply:
        """See `Api`."""
        raise AssertionError("nothing is scheduled here")
