"""JSON Schemas of executors, checked without trusting who wrote them.

The API runs them on whatever creators send. So patterns are matched in linear time, by the
engine of `pydantic-core`, and one that it cannot match is left to the executor, which checks
every payload again, as is all of a schema that matches names of attributes against patterns;
and what refers to itself may be followed so often and no further.
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
"""Of one action's schema, as `str` writes it."""
FOLLOWED: Final = 20_000
"""References that one payload may take, over all its values."""
_BY_NAME: Final = frozenset({"patternProperties", "unevaluatedProperties"})

_left: ContextVar[list[int]] = ContextVar("references")


class SchemaTooDearError(JobEngineError):
    """The schema refers to itself more often than a payload is worth."""


def check_published(description: ActionDescription) -> None:
    """Raise `InvalidResourceError` for a schema that is not worth keeping."""
    if len(str(description.payload_schema)) > MAX_SCHEMA_CHARS:
        where = f"{description.name[:200]}/payload_schema"
        problem = f"{where}: has more than {MAX_SCHEMA_CHARS} characters"
        raise ProblemsError("an action cannot be published:", [problem])


def can_check(schema: Any) -> bool:
    """Whether a schema matches no names of attributes against patterns of its own."""
    return _BY_NAME.isdisjoint(_keys(schema))


def _keys(schema: Any) -> Iterator[str]:
    """Yield the keywords of a schema, and whatever else is a key in it."""
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
    """Bound what one payload may cost within the block; then `SchemaTooDearError` is raised."""
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
"""Draft 2020-12, within bounds; to be used inside `bounded`."""
