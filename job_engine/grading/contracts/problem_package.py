"""Problem packages of contests (Kattis, ICPC, DOMjudge) as plain cases.

The format is the Kattis problem package format, in its versions `legacy`, `2023-07-draft` and
later: `problem.yaml`, `data/sample` and `data/secret`, output validators with flags.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Final

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.source import Read, script
from job_engine.grading.yaml_lines import load, mapping

FILE: Final = "problem.yaml"
DATA: Final = "data"
_UNSUPPORTED: Final = frozenset({"multi-pass", "pvp", "submit-answer"})
_INTERACTIVE: Final = "interactive"
_VALIDATORS: Final = ("output_validator", "output_validators")
BUNDLED: Final = frozenset({FILE, DATA, *_VALIDATORS})
"""Names at a package's root that judging needs."""
_GROUP_FILES: Final = ("testdata.yaml", "test_group.yaml")
_MIB: Final = 2**20
MAX_MEMORY_BYTES: Final = 2048 * _MIB
_DEFAULT_TIME_S: Final = 5.0
_MAX_WALL_S: Final = 600.0
_SETUP_S: Final = 60.0
"""Time for building a validator, added to that of the cases."""


def document(files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return limits, cases and title of a package, as keys of an assignment's document.

    Raises `AssignmentError` for problems whose programs neither map an input to an output, nor
    talk with a validator.
    """
    problem = _mapping(read(FILE), FILE)
    words = {*_words(problem.get("type")), *_words(problem.get("validation"))}
    if unsupported := sorted(words & _UNSUPPORTED):
        raise AssignmentError(
            f"{FILE}: the problem is {' and '.join(unsupported)}; of problem packages only those "
            "can be taken whose programs read an input and print an answer, or are interactive. "
            "Write a harness that runs the program: a split run (docs/split-runs.md)."
        )
    limits = problem.get("limits")
    limits = limits if isinstance(limits, Mapping) else {}
    time_s = _time_limit(limits, files, read)
    names = [name for name in files if name.startswith(f"{DATA}/") and name.endswith(".in")]
    if not names:
        raise AssignmentError(f"The package has no case: no .in file below {DATA}/.")
    if _INTERACTIVE in words:
        # Wall time of both programs: what judges of contests allow a talk at most.
        time_s *= 2
    memory = number(limits.get("memory"))
    document: dict[str, Any] = {
        **build_and_limits(len(names), time_s),
        "cases": {
            "directory": DATA,
            "program": program(min(memory * _MIB, MAX_MEMORY_BYTES) if memory else None),
            "time_s": time_s,
            "output_bytes": int((number(limits.get("output")) or 8) * _MIB),
            **_judging(problem, words, names, files, read),
        },
    }
    if title := _title(problem.get("name")):
        document["title"] = title
    return document


def program(memory_bytes: float | None) -> dict[str, Any]:
    """Return `cases.program` for a submission built by `build_and_limits`; None: no own limit."""
    command: dict[str, Any] = {"command": ["sh", "./.job-engine-run"]}
    if memory_bytes:
        command["limits"] = {"memory_bytes": int(memory_bytes)}
    return command


def build_and_limits(cases: int, time_s: float) -> dict[str, Any]:
    """Return a build phase for any language, and limits for a number of cases of `time_s` each."""
    wall_time_s = min(_MAX_WALL_S, _SETUP_S + cases * time_s)
    build = script("package_build.sh")
    return {
        "limits": {"wall_time_s": wall_time_s, "cpu_time_s": wall_time_s},
        "phases": {"build": {"command": ["sh", "-c", build], "limits": {"wall_time_s": 60}}},
    }


def _judging(
    problem: Mapping[str, Any],
    words: set[str],
    names: list[str],
    files: tuple[str, ...],
    read: Read,
) -> dict[str, Any]:
    validator = _validator(words, files)
    interactive = _INTERACTIVE in words
    if validator is None and interactive:
        raise AssignmentError(
            f"{FILE}: the problem is interactive, and there is no {' or '.join(_VALIDATORS)}/ "
            "that talks with the program."
        )
    flags = _flags(problem.get("validator_flags"))
    groups: dict[str, dict[str, Any]] = {}
    directories = sorted({posixpath.dirname(name) for name in names})
    for directory in directories:
        settings = _settings(directory, files, read)
        group: dict[str, Any] = {}
        # What a contest keeps secret is judged, and not shown.
        if not directory.startswith(f"{DATA}/sample"):
            group["shown"] = False
        own = _flags(settings.get("output_validator_flags", settings.get("output_validator_args")))
        if own:
            group["checker"] = _checker(validator, own, interactive)
        if "scoring" in words:
            count = sum(posixpath.dirname(name) == directory for name in names)
            group |= _points(settings, directory, count, validator is not None)
        groups[posixpath.relpath(directory, DATA)] = group
    judging: dict[str, Any] = {"checker": _checker(validator, flags, interactive)}
    if "scoring" not in words:
        judging["all_or_nothing"] = True
    return judging | {"groups": {name: group for name, group in groups.items() if group}}


def _settings(directory: str, files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return the settings of a group of cases, with those inherited from the groups above it."""
    settings: dict[str, Any] = {}
    parts = directory.split("/")
    for end in range(1, len(parts) + 1):
        for name in _GROUP_FILES:
            path = "/".join([*parts[:end], name])
            if path in files:
                settings.update(_mapping(read(path), path))
    return settings


def _points(
    settings: Mapping[str, Any], directory: str, count: int, custom: bool
) -> dict[str, Any]:
    """Return the points of each case of a group that is scored, and how they add up.

    `custom`: the package has a validator, which may give a case a fraction of its points.
    """
    flags = _words(settings.get("grader_flags"))
    aggregation = settings.get("score_aggregation", "min" if "min" in flags else "sum")
    max_score = number(settings.get("max_score"))
    if max_score is None and custom:
        # The most that the validator may give is the upper end of the group's range.
        max_score = number((_flags(settings.get("range")) or [""])[-1])
    accept_score = number(settings.get("accept_score"))
    if accept_score is None:
        accept_score = 0.0 if directory.startswith(f"{DATA}/sample") else 1.0
    if aggregation in ("min", "pass-fail"):
        # The worst case's score is the group's: all of it or none.
        total = max_score if max_score is not None else accept_score
        return {"points": total / count, "worst_counts" if custom else "all_or_nothing": True}
    return {"points": max_score / count if max_score is not None else accept_score}


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
            f"{FILE}: validation is custom, and there is no {' or '.join(_VALIDATORS)}/."
        )
    return None


def _checker(validator: str | None, flags: list[str], interactive: bool) -> dict[str, Any]:
    if validator is not None:
        build = ["sh", "-c", script("package_validator.sh"), "validator", f"/mnt/tests/{validator}"]
        command = [*build, " ".join(flags)]
        return {
            "kind": "kattis",
            "build": build,
            "command": command,
            **({"interactive": True} if interactive else {}),
        }
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
    """Return the seconds of one run, from the first of the formats' places that has them."""
    seconds = number(limits.get("time_limit"))
    if seconds is None and ".timelimit" in files:
        seconds = number(read(".timelimit").decode("utf-8", "replace").strip())
    if seconds is None and "domjudge-problem.ini" in files:
        for line in read("domjudge-problem.ini").decode("utf-8", "replace").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "timelimit":
                seconds = number(value.strip().strip("'\""))
    return seconds if seconds and seconds > 0 else _DEFAULT_TIME_S


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
    """Return a number, also from text; None for anything else."""
    try:
        return float(value) if isinstance(value, (int, float, str)) else None
    except ValueError:
        return None


def _mapping(text: bytes, name: str) -> dict[str, Any]:
    value, lines = load(text, name)
    return {} if value is None else dict(mapping(value, lines))
