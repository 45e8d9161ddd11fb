"""The base class of settings: the sources of values, and the settings of logging."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from job_engine.errors import ConfigurationError

ENV_PREFIX = "JOB_ENGINE_"
CONFIG: Final = f"{ENV_PREFIX}CONFIG"
_FOR_TESTS: Final = f"{ENV_PREFIX}TEST_"
_ALIKE: Final = 0.85
"""Similarity, 0 to 1, above which an unknown name counts as a misspelling of a known one."""


class Settings(BaseSettings):
    """The settings of every process, for logging; and the sources of all settings."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe level that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Log lines for people, or one JSON object a line."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources: flags, then the environment, then the YAML file."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, _Variables(settings_cls)]
        if config := os.environ.get(CONFIG):
            sources.append(InitSettingsSource(settings_cls, dict(read_config(Path(config)))))
        return tuple(sources)


class _Variables(EnvSettingsSource):
    """The environment; errors name a variable with invalid JSON, but do not show its value."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """See `EnvSettingsSource`."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            raise ConfigurationError(
                f'{variable_of(field_name)} is no JSON: a list is written ["a", "b"], a mapping '
                '{"a": "b"}.'
            ) from None


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{ENV_PREFIX}{name.upper()}"


def read_config(file: Path) -> Mapping[str, Any]:
    """Return the settings in a YAML file, which may be those of any process.

    Raises `ConfigurationError` for a file that cannot be read, is not a mapping, or has an
    unknown name: a misspelt policy must not be ignored. Errors contain no values, because some
    are secrets.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise ConfigurationError(
            f"The settings in {file} ({CONFIG}) cannot be read: {error.strerror}."
        ) from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} ({CONFIG}) is no text in UTF-8.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigurationError(
            f"{file}{where} is no YAML: {getattr(error, 'problem', None) or 'it cannot be parsed'}."
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{file} ({CONFIG}) has to be a mapping of settings to values.")
    known = known_settings()
    unknown = [
        f"{name!r} is no setting{_instead(str(name), known)}"
        for name in content
        if name not in known
    ]
    if unknown:
        raise ConfigurationError(f"{file}: {'; '.join(unknown)}.")
    return content


def known_settings() -> frozenset[str]:
    """Return the names of the settings of all processes."""
    return frozenset(name for kind in _kinds(Settings) for name in kind.model_fields)


def _kinds(of: type[Settings]) -> Iterator[type[Settings]]:
    yield of
    for kind in of.__subclasses__():
        yield from _kinds(kind)


def unknown_variables() -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Return unknown environment variables with our prefix: misspelt ones, then others.

    Each misspelt one comes with the variable that was probably meant. Others may have nothing
    to do with the engine: Kubernetes sets some for a service of that name.
    """
    known = known_settings()
    slips: dict[str, str] = {}
    others: list[str] = []
    for variable in sorted(os.environ):
        name = variable.removeprefix(ENV_PREFIX).lower()
        if not variable.startswith(ENV_PREFIX) or variable == CONFIG or name in known:
            continue
        if variable.startswith(_FOR_TESTS):
            continue
        if alike := get_close_matches(name, known, n=1, cutoff=_ALIKE):
            slips[variable] = variable_of(alike[0])
        else:
            others.append(variable)
    return slips, tuple(others)


def _instead(name: str, known: frozenset[str]) -> str:
    alike = get_close_matches(name.lower().replace("-", "_"), known, n=1)
    return f"; did you mean {alike[0]!r}?" if alike else ""
