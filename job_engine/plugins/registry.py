"""Finding actions: from entry points, and from a directory of files."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from job_engine.errors import PluginError
from job_engine.plugins.action import Action
from job_engine.plugins.soundness import mistakes_of

ENTRY_POINT_GROUP: Final = "job_engine.actions"
_REASON_CHARS: Final = 500


def load_actions(directory: Path | None = None) -> Mapping[str, Action[Any]]:
    """Load every action by its name: from entry points, and from `directory`.

    An entry point names an action, a module of actions, or a package whose modules
    are searched. Of a directory every `*.py` is loaded but those whose name begins with an
    underscore. Raises `PluginError`, naming the file, for one that cannot be imported or
    has no action, for an action that the engine could not run, and for a name that is
    registered twice.
    """
    found: dict[str, tuple[Action[Any], str]] = {}
    for action, origin in [*_from_entry_points(), *_from_directory(directory)]:
        if action.name in found:
            raise PluginError(
                f"Action {action.name!r} is registered twice: in {found[action.name][1]} "
                f"and in {origin}. Rename one of them."
            )
        found[action.name] = (action, origin)
    return {name: action for name, (action, _) in sorted(found.items())}


def _from_entry_points() -> Iterator[tuple[Action[Any], str]]:
    for point in entry_points(group=ENTRY_POINT_GROUP):
        origin = f"entry point {point.name} = {point.value}"
        try:
            target = point.load()
        except (Exception, SystemExit) as error:
            raise PluginError(f"Cannot load {origin}: {_reason(error)}") from error
        if isinstance(target, ModuleType):
            for module in _modules(target):
                yield from _in_module(module)
        else:
            yield _instance(target, origin), origin


def _modules(root: ModuleType) -> Iterable[ModuleType]:
    yield root
    for info in pkgutil.iter_modules(getattr(root, "__path__", ()), f"{root.__name__}."):
        try:
            yield importlib.import_module(info.name)
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"Cannot import the action module {info.name}: {_reason(error)}"
            ) from error


def _from_directory(directory: Path | None) -> Iterator[tuple[Action[Any], str]]:
    if directory is None:
        return
    if not directory.is_dir():
        raise PluginError(f"The actions directory {directory} does not exist.")
    for file in sorted(directory.glob("[!_]*.py")):
        found = list(_in_module(_imported(file)))
        if not found:
            raise PluginError(
                f'{file} has no action: put @action("…") above its function, or begin the '
                "file's name with an underscore to have it passed over."
            )
        yield from found


def _imported(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"job_engine_actions_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise PluginError(f"Cannot import {file}: not a Python module.")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses, and payloads under `from __future__ import annotations`, look it up there.
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module.__name__]
        if isinstance(error, Exception | SystemExit):
            raise PluginError(f"Cannot import {file}: {_reason(error)}") from error
        raise
    return module


def _reason(error: BaseException) -> str:
    """Return why an import failed, with the line of the file itself."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    reason = error.message if isinstance(error, PluginError) else repr(error)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename
    ]
    # The first frame is this module's own.
    where = f"{frames[1].filename}, line {frames[1].lineno}: " if len(frames) > 1 else ""
    return f"{where}{reason[:_REASON_CHARS]}"


def _in_module(module: ModuleType) -> Iterator[tuple[Action[Any], str]]:
    """Yield the actions that `module` itself defines, not those that it imports."""
    origin = module.__file__ or module.__name__
    # By identity, because two names may refer to the same action.
    for value in {id(value): value for value in vars(module).values()}.values():
        kind = value if inspect.isclass(value) else type(value)
        if issubclass(kind, Action) and kind.__module__ == module.__name__:
            if inspect.isabstract(kind) and not getattr(kind, "name", ""):
                continue  # a base for others
            yield _instance(value, origin), origin


def _instance(target: object, origin: str) -> Action[Any]:
    try:
        made = target() if inspect.isclass(target) else target
    except Exception as error:
        raise PluginError(f"{origin}: {target!r} cannot be made: {error}") from error
    if not isinstance(made, Action) or not getattr(made, "name", ""):
        raise PluginError(f"{origin}: {target!r} is no action with a name.")
    if mistakes := mistakes_of(made):
        raise PluginError(f"{origin}: the action {made.name!r} {'; '.join(mistakes)}.")
    return made
