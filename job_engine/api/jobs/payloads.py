"""Checks payloads of new jobs against the schemas that executors published for their actions."""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import islice
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from job_engine.api.errors import ProblemsError
from job_engine.api.jobs.schema_bounds import (
    BoundedValidator,
    SchemaTooDearError,
    bounded,
    can_check,
)
from job_engine.errors import ForbiddenError, InvalidResourceError
from job_engine.log import get_logger
from job_engine.model.protocol.actions import ActionDescription
from job_engine.store.actions import Actions

log = get_logger(__name__)

_REMEMBERED: Final = 1000
"""Characters of the longest payload whose check is remembered."""
_MAX_ERRORS: Final = 20
"""Errors of one payload that are reported."""
_SHOWN: Final = 200
"""Characters of a wrong value that an error quotes."""


class Payloads:
    """Checks the payloads of one request, which may create thousands of jobs.

    Each action is looked up once. An action that no executor has published takes any
    payload.
    """

    def __init__(self, actions: Actions) -> None:
        self._actions = actions
        self._described: dict[str, ActionDescription | None] = {}
        self._good: set[tuple[str, str | None]] = set()

    def check(self, action: str, payload: str | None, *, admin: bool) -> None:
        """Check one payload; `admin` says whether the job's creator is an administrator.

        Raises `InvalidResourceError`, saying what to change, for an invalid
        payload, and `ForbiddenError` for an action that only administrators may use.
        """
        description = self._describe(action)
        if description is None:
            return
        if description.restricted and not admin:
            raise ForbiddenError(f"only administrators create jobs of the action {action!r}")
        if (action, payload) in self._good:
            return
        self._validate(description, action, payload)
        if len(payload or "") <= _REMEMBERED:
            self._good.add((action, payload))

    def _describe(self, action: str) -> ActionDescription | None:
        if action not in self._described:
            self._described[action] = self._actions.get(action)
        return self._described[action]

    def _validate(self, description: ActionDescription, action: str, payload: str | None) -> None:
        validator = _validator(json.dumps(description.payload_schema, sort_keys=True))
        if validator is None:
            return
        value = _value(action, payload)
        try:
            with bounded():
                errors = list(islice(validator.iter_errors(value), _MAX_ERRORS))
        except (Unresolvable, SchemaTooDearError, RecursionError) as broken:
            # The published schema is at fault; the executor checks the payload again.
            log.warning("action.schema_broken", action=action, error=str(broken))
            return
        if errors:
            raise ProblemsError(
                f"payload of action {action!r} is not what it takes:",
                [_explain(best_match([error]) or error) for error in errors],
            )


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    parsed = json.loads(schema)
    try:
        Draft202012Validator.check_schema(parsed)
    except SchemaError:  # an invalid schema is no reason to refuse jobs
        return None
    if not can_check(parsed):
        return None
    # The default registry would fetch remote schemas.
    return BoundedValidator(parsed, registry=Registry())


def _value(action: str, payload: str | None) -> Any:
    if payload is None:
        return {}
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise InvalidResourceError(
            f"payload of action {action!r}: must be a JSON text ({error})"
        ) from error


def _explain(error: ValidationError) -> str:
    where = "/".join(["payload", *map(str, error.absolute_path)])
    text = error.message if len(error.message) <= _SHOWN else error.message[:_SHOWN] + "…"
    schema = error.schema
    if error.validator == "additionalProperties" and isinstance(schema, dict):
        known = ", ".join(sorted(schema.get("properties", {}))) or "none"
        text = f"{text}; known attributes: {known}"
    return f"{where}: {text}"
