"""Talking to the API: a `nuvla.api.Api` that adds batches, streams, blobs and retries.

Nothing here knows of ZooKeeper. All requests may be sent twice.
"""

from job_engine.client.api import Api
from job_engine.client.events import change_stream, event_stream

__all__ = ["Api", "change_stream", "event_stream"]
