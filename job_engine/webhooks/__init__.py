"""Webhooks: checking destinations, signing messages, and sending them safely.

The wire is that of Standard Webhooks 1.0 (standardwebhooks.com): `webhook-id`,
`webhook-timestamp` and `webhook-signature` over a JSON body. Nothing here knows the store,
the API or jobs. The destination is hostile input, because creators of jobs name it.
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
