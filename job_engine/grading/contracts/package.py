"""Problem packages of contests (Kattis, ICPC, DOMjudge) as plain cases.

The format is the Kattis problem package format, in its versions `legacy`, `2023-07-draft` and
later: `problem.yaml`, `data/sample` and `data/secret`, output validators with flags.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from importlib.resources import files as resources
from typing import Any, Final

from job_engine.errors import AssignmentError
from job_engine.grading.yaml_lines import load

Read = Callable[[str], bytes]
"""Gives a file of the package; nothing when it is not there."""

_FILE: Final = "problem.yaml"
_DATA: Final = "data"
_OTHER: Final = frozenset({"interactive", "multi-pass", "pvp", "submit-answer"})
_VALIDATORS: Final = ("output_validator", "output_validators")
_GROUP_FILES: Final = ("testdata.yaml", "test_group.yaml")
_MIB: Final = 2**20
MAX_MEMORY_BYTES: Final = 2048 * _MIB
_DEFAULT_TIME_S: Final = 5.0
_MAX_WALL_S: Final = 600.0
_START_S: Final = 60.0
"""For building a validator, beside what the cases take."""


def document(files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return what a package says of itself, as an assignment's document would.

    Raises `AssignmentError` for a kind of problem whose programs are not simply given an input.
    """
    problem = _mapping(read(_FILE), _FILE)
    words = {*_words(problem.get("type")), *_words(problem.get("validation"))}
    if other := sorted(words & _OTHER):
        raise AssignmentError(
            f"{_FILE}: the problem is {' and '.join(other)}; of problem packages only those can be "
            "taken whose programs read an input and print an answer. Write a harness that talks "
            "with the program: a split run (docs/split-runs.md)."
        )
    limits = problem.get("limits")
    limits = limits if isinstance(limits, Mapping) else {}
    time_s = _time_limit(limits, files, read)
    names = [name for name in files if name.startswith(f"{_DATA}/") and name.endswith(".in")]
    if not names:
        raise AssignmentError(f"The package has no case: no .in file below {_DATA}/.")
    memory = number(limits.get("memory"))
    told: dict[str, Any] = {
        **limits_of(len(names), time_s),
        "cases": {
            "directory": _DATA,
            "program": program(min(memory * _MIB, MAX_MEMORY_BYTES) if memory else None),
            "time_s": time_s,
            "output_bytes": int((number(limits.get("output")) or 8) * _MIB),
            **_judging(problem, words, names, files, read),
        },
    }
    if title := _title(problem.get("name")):
        told["title"] = title
    return told


def program(memory_bytes: float | None) -> dict[str, Any]:
    """Return what starts a submission that the build of `limits_of` has made."""
    started: dict[str, Any] = {"command": ["sh", "./.job-engine-run"]}
    if memory_bytes:
        started["limits"] = {"memory_bytes": int(memory_bytes)}
    return started


def limits_of(count: int, time_s: float) -> dict[str, Any]:
    """Return the build of a submission in whatever language, and limits for so many cases."""
    wall_time_s = min(_MAX_WALL_S, _START_S + count * time_s)
    script = resources(__package__).joinpath("package_build.sh").read_text()
    return {
        "limits": {"wall_time_s": wall_time_s, "cpu_time_s": wall_time_s},
        "phases": {"build": {"command": ["sh", "-c", script], "limits": {"wall_time_s": 60}}},
    }


def _judging(
    problem: Mapping[str, Any],
    words: set[str],
    names: list[str],
    files: tuple[str, ...],
    read: Read,
) -> dict[str, Any]:
    validator = _validator(words, files)
    flags = _flags(problem.get("validator_flags"))
    groups: dict[str, dict[str, Any]] = {}
    directories = sorted({posixpath.dirname(name) for name in names})
    for directory in directories:
        settings = _settings(directory, files, read)
        group: dict[str, Any] = {}
        # What a contest keeps secret is judged, and not shown.
        if not directory.startswith(f"{_DATA}/sample"):
            group["shown"] = False
        own = _flags(settings.get("output_validator_flags", settings.get("output_validator_args")))
        if own:
            group["checker"] = _checker(validator, own)
        if "scoring" in words:
            count = sum(posixpath.dirname(name) == directory for name in names)
            group |= _points(settings, directory, count)
        groups[posixpath.relpath(directory, _DATA)] = group
    judging: dict[str, Any] = {"checker": _checker(validator, flags)}
    if "scoring" not in words:
        judging["all_or_nothing"] = True
    return judging | {"groups": {name: group for name, group in groups.items() if group}}


def _settings(directory: str, files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return what a group of cases says; it inherits what those above it say."""
    settings: dict[str, Any] = {}
    parts = directory.split("/")
    for end in range(1, len(parts) + 1):
        for name in _GROUP_FILES:
            path = "/".join([*parts[:end], name])
            if path in files:
                settings.update(_mapping(read(path), path))
    return settings


def _points(settings: Mapping[str, Any], directory: str, count: int) -> dict[str, Any]:
    """Return the points of each case of a group that is scored, and how they add up."""
    sample = directory.startswith(f"{_DATA}/sample")
    flags = _words(settings.get("grader_flags"))
    together = settings.get("score_aggregation", "min" if "min" in flags else "sum")
    whole = number(settings.get("max_score"))
    each = number(settings.get("accept_score"))
    if each is None:
        each = 0.0 if sample else 1.0
    if together in ("min", "pass-fail"):
        # The worst case's score is the group's: all of it or none.
        total = whole if whole is not None else each
        return {"points": total / count, "all_or_nothing": True}
    return {"points": whole / count if whole is not None else each}


def _validator(words: set[str], files: tuple[str, ...]) -> str | None:
    """Return the directory of the output validator, if the problem has one of its own."""
    for top in _VALIDATORS:
        inside = [file.split("/")[1:] for file in files if file.startswith(f"{top}/")]
        if not inside or "default" in words:
            continue
        directories = {parts[0] for parts in inside if len(parts) > 1}
        if len(directories) == 1 and not any(len(parts) == 1 for parts in inside):
            return f"{top}/{directories.pop()}"
        return top
    if "custom" in words:
        raise AssignmentError(
            f"{_FILE}: validation is custom, and there is no {' or '.join(_VALIDATORS)}/."
        )
    return None


def _checker(validator: str | None, flags: list[str]) -> dict[str, Any]:
    if validator is not None:
        script = resources(__package__).joinpath("package_validator.sh").read_text()
        place = f"/mnt/tests/{validator}"
        command = ["sh", "-c", script, "validator", place, " ".join(flags)]
        return {"kind": "kattis", "command": command}
    # The default validator of the format.
    given = {flag: flags[index + 1 : index + 2] for index, flag in enumerate(flags)}
    checker: dict[str, Any] = {"kind": "tokens", "ignore_case": "case_sensitive" not in given}
    tolerances = [number(v[0]) for k, v in given.items() if k.endswith("_tolerance") and v]
    if "space_change_sensitive" in given:
        checker["kind"] = "exact"
    elif tolerances:
        checker |= {"kind": "floats", "tolerance": max(t or 0.0 for t in tolerances)}
    return checker


def _time_limit(limits: Mapping[str, Any], files: tuple[str, ...], read: Read) -> float:
    """Return the seconds of one run, from where the formats have them."""
    found = number(limits.get("time_limit"))
    if found is None and ".timelimit" in files:
        found = number(read(".timelimit").decode("utf-8", "replace").strip())
    if found is None and "domjudge-problem.ini" in files:
        for line in read("domjudge-problem.ini").decode("utf-8", "replace").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "timelimit":
                found = number(value.strip().strip("'\""))
    return found if found and found > 0 else _DEFAULT_TIME_S


def _title(name: object) -> str:
    """Return the name, of several languages the English or the first one."""
    if isinstance(name, Mapping):
        name = name.get("en", next(iter(name.values()), ""))
    return str(name or "")[:200]


def _flags(value: object) -> list[str]:
    if isinstance(value, Mapping):
        value = value.get("output", value.get("output_validator_flags"))
    return [str(word) for word in value] if isinstance(value, list) else str(value or "").split()


def _words(value: object) -> set[str]:
    return set(_flags(value))


def number(value: object) -> float | None:
    """Return a number, also from text; None for what is none."""
    try:
        return float(value) if isinstance(value, (int, float, str)) else None
    except ValueError:
        return None


def _mapping(text: bytes, name: str) -> dict[str, Any]:
    value, lines = load(text, name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise lines.error((), "expected keys and values at the top level")
    return dict(value)
