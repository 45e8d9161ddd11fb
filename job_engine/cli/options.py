"""Every setting of a process as a flag, with a help that names its variable and default.

For a service of its own (`executor/cli.py`, `distributor/cli.py`)::

    from job_engine.cli.options import settings_main

    main = settings_main(ExecutorSettings, serve, about="Run jobs from the queue.")

and for a command of a typer application::

    settings_command(app, "api", ApiSettings, serve, about="Serve the API.")

`serve` gets the settings object. A `JobEngineError` from it ends the process with its message and
exit code 1; a wrong setting ends it with the flag, the variable and exit code 2.

Secrets have no flag, because every user can list the arguments of processes; the help names
their variables instead. The value of a secret is never shown.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from job_engine.errors import ConfigurationError, JobEngineError
from job_engine.settings import CONFIG, Settings, load, unknown_variables, variable_of
from job_engine.settings.loading import flag_of, is_secret

S = TypeVar("S", bound=Settings)

USAGE_ERROR: Final = 2
_CONFIG: Final = "config"


def settings_main(
    settings_class: type[S], run: Callable[[S], None], *, about: str
) -> Callable[[], None]:
    """Return a `main()` for a console script that takes every setting as a flag."""

    def main() -> None:
        app = typer.Typer(
            add_completion=False, rich_markup_mode=None, pretty_exceptions_show_locals=False
        )
        settings_command(app, None, settings_class, run, about=about)
        app()

    return main


def settings_command(
    app: typer.Typer,
    name: str | None,
    settings_class: type[S],
    run: Callable[[S], None],
    *,
    about: str,
) -> None:
    """Add a command to `app` that takes every setting as a flag and calls `run` with them."""

    def command(**flags: Any) -> None:
        flags.pop("version", None)

        def load_and_run() -> None:
            settings = load_settings(settings_class, flags)
            refuse_slips()
            run(settings)

        run_or_exit(load_and_run)

    parameters = list(_parameters(settings_class))
    if name is None:  # a program of its own
        parameters.append(_parameter("version", bool, version_option()))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    app.command(name, help=about, epilog=_secrets_help(settings_class))(command)


def load_settings(settings_class: type[S], flags: Mapping[str, Any] | None = None) -> S:
    """Return the settings of a process; flags that are None or empty were not given.

    Raises `ConfigurationError`, naming the flag and the variable, never a value.
    """
    given = {name: value for name, value in (flags or {}).items() if value not in (None, [])}
    config = given.pop(_CONFIG, None)
    if config is not None:
        if not Path(config).is_file():
            raise ConfigurationError(f"--config: there is no file {config}.")
        # Passed on as a variable, which settings and child processes read.
        os.environ[CONFIG] = str(config)
    fields = settings_class.model_fields
    return load(settings_class, {name: _parsed(fields[name], raw) for name, raw in given.items()})


def refuse_slips() -> None:
    """Warn of unknown environment variables with the engine's prefix.

    Raises `ConfigurationError` for those that look like a misspelt setting, because a misspelt
    restriction would restrict nothing.
    """
    slips, others = unknown_variables()
    for variable in others:
        print(f"warning: {variable} is no setting, and is ignored.", file=sys.stderr)
    if slips:
        problems = [f"{name} is no setting; did you mean {meant}?" for name, meant in slips.items()]
        raise ConfigurationError(" ".join(problems))


def run_or_exit(run: Callable[[], None]) -> None:
    """Call `run`; a `JobEngineError` ends the process with its message, without a traceback."""
    try:
        run()
    except ConfigurationError as error:
        _fail(error, USAGE_ERROR)
    except JobEngineError as error:
        _fail(error, 1)


def _fail(error: JobEngineError, code: int) -> None:
    print(f"error: {error.message}", file=sys.stderr)
    raise typer.Exit(code)


def version_option() -> Any:
    """Return the flag `--version`, which ends the program."""
    return typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"job-engine {version('job-engine')}")
        raise typer.Exit


def _parameters(settings_class: type[Settings]) -> Iterator[inspect.Parameter]:
    yield _parameter(
        _CONFIG,
        str | None,
        typer.Option(
            None,
            flag_of(_CONFIG),
            metavar="FILE",
            help=f"YAML file of settings. (env {variable_of(_CONFIG)})",
            show_default=False,
        ),
    )
    for name, field in settings_class.model_fields.items():
        if not is_secret(field):
            yield _parameter(name, _type_of(field), _option(name, field))


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _option(name: str, field: FieldInfo) -> Any:
    flag = flag_of(name)
    if _type_of(field) == (bool | None):
        flag = f"{flag}/--no-{flag[2:]}"
    return typer.Option(
        None,
        flag,
        metavar=_metavar(field),
        help=f"{field.description or ''} ({_origin(name, field)})".strip(),
        show_default=False,
    )


def _type_of(field: FieldInfo) -> Any:
    """Return the type of a flag for typer; pydantic parses the value, whatever its source."""
    kinds = _kinds(field)
    if bool in kinds:
        return bool | None
    return list[str] | None if _is_list(field) else str | None


def _metavar(field: FieldInfo) -> str | None:
    kinds = _kinds(field)
    for kind in kinds:
        if get_origin(kind) is Literal:
            return "|".join(map(str, get_args(kind)))
    names = {int: "INTEGER", float: "NUMBER", Path: "PATH", str: "TEXT"}
    if bool in kinds:
        return None
    if _is_list(field):
        return "TEXT"
    return next((names[kind] for kind in kinds if kind in names), "JSON")


def _origin(name: str, field: FieldInfo) -> str:
    origin = f"env {variable_of(name)}"
    if _is_list(field):
        origin += " as a JSON list, flag repeatable"
    default = _default(field)
    return f"{origin}, default {default}" if default else origin


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "made at start"
    if field.default is PydanticUndefined or field.default in (None, [], {}, ()):
        return "" if field.default is not PydanticUndefined else "none: required"
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    return str(field.default)


def _kinds(field: FieldInfo) -> tuple[Any, ...]:
    """Return the alternatives of a field's type, without `None`."""
    annotation: Any = field.annotation
    alternatives = get_args(annotation) if _is_union(annotation) else (annotation,)
    return tuple(kind for kind in alternatives if kind is not type(None))


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) is Union or isinstance(annotation, type(int | str))


def _is_list(field: FieldInfo) -> bool:
    return any(get_origin(kind) in (list, tuple, set, frozenset) for kind in _kinds(field))


def _parsed(field: FieldInfo, raw: Any) -> Any:
    """Return a flag's value for pydantic: structures parsed as JSON, others as text."""
    if isinstance(raw, str) and _metavar(field) == "JSON":
        try:
            return json.loads(raw)
        except ValueError:
            return raw
    return raw


def _secrets_help(settings_class: type[Settings]) -> str | None:
    """Return the help's text about secrets, which have no flag."""
    lines = [
        f"{variable_of(name)}: {field.description}"
        for name, field in settings_class.model_fields.items()
        if is_secret(field)
    ]
    if not lines:
        return None
    return "\n\n".join(
        ["Secrets have no flag, for others could read it in the process list:", *lines]
    )
