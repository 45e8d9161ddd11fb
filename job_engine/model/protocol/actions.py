"""What executors can run, and the jobs that actions have by the clock."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from job_engine.model.protocol.message import Message


class ActionDescription(Message):
    """What an executor tells of an action that it has."""

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
    """What operators let it be asked for, by the names of executors (`Action.terms`)."""


class ActionsRequest(Message):
    """`PUT /api/engine/actions` publishes; `GET` answers the same, with all that are known."""

    actions: list[ActionDescription]


class ScheduleRequest(Message):
    """`POST /api/engine/schedule`: create the job of one tick, unless there is one.

    `tick_ms` is the time the job was due. (action, tick) is unique, and a second
    unfinished scheduled job of the action is not created.
    """

    action: str = Field(pattern=r"\S")
    tick_ms: int


class ScheduleReply(Message):
    """`job` is None where nothing had to be created; `last_tick_ms` is the newest tick known."""

    job: str | None = None
    last_tick_ms: int | None = None
