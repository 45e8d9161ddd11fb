"""Loading settings, with errors that name the setting and its source."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from job_engine.errors import ConfigurationError
from job_engine.settings.base import CONFIG, Settings, variable_of

S = TypeVar("S", bound=Settings)


def load(kind: type[S], given: Mapping[str, Any] | None = None) -> S:
    """Return the settings of a class: flags are `given`, other values have other sources.

    Raises `ConfigurationError` with the flag and the variable, or the file, but no value.
    """
    flags = given or {}
    try:
        return kind(**flags)
    except ValidationError as error:
        problems = [_problem(kind, flags, detail) for detail in error.errors(include_input=False)]
        raise ConfigurationError("; ".join(problems)) from None


def flag_of(name: str) -> str:
    """Return the flag of a setting."""
    return f"--{name.replace('_', '-')}"


def is_secret(field: FieldInfo) -> bool:
    """Return whether a setting is a secret, which has no flag and is never shown."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


def _problem(kind: type[Settings], flags: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    name, *inside = detail["loc"] or ("settings",)
    expected = str(detail["msg"])
    if detail["type"] in ("list_type", "dict_type") and variable_of(name) in os.environ:
        expected += ", written as JSON"
    if detail["type"] == "string_pattern_mismatch" and name in kind.model_fields:
        expected = f"is not as it has to be: {kind.model_fields[name].description}"
    return f"{_where(kind, flags, name)}{''.join(f'[{part}]' for part in inside)}: {expected}"


def _where(kind: type[Settings], flags: Mapping[str, Any], name: str) -> str:
    config = os.environ.get(CONFIG)
    if config and name not in flags and variable_of(name) not in os.environ:
        return f"{name} in {config}"
    if name in kind.model_fields and is_secret(kind.model_fields[name]):
        return variable_of(name)
    return f"{flag_of(name)} ({variable_of(name)})"
