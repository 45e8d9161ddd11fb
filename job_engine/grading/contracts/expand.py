"""What an assignment that names a contract need not say: pure functions over its document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

MIB: Final = 2**20
ENGINE_MOUNT: Final = "/mnt/engine"
"""Where a contract's phases find what the engine tells them."""
TOLD: Final = frozenset({"cases", "gradescope"})
"""Contracts whose graders are told something in files."""
BUNDLE_MOUNT: Final = "/mnt/bundle"
CASES_HARNESS: Final = "cases.py"
CASES_SETTINGS: Final = "cases.json"


def expand(document: Any) -> Any:
    """Return the document with what its contract says filled in; what it says itself stays."""
    if not isinstance(document, Mapping):
        return document
    contract = CONTRACTS.get(str(document.get("contract")))
    return document if contract is None else _merge(contract(document), document)


def script(name: str) -> str:
    """Return a shell script of the contracts'."""
    return files(__package__).joinpath(name).read_text()


def _gradescope(_: Mapping[str, Any]) -> dict[str, Any]:
    """The specification's defaults: 768 MB, half a processor, ten minutes."""
    return {
        "submission": {"strip": False},
        "mounts": {
            "submission": "/autograder/submission",
            "tests": BUNDLE_MOUNT,
            "results": "/autograder/results",
        },
        "limits": {
            "memory_bytes": 768 * MIB,
            "cpus": 0.5,
            "wall_time_s": 600,
            "cpu_time_s": 300,
            "processes": 512,
            "file_size_bytes": 256 * MIB,
            "output_bytes": 8 * MIB,
        },
        "setup": {"command": ["sh", "-c", script("gradescope_setup.sh")]},
        "phases": {
            "test": {
                "command": ["sh", "-c", script("gradescope_run.sh")],
                "profile": "own-root",
                "sees_tests": False,
            }
        },
        "results": {"format": "gradescope", "forgeable": True},
    }


def _cases(document: Mapping[str, Any]) -> dict[str, Any]:
    """A split run of the engine's own harness and the student's program."""
    cases = document.get("cases")
    program = cases.get("program") if isinstance(cases, Mapping) else None
    command = ["python3", f"{ENGINE_MOUNT}/{CASES_HARNESS}", f"{ENGINE_MOUNT}/{CASES_SETTINGS}"]
    return {
        "phases": {"test": {"command": command, "program": program or {}}},
        "results": {"format": "stream"},
    }


CONTRACTS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = MappingProxyType(
    {"cases": _cases, "gradescope": _gradescope}
)


def _merge(default: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(default)
    for key, value in given.items():
        known = merged.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(known, value)
        else:
            merged[key] = value
    return merged
