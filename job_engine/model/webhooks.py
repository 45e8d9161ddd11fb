"""What the API and the action that sends webhooks say to each other.

All of it is JSON over HTTP under `/api/engine/webhooks`, from whoever runs a job of that
action, under the fence of its claim. The secrets stay with the API: what it hands out is
signed already.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from job_engine.model.fence import Fence
from job_engine.model.job import FINAL_STATES, JobState
from job_engine.model.protocol.message import Message, Text

ACTION: Final = "deliver_webhooks"
"""The action that sends what waits."""

BATCH: Final = 64
"""Most messages that are handed out at once."""

CALLBACK_STATES: Final = frozenset({JobState.RUNNING, *FINAL_STATES})
"""The states that a callback may be for."""


def default_states() -> frozenset[JobState]:
    """Return the states that a callback is for which names none."""
    return FINAL_STATES


class TakeRequest(Message):
    """`POST /api/engine/webhooks/take`: hand out what is due to be sent.

    `closing` asks for nothing more: what is left is somebody else's to send.
    """

    job: str
    fence: Fence
    closing: bool = False


class SignedMessage(Message):
    """One message to send now: its signature says what time it is."""

    delivery: str
    attempt: int
    """Which one this is; the answer names it, so that an old one is known for that."""
    url: str
    headers: dict[str, str]
    body: str


class TakeReply(Message):
    """Empty: nothing is due, and what is due later has been seen to."""

    messages: list[SignedMessage]


class SendResult(Message):
    """What became of one message."""

    delivery: str
    attempt: int
    status: int | None = Field(None, ge=100, le=999)
    """The receiver's answer; None: there was none."""
    error: Text | None = None
    """Why there was none."""
    refused: bool = False
    """Whether it was not sent at all, because it may not be."""
    duration_ms: int = Field(0, ge=0, lt=2**53)


class ResultsRequest(Message):
    """`POST /api/engine/webhooks/results`: what became of messages that were handed out."""

    job: str
    fence: Fence
    results: list[SendResult] = Field(max_length=BATCH)


class ResultsReply(Message):
    """In the order of the request: whether it was written. False: somebody else has it now."""

    written: list[bool]
