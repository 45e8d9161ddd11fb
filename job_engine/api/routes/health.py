"""Health probes: whether the process is alive, and ready. They need no login."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from job_engine.api.answers import json_response
from job_engine.api.openapi.answers import answer
from job_engine.api.openapi.schemas import Json
from job_engine.api.routes.common import Shared

router = APIRouter(prefix="/api/health", tags=["health"])

_READY: Final[Json] = {
    "type": "object",
    "properties": {"status": {"const": "ready"}},
    "required": ["status"],
}


@router.head("/live", include_in_schema=False)
@router.get("/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@router.head("/ready", include_in_schema=False)
@router.get("/ready", responses={200: answer(200, _READY)})
async def ready(services: Shared) -> Response:
    """It can serve: the store's writer answers; else 503, and what is not ready."""
    missing = []
    if not await services.readiness.writer_answers():
        missing.append("store-writer")
    if services.streams.closed:
        missing.append("stopping")
    if missing:
        # The store's own error may contain details that are not public.
        message = f"not ready: {', '.join(missing)}"
        body: dict[str, Any] = {"status": 503, "message": message, "not-ready": missing}
        return json_response(body, 503, {"Retry-After": "1"})
    return json_response({"status": "ready"})
