"""Finding actions: entry points, a directory of files, and nothing at import."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from job_engine.errors import PluginError
from job_engine.plugins.action import Action

ENTRY_POINT_GROUP: Final = "job_engine.actions"


def load_actions(directory: Path | None = None) -> Mapping[str, Action[Any]]:
    """Load every action by its name: from entry points, and from `directory`.

    An entry point names an action, a module of actions, or a package whose modules
    are searched. Raises `PluginError`, naming the file, for one that cannot be
    imported and for a name that is registered twice.
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
        except Exception as error:
            raise PluginError(f"Cannot load {origin}: {error!r}") from error
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
        except Exception as error:
            raise PluginError(f"Cannot import the action module {info.name}: {error!r}") from error


def _from_directory(directory: Path | None) -> Iterator[tuple[Action[Any], str]]:
    if directory is None:
        return
    if not directory.is_dir():
        raise PluginError(f"The actions directory {directory} does not exist.")
    for file in sorted(directory.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"job_engine_actions_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise PluginError(f"Cannot import {file}: not a Python module.")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise PluginError(f"Cannot import {file}: {error!r}") from error
        yield from _in_module(module)


def _in_module(module: ModuleType) -> Iterator[tuple[Action[Any], str]]:
    """Yield the actions that `module` defines; those it only imports are somebody else's."""
    origin = module.__file__ or module.__name__
    for value in vars(module).values():
        kind = value if inspect.isclass(value) else type(value)
        if (
            issubclass(kind, Action)
            and not inspect.isabstract(kind)
            and kind.__module__ == module.__name__
        ):
            yield _instance(value, origin), origin


def _instance(target: object, origin: str) -> Action[Any]:
    made = target() if inspect.isclass(target) else target
    if not isinstance(made, Action) or not getattr(made, "name", ""):
        raise PluginError(f"{origin}: {target!r} is no action with a name.")
    return made
