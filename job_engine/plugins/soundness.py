"""Checks of loaded actions, so that mistakes are found at the start, not when a job runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

from croniter import croniter
from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticUserError

from job_engine.plugins.action import Action, RetryPolicy, Schedule

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


def mistakes_of(action: Action[Any]) -> list[str]:
    """Return the mistakes in an action's attributes, each as the end of a sentence."""
    return [
        *_of_name(action.name),
        *_of_payload(action),
        *_of_numbers(action),
        *_of_kinds(action),
        *_of_schedule(action.schedule),
    ]


def _of_name(name: object) -> Iterator[str]:
    # It becomes part of a path in ZooKeeper, where `_` begins names of the engine's own.
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield "needs a name of letters, digits and . _ : - that begins with a letter or digit"


def _of_payload(action: Action[Any]) -> Iterator[str]:
    payload: object = action.payload
    if not (isinstance(payload, type) and issubclass(payload, BaseModel)):
        yield f"has the payload {payload!r}, which is no class derived from pydantic's BaseModel"
        return
    try:
        payload.model_json_schema()
    except PydanticUserError as error:
        yield f"has a payload without a JSON Schema: {error.message}"
        return
    if action.schedule is not None:
        try:
            payload.model_validate({})
        except ValidationError:
            yield "has a schedule, whose jobs have no payload, and a payload that may not be empty"


def _of_numbers(action: Action[Any]) -> Iterator[str]:
    for name, value in (("timeout_s", action.timeout_s), ("cost", action.cost)):
        if not _is_number(value) or not value:
            yield f"has {name}={value!r}, which has to be a number above 0"
    yield from _of_retry("retry", action.retry)
    if action.retry_away is not None:
        yield from _of_retry("retry_away", action.retry_away)


def _of_retry(attribute: str, retry: object) -> Iterator[str]:
    if not isinstance(retry, RetryPolicy):
        yield f"has {attribute}={retry!r}, which has to be a RetryPolicy"
        return
    if type(retry.max_attempts) is not int or retry.max_attempts < 1:
        yield f"has max_attempts={retry.max_attempts!r}, which has to be 1 or more"
    for name in ("backoff_s", "max_backoff_s", "jitter"):
        value = getattr(retry, name)
        if not _is_number(value) or (name == "jitter" and value > 1):
            above = "from 0 to 1" if name == "jitter" else "and not below 0"
            yield f"has {name}={value!r}, which has to be a number {above}"


def _of_kinds(action: Action[Any]) -> Iterator[str]:
    for name in ("short", "restricted"):
        if not isinstance(value := getattr(action, name), bool):
            yield f"has {name}={value!r}, which has to be True or False"
    needs: object = action.needs
    if not isinstance(needs, tuple) or not all(isinstance(kind, type) for kind in needs):
        yield f"has needs={needs!r}, which has to be a tuple of classes, such as (Sandbox,)"


def _of_schedule(schedule: object) -> Iterator[str]:
    if schedule is None:
        return
    if not isinstance(schedule, Schedule):
        yield f"has schedule={schedule!r}, which has to be a Schedule"
    elif schedule.cron is not None:
        if len(schedule.cron.split()) != 5 or not croniter.is_valid(schedule.cron):
            yield f"has the schedule {schedule.cron!r}, which is no cron line of five fields"
    elif schedule.interval_s is None or not _is_number(schedule.interval_s, least=1):
        yield f"has interval_s={schedule.interval_s!r}, which has to be a number of 1 or more"


def _is_number(value: object, least: float = 0) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and value >= least
