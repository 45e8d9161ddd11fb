"""The API's messages for executors, distributors and operators, one method each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from job_engine.client.transport import Transport, one_each, parsed
from job_engine.model import Fence
from job_engine.model.protocol.actions import (
    ActionDescription,
    ActionsRequest,
    ScheduleReply,
    ScheduleRequest,
)
from job_engine.model.protocol.claims import (
    ClaimReplies,
    ClaimReply,
    ClaimRequest,
    ReportReceipt,
    ReportReplies,
    ReportRequest,
    TokenReply,
    TokenRequest,
)
from job_engine.model.protocol.feed import (
    EntriesReply,
    EntriesRequest,
    EntryItem,
    FeedReply,
    ForeignRun,
    ForeignRuns,
    IncarnationReply,
    RecordedEntries,
    Share,
    SharesReply,
)
from job_engine.model.protocol.upkeep import (
    CancelChildrenReply,
    CancelChildrenRequest,
    CleanupReply,
    CleanupRequest,
    OrphansReply,
    OrphansRequest,
    SweepReply,
)
from job_engine.model.webhooks import (
    ResultsReply,
    ResultsRequest,
    SendResult,
    SignedMessage,
    TakeReply,
    TakeRequest,
)


class ServiceCalls(Transport):
    """The engine's own calls; all are safe to repeat, by fences and compare-and-set."""

    # --- the executor's calls -------------------------------------------------

    def claim(self, request: ClaimRequest) -> list[ClaimReply]:
        """Ask what to do with claimed entries."""
        replies = self._post("engine/claim", request, ClaimReplies).replies
        return one_each(replies, request.claims)

    def report(self, request: ReportRequest, retry_s: float | None = None) -> list[ReportReceipt]:
        """Write progress, outcomes, retries and releases, each with its fence."""
        receipts = self._post("engine/report", request, ReportReplies, retry_s).receipts
        return one_each(receipts, request.reports)

    def publish_actions(self, actions: Sequence[ActionDescription]) -> None:
        """Publish the actions of this executor."""
        body = ActionsRequest(actions=list(actions))
        self._call("PUT", "engine/actions", body=body)

    def claim_token(self, job: str, fence: Fence) -> str:
        """Get a token that lets its holder add to the log of a job that we run."""
        body = TokenRequest(job=job, fence=fence)
        return self._post("engine/token", body, TokenReply).token

    def cleanup(self, older_than_s: float) -> int:
        """Delete final jobs older than `older_than_s`; return how many there were."""
        body = CleanupRequest(older_than_s=older_than_s)
        return self._post("engine/cleanup", body, CleanupReply).deleted

    def cancel_children(self, job: str) -> int:
        """Cancel the children of a cancelled job; return how many there were."""
        body = CancelChildrenRequest(job=job)
        return self._post("engine/cancel-children", body, CancelChildrenReply).cancelled

    def take_webhooks(
        self, job: str, fence: Fence, *, closing: bool = False
    ) -> list[SignedMessage]:
        """Get webhooks to send now; none: nothing is due, or the sender is closing."""
        body = TakeRequest(job=job, fence=fence, closing=closing)
        return self._post("engine/webhooks/take", body, TakeReply).messages

    def settle_webhooks(self, job: str, fence: Fence, results: Sequence[SendResult]) -> list[bool]:
        """Report results of webhooks; false for messages that this claim no longer holds."""
        body = ResultsRequest(job=job, fence=fence, results=list(results))
        return self._post("engine/webhooks/results", body, ResultsReply).written

    # --- the distributor's calls ----------------------------------------------

    def actions(self) -> list[ActionDescription]:
        """Return every action that an executor has published."""
        return self._get("engine/actions", ActionsRequest).actions

    def feed(self, action: str, window: int, version: int) -> FeedReply:
        """Return the jobs to push, so that `window` entries of the action wait.

        Jobs with a version above `version` are left out.
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
        """Yield the recorded entries of the action's unfinished jobs, page by page."""
        after: str | None = ""
        while after is not None:
            page = self._get("engine/entries", RecordedEntries, action=action, after=after)
            yield from page.entries
            after = page.next

    def foreign_runs(self, action: str, silent_s: float) -> list[ForeignRun]:
        """Return jobs of foreign consumers without a change for `silent_s` seconds."""
        return self._get("engine/foreign", ForeignRuns, action=action, silent_s=silent_s).runs

    def requeue(self, runs: Sequence[ForeignRun]) -> list[bool]:
        """Queue jobs of silent foreign consumers again, unless they have changed since."""
        return self._post("engine/foreign", ForeignRuns(runs=list(runs)), EntriesReply).written

    def draw_incarnation(self) -> int:
        """Draw a new incarnation, greater than all before."""
        return parsed(self._call("POST", "engine/incarnation"), IncarnationReply).incarnation

    def schedule(self, action: str, tick_ms: int) -> ScheduleReply:
        """Create the scheduled job of this tick, unless there is one."""
        body = ScheduleRequest(action=action, tick_ms=tick_ms)
        return self._post("engine/schedule", body, ScheduleReply)

    def fail_orphans(self, live_actions: Sequence[str], grace_s: float) -> int:
        """Fail waiting jobs whose action no live executor has."""
        body = OrphansRequest(live_actions=list(live_actions), grace_s=grace_s)
        return self._post("engine/orphans", body, OrphansReply).failed

    def sweep(self) -> SweepReply:
        """Fail expired jobs, and delete outdated data."""
        return parsed(self._call("POST", "engine/sweep"), SweepReply)

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
