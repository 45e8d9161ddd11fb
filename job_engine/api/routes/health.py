"""Whether this process is alive, and whether it can serve."""

from __future__ import annotations

from fastapi import APIRouter

from job_engine.api.errors import RequestError
from job_engine.api.routes.common import Shared
from job_engine.errors import StoreError

router = APIRouter(prefix="/api/health", tags=["health"])


class NotReadyError(RequestError):
    """The store does not answer."""

    status = 503


@router.get("/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@router.get("/ready")
def ready(services: Shared) -> dict[str, str]:
    """The store answers too."""
    try:
        services.store.events.newest()
    except StoreError as error:
        raise NotReadyError from error
    return {"status": "ready"}
