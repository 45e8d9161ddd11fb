"""Bounds on the cost of validating by JSON Schemas that executors have published.

The API applies them to payloads of any creator, so neither is trusted. Patterns are matched
in linear time, by the regular expressions of `pydantic-core`. A pattern that it does not
support, and a schema with `patternProperties`, are left to the executor, which checks every
payload again. The number of references that one payload may follow is limited.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from pydantic_core import SchemaError, SchemaValidator, core_schema
from pydantic_core import ValidationError as PatternError

from job_engine.api.errors import ProblemsError
from job_engine.errors import JobEngineError
from job_engine.model.protocol.actions import ActionDescription

MAX_SCHEMA_CHARS: Final = 100_000
"""Characters of one action's schema."""
FOLLOWED: Final = 20_000
"""References (`$ref`) that validating one payload may follow."""
_BY_NAME: Final = frozenset({"patternProperties", "unevaluatedProperties"})

_left: ContextVar[list[int]] = ContextVar("references")


class SchemaTooDearError(JobEngineError):
    """The schema refers to itself more often than a payload is worth."""


def check_published(description: ActionDescription) -> None:
    """Raise `InvalidResourceError` for a schema that is too large or cannot be stored."""
    if len(str(description.payload_schema)) > MAX_SCHEMA_CHARS:
        where = f"{description.name[:200]}/payload_schema"
        problem = f"{where}: has more than {MAX_SCHEMA_CHARS} characters"
        raise ProblemsError("an action cannot be published:", [problem])


def can_check(schema: Any) -> bool:
    """Return whether a schema has no patterns for attribute names."""
    return _BY_NAME.isdisjoint(_keys(schema))


def _keys(schema: Any) -> Iterator[str]:
    """Yield all keys in a schema, at any depth."""
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


@contextmanager
def bounded() -> Iterator[None]:
    """Limit the references that one payload may follow; more raise `SchemaTooDearError`."""
    token = _left.set([FOLLOWED])
    try:
        yield
    finally:
        _left.reset(token)


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> SchemaValidator | None:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        return None


def _pattern(
    _validator: Any, pattern: str, instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    matcher = _matcher(pattern) if isinstance(instance, str) else None
    if matcher is None:
        return
    try:
        matcher.validate_python(instance)
    except PatternError:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _counted(keyword: str) -> Any:
    follow = Draft202012Validator.VALIDATORS[keyword]

    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        left = _left.get()
        left[0] -= 1
        if left[0] < 0:
            raise SchemaTooDearError
        return follow(validator, value, instance, schema)

    return counted


BoundedValidator: Final[Any] = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"pattern": _pattern, **{name: _counted(name) for name in ("$ref", "$dynamicRef")}},
)
"""A validator of draft 2020-12, to be used inside `bounded`."""
