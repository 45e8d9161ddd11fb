"""Checks callbacks of new jobs: their URL, and the secret that signs their messages."""

from __future__ import annotations

from typing import Any

from job_engine.api.access import rights
from job_engine.api.call import Call
from job_engine.api.schema import invalid
from job_engine.errors import DestinationRefusedError, NotFoundError
from job_engine.model.acl import Right
from job_engine.webhooks import Destination, DestinationPolicy


def check_callbacks(call: Call, callbacks: Any) -> None:
    """Raise `InvalidResourceError` for a callback that must not or cannot be delivered.

    The caller has to manage the secret: otherwise they could have messages signed that the
    secret's owner would accept as genuine.
    """
    if not callbacks:
        return
    policy = DestinationPolicy(allow_http=call.services.settings.webhook_allow_http)
    for index, callback in enumerate(callbacks):
        where = f"callbacks/{index}"
        try:
            policy.check_scheme(Destination.parse(callback["url"]))
        except ValueError as error:
            raise invalid([f"{where}/url: {error}"]) from None
        except DestinationRefusedError as error:
            raise invalid([f"{where}/url: {error.message}"]) from None
        if not _manages(call, callback["secret"]):
            raise invalid(
                [
                    f"{where}/secret: there is no {callback['secret']} of yours; "
                    "POST /api/webhook-secret makes one"
                ]
            )


def _manages(call: Call, secret: str) -> bool:
    try:
        document = call.services.store.resources.get(secret)
    except NotFoundError:
        return False
    return Right.MANAGE in rights(call.who, document)
