"""The registry: every resource type by name, from the modules of `types/` and from callers.

A further type is one file there; docs/resource-types.md shows one.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping

from job_engine.api import types
from job_engine.api.types.base import ResourceType
from job_engine.errors import ConfigurationError


def make_registry(further: Iterable[type[ResourceType]] = ()) -> Mapping[str, ResourceType]:
    """Return an instance of every type, in the order of their names.

    Raises `ConfigurationError` for two of one name.
    """
    found: dict[str, ResourceType] = {}
    for kind in (*find_types(), *further):
        if kind.name in found:
            raise ConfigurationError(f"There are two resource types {kind.name!r}.")
        found[kind.name] = kind()
    return dict(sorted(found.items()))


def find_types() -> Iterator[type[ResourceType]]:
    """Yield the classes with a `name` that the modules of `types/` define."""
    for module in pkgutil.iter_modules(types.__path__, f"{types.__name__}."):
        for kind in vars(importlib.import_module(module.name)).values():
            if (
                inspect.isclass(kind)
                and issubclass(kind, ResourceType)
                and kind.__module__ == module.name
                and hasattr(kind, "name")
            ):
                yield kind
