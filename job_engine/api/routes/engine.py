"""The rarer messages of executors and distributors (`model/protocol/`).

`messages.py` has those that are sent for every job. Most routes are plain functions, which
FastAPI runs in its thread pool, so that the event loop never waits for the store.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query

from job_engine.api.identity import DISTRIBUTOR, EXECUTOR
from job_engine.api.jobs.children import cancel_children
from job_engine.api.jobs.scheduled import scheduled_job
from job_engine.api.jobs.schema_bounds import check_published
from job_engine.api.openapi.answers import also
from job_engine.api.routes.common import (
    Caller,
    Shared,
    StrictRoute,
    allow,
)
from job_engine.model.acl import ADMIN
from job_engine.model.protocol.actions import ActionsRequest, ScheduleReply, ScheduleRequest
from job_engine.model.protocol.claims import TokenReply, TokenRequest
from job_engine.model.protocol.feed import (
    EntriesReply,
    EntriesRequest,
    FeedReply,
    ForeignRuns,
    IncarnationReply,
    RecordedEntries,
    Share,
    SharesReply,
)
from job_engine.model.protocol.message import BATCH_LIMIT
from job_engine.model.protocol.upkeep import (
    CancelChildrenReply,
    CancelChildrenRequest,
    CleanupReply,
    CleanupRequest,
    OrphansReply,
    OrphansRequest,
    SweepReply,
)
from job_engine.store.fair_share.refill import ANY_VERSION

PREFIX: Final = "/api/engine"

router = APIRouter(prefix=PREFIX, tags=["engine"], route_class=StrictRoute)

MIN_AGE_S: Final = 86_400.0
"""Least age, in seconds, of jobs to clean up: an executor's key must not empty the store."""
MAX_GRACE_S: Final = 1e9
"""Longest grace period in seconds; larger numbers do not fit a column."""

Window = Annotated[int, Query(ge=0, le=10 * BATCH_LIMIT)]
Version = Annotated[int, Query(ge=0, le=ANY_VERSION)]
Name = Annotated[str, Query(min_length=1)]
Silence = Annotated[float, Query(ge=0, le=MAX_GRACE_S)]


@router.put("/actions")
def publish_actions(request: ActionsRequest, services: Shared, who: Caller) -> ActionsRequest:
    """Store an executor's descriptions of its actions; answer with those of all actions."""
    allow(who, EXECUTOR)
    for description in request.actions:
        check_published(description)
    services.store.actions.publish(request.actions, opens=who.is_admin)
    return ActionsRequest(actions=list(services.store.actions.all()))


@router.get("/actions")
def known_actions(services: Shared, who: Caller) -> ActionsRequest:
    """Return the descriptions of all actions."""
    allow(who, "group/nuvla-user", EXECUTOR, DISTRIBUTOR)
    return ActionsRequest(actions=list(services.store.actions.all()))


@router.get("/feed")
async def feed(
    action: Name, window: Window, services: Shared, who: Caller, version: Version = ANY_VERSION
) -> FeedReply:
    """Return the jobs to push now."""
    allow(who, DISTRIBUTOR)
    return await services.threads.run(lambda: services.store.feed.feed(action, window, version))


@router.post("/cleared")
def cleared(request: EntriesRequest, services: Shared, who: Caller) -> EntriesReply:
    """Clear recorded entries that are no longer in the queue."""
    allow(who, DISTRIBUTOR)
    return EntriesReply(written=list(services.store.feed.cleared(request.entries)))


@router.get("/entries")
def entries(
    action: Name, services: Shared, who: Caller, after: str | None = None
) -> RecordedEntries:
    """Return a page of recorded entries."""
    allow(who, DISTRIBUTOR)
    return services.store.feed.entries(action, after)


@router.get("/foreign")
def foreign(action: Name, silent_s: Silence, services: Shared, who: Caller) -> ForeignRuns:
    """Return foreign runs without a change for `silent_s` seconds."""
    allow(who, DISTRIBUTOR)
    return ForeignRuns(runs=list(services.store.foreign.silent(action, silent_s)))


@router.post("/foreign")
def requeue(request: ForeignRuns, services: Shared, who: Caller) -> EntriesReply:
    """Queue the jobs of silent foreign runs again, unless they have changed."""
    allow(who, DISTRIBUTOR)
    return EntriesReply(written=list(services.store.foreign.requeue(request.runs)))


@router.post("/incarnation")
def incarnation(services: Shared, who: Caller) -> IncarnationReply:
    """Draw an incarnation that is greater than all earlier ones."""
    allow(who, DISTRIBUTOR)
    return IncarnationReply(incarnation=services.store.counters.draw_incarnation())


@router.post("/schedule")
def schedule(request: ScheduleRequest, services: Shared, who: Caller) -> ScheduleReply:
    """Create the job of a tick, unless there is one."""
    allow(who, DISTRIBUTOR)
    return services.store.schedules.schedule(
        request.action, request.tick_ms, lambda: scheduled_job(request.action, who)
    )


@router.post("/orphans")
def orphans(request: OrphansRequest, services: Shared, who: Caller) -> OrphansReply:
    """Fail waiting jobs whose action no live executor has."""
    allow(who, DISTRIBUTOR)
    grace_s = min(request.grace_s, MAX_GRACE_S)
    failed = services.store.feed.fail_orphans(request.live_actions, grace_s)
    return OrphansReply(failed=failed)


@router.post("/sweep")
def sweep(services: Shared, who: Caller) -> SweepReply:
    """Fail expired jobs, and delete outdated data."""
    allow(who, DISTRIBUTOR)
    services.store.estimates.prune()
    services.store.feed.forget_caught_up()
    services.store.deliveries.watch_over()
    services.store.jobs.forget_audiences()
    services.store.audit.forget_older(services.settings.audit_s)
    return SweepReply(
        expired=services.store.expiry.fail_expired(),
        keys=services.store.idempotency.forget_old(),
    )


@router.get("/shares")
def list_shares(services: Shared, who: Caller, after: str | None = None) -> SharesReply:
    """Return a page of the shares that have a weight of their own."""
    allow(who, ADMIN)
    return services.store.shares.list(after)


@router.put("/shares")
def set_share(request: Share, services: Shared, who: Caller) -> Share:
    """Set the weight of a share; it applies to waiting jobs too."""
    allow(who, ADMIN)
    services.store.shares.set_weight(request)
    return request


@router.post("/cleanup")
def cleanup(request: CleanupRequest, services: Shared, who: Caller) -> CleanupReply:
    """Delete final jobs of at least this age; the least age is one day."""
    allow(who, EXECUTOR)
    age_s = max(request.older_than_s, MIN_AGE_S)
    return CleanupReply(deleted=services.store.jobs.delete_old(age_s))


@router.post("/cancel-children", responses=also(404, 409))
def cancel_children_of(
    request: CancelChildrenRequest, services: Shared, who: Caller
) -> CancelChildrenReply:
    """Cancel the unfinished children of a cancelled job."""
    allow(who, EXECUTOR)
    return CancelChildrenReply(cancelled=cancel_children(services.store, who, request.job))


@router.post("/token")
def token(request: TokenRequest, services: Shared, who: Caller) -> TokenReply:
    """Return a token for a claim; it is valid only while that claim runs the job."""
    allow(who, EXECUTOR)
    token = services.claim_tokens.issue(request.job, request.fence, who.creator)
    return TokenReply(token=token)
