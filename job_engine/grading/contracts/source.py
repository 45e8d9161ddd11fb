"""What the modules of single contracts share: reading a bundle's source, and their scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

Read = Callable[[str], bytes]
"""Returns the content of a file of the source by its name; empty if there is none."""


def script(name: str) -> str:
    """Return the text of a script of `scripts/`."""
    return files(__package__).joinpath("scripts", name).read_text()


def modules(package: str) -> dict[str, bytes]:
    """Return the modules and scripts of a package in `scripts/`, by their path with that."""
    return {
        f"scripts/{package}/{module.name}": module.read_bytes()
        for module in files(__package__).joinpath("scripts", package).iterdir()
        if module.name.endswith((".py", ".sh"))
    }


def merge(default: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return `default` updated with `override`, recursively for mappings."""
    merged = dict(default)
    for key, value in override.items():
        known = merged.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(known, value)
        else:
            merged[key] = value
    return merged
