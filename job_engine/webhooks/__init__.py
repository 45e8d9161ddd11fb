"""Telling others by HTTP: where to, signed how, and sent so that nobody is misled by it.

The wire is that of Standard Webhooks 1.0 (standardwebhooks.com): `webhook-id`,
`webhook-timestamp` and `webhook-signature` over a JSON body. Nothing here knows the store,
the API or jobs. Where a message goes is hostile input: whoever creates jobs names it.
"""

from job_engine.webhooks.destination import Destination, DestinationPolicy
from job_engine.webhooks.send import Outcome, Sender
from job_engine.webhooks.signature import new_secret, signed_headers

__all__ = [
    "Destination",
    "DestinationPolicy",
    "Outcome",
    "Sender",
    "new_secret",
    "signed_headers",
]
