"""Messages about actions: their descriptions, and their scheduled jobs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from job_engine.model.protocol.message import Message


class ActionDescription(Message):
    """An executor's description of an action; fields are those of `plugins.Action`."""

    name: str
    payload_schema: dict[str, Any]
    """JSON Schema of the payload."""
    timeout_s: float
    cost: float = 1.0
    short: bool = False
    restricted: bool = False
    """Whether only administrators may create jobs of it."""
    interval_s: float | None = None
    cron: str | None = None
    terms: dict[str, dict[str, Any]] = Field({})
    """The operators' terms for its payloads, by the name of the executor (`Action.terms`)."""


class ActionsRequest(Message):
    """`PUT /api/engine/actions` publishes descriptions; `GET` answers with all of them."""

    actions: list[ActionDescription]


class ScheduleRequest(Message):
    """`POST /api/engine/schedule`: create the job of a tick, which is due at `tick_ms`.

    None is created for a tick that had one, nor while an earlier scheduled job of the action
    is unfinished.
    """

    action: str = Field(pattern=r"\S")
    tick_ms: int


class ScheduleReply(Message):
    """The created job, None: none was needed; and the newest tick that the store knows."""

    job: str | None = None
    last_tick_ms: int | None = None
