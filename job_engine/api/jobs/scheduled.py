"""Documents of periodic jobs, which the engine creates itself."""

from __future__ import annotations

import uuid

from job_engine.api.identity import Identity
from job_engine.model import SUPPORTED_VERSION
from job_engine.model.acl import ADMIN, normalise
from job_engine.store.base import Document


def scheduled_job(action: str, who: Identity) -> Document:
    """Return the document of a periodic job, in the form of docs/cimi.md §6.5."""
    return {
        "id": f"job/{uuid.uuid4()}",
        "action": action,
        "state": "QUEUED",
        "progress": 0,
        "execution-mode": "push",
        "version": SUPPORTED_VERSION,
        "created-by": who.creator,
        "target-resource": {"href": "job"},
        "affected-resources": [{"href": "job"}],
        "acl": normalise({"owners": [ADMIN]}),
    }
