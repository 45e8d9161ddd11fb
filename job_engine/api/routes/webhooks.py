"""Messages of the action that delivers webhooks: take what is due, report the results."""

from __future__ import annotations

from fastapi import APIRouter

from job_engine.api.identity import EXECUTOR
from job_engine.api.openapi.answers import also
from job_engine.api.routes.common import Caller, Shared, StrictRoute, allow
from job_engine.model.webhooks import (
    ResultsReply,
    ResultsRequest,
    SignedMessage,
    TakeReply,
    TakeRequest,
)
from job_engine.store.webhooks.deliveries import DueMessage
from job_engine.store.webhooks.results import Claimed
from job_engine.webhooks import signed_headers

router = APIRouter(prefix="/api/engine/webhooks", tags=["engine"], route_class=StrictRoute)


@router.post("/take", responses=also(409))
def take(request: TakeRequest, services: Shared, who: Caller) -> TakeReply:
    """Hand out what is due, signed."""
    allow(who, EXECUTOR)
    claim = Claimed(request.job, request.fence, who.user_id)
    taken = services.store.deliveries.take(claim, closing=request.closing)
    now_s = services.store.clock() // 1000
    return TakeReply(messages=[_signed(item, now_s) for item in taken])


@router.post("/results", responses=also(409))
def results(request: ResultsRequest, services: Shared, who: Caller) -> ResultsReply:
    """Take what became of messages."""
    allow(who, EXECUTOR)
    claim = Claimed(request.job, request.fence, who.user_id)
    return ResultsReply(written=list(services.store.deliveries.settle(claim, request.results)))


def _signed(item: DueMessage, now_s: int) -> SignedMessage:
    delivery = item.delivery
    message_id = str(delivery["id"]).partition("/")[2]
    return SignedMessage(
        delivery=delivery["id"],
        attempt=item.attempt,
        url=delivery["url"],
        headers=signed_headers(item.secret, message_id, now_s, delivery["body"]),
        body=delivery["body"],
    )
