"""The messages between the API and the action that sends webhooks.

They are JSON over HTTP under `/api/engine/webhooks`. The executor that runs a job of that
action sends them under the fence of its claim. The API hands out signed messages, so secrets
never leave it.
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from job_engine.model.fence import Fence
from job_engine.model.job import FINAL_STATES, JobState
from job_engine.model.protocol.message import Message, Text

ACTION: Final = "deliver_webhooks"
"""The action that sends waiting messages."""

BATCH: Final = 64
"""Most messages that are handed out at once."""

CALLBACK_STATES: Final = frozenset({JobState.RUNNING, *FINAL_STATES})
"""The states that a callback may report."""


def default_states() -> frozenset[JobState]:
    """Return the states that a callback reports if it names none."""
    return FINAL_STATES


class TakeRequest(Message):
    """`POST /api/engine/webhooks/take`: hand out the messages that are due.

    With `closing` none are handed out: the sender is ending, and another job sends the rest.
    """

    job: str
    fence: Fence
    closing: bool = False


class SignedMessage(Message):
    """A message to send now, because its signature contains the time."""

    delivery: str
    attempt: int
    """Number of this attempt; the result repeats it, so that a late result is recognised."""
    url: str
    headers: dict[str, str]
    body: str


class TakeReply(Message):
    """The messages; empty: none is due, and a later job will send the others."""

    messages: list[SignedMessage]


class SendResult(Message):
    """The result of sending one message."""

    delivery: str
    attempt: int
    status: int | None = Field(None, ge=100, le=999)
    """HTTP status of the receiver's response; None: there was none."""
    error: Text | None = None
    """Why there was no response."""
    refused: bool = False
    """Whether it was not sent, because its destination is not allowed."""
    duration_ms: int = Field(0, ge=0, lt=2**53)


class ResultsRequest(Message):
    """`POST /api/engine/webhooks/results`: the results of messages that were handed out."""

    job: str
    fence: Fence
    results: list[SendResult] = Field(max_length=BATCH)


class ResultsReply(Message):
    """Whether each result was written, in order; False: another claim holds the message now."""

    written: list[bool]
