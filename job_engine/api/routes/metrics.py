"""Metrics for Prometheus: for admins, and for addresses that the operator names."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from job_engine.api.errors import RequestForbiddenError
from job_engine.api.metrics import CONTENT_TYPE
from job_engine.api.openapi.answers import answer
from job_engine.api.openapi.schemas import STRING
from job_engine.api.routes.common import Caller, Shared
from job_engine.api.services import Services

router = APIRouter(prefix="/api", tags=["metrics"])

_REFUSED: Final = (
    "credentials required: metrics are for admins, and for addresses that `metrics_peers` names"
)


@router.get("/metrics", response_class=Response, responses={200: answer(200, STRING, "text/plain")})
async def metrics(request: Request, services: Shared, who: Caller) -> Response:
    """Return the metrics in the text format of Prometheus."""
    if not (who.is_admin or _is_metrics_peer(services, request)):
        raise RequestForbiddenError(_REFUSED)
    text = await services.threads.run(services.metrics.render)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


def _is_metrics_peer(services: Services, request: Request) -> bool:
    """Return whether a request comes from an address that may read metrics without a login.

    False for a request that was forwarded by a proxy that is not trusted: it may come from
    anywhere.
    """
    peer = request.client.host if request.client else ""
    passed_on = any(name in request.headers for name in ("x-forwarded-for", "forwarded", "via"))
    if passed_on and peer not in services.trusted:
        return False
    return services.address_of(request) in services.metrics_peers
