"""Filling in what a contract prescribes: pure functions over an assignment's document."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from job_engine.grading.contracts.autolab import Autolab
from job_engine.grading.contracts.classroom import Classroom
from job_engine.grading.contracts.prairielearn import MAX_TIMEOUT_S, ExternalGrading
from job_engine.grading.contracts.source import merge, script
from job_engine.grading.contracts.submitty import Submitty
from job_engine.grading.contracts.vpl import Vpl

M = TypeVar("M", bound=BaseModel)

MIB: Final = 2**20
ENGINE_MOUNT: Final = "/mnt/engine"
"""Where a contract's phases find the files that the engine writes for its grader."""
WITH_ENGINE_FILES: Final = frozenset(
    {"cases", "check50", "classroom", "gradescope", "prairielearn", "submitty", "vpl"}
)
"""Contracts for whose graders the engine writes files."""
BUNDLE_MOUNT: Final = "/mnt/bundle"
SUBMISSION_MOUNT: Final = "/mnt/submission"
"""Where the scripts of contracts find the submission, which they move to the grader's place."""
CASES_HARNESS: Final = "cases"
"""Package in `scripts/`, which is put beside its settings."""
CASES_SETTINGS: Final = "cases.json"
_MAIN: Final = (
    f"import sys; sys.path[0] = {ENGINE_MOUNT!r}; "
    "from scripts.{} import harness; sys.exit(harness.main(sys.argv[1]))"
)
_CASES_MAIN: Final = _MAIN.format(CASES_HARNESS)
_VPL_MAIN: Final = _CASES_MAIN.replace("harness", "activity")
_SUBMITTY_MAIN: Final = _CASES_MAIN.replace("harness", "submitty")
CLASSROOM_HARNESS: Final = "classroom"
CLASSROOM_SETTINGS: Final = "classroom.json"
CHECK50_HARNESS: Final = "check50.py"
CHECK50_SETTINGS: Final = "check50.json"
SUBMITTY_SETTINGS: Final = "submitty.json"
_CLASSROOM_S: Final = 600.0
"""Upper bound, in seconds, of all tests of a repository together."""


def expand(document: Any) -> Any:
    """Return the document with its contract's defaults; its own values take precedence."""
    if not isinstance(document, Mapping):
        return document
    contract = CONTRACTS.get(str(document.get("contract")))
    return document if contract is None else merge(contract(document), document)


def _gradescope(_: Mapping[str, Any]) -> dict[str, Any]:
    """Gradescope's defaults: 768 MB, half a CPU, ten minutes."""
    return {
        "submission": {"strip": False},
        "mounts": {
            "submission": SUBMISSION_MOUNT,
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
    command = ["python3", "-c", _CASES_MAIN, f"{ENGINE_MOUNT}/{CASES_SETTINGS}"]
    return {
        "phases": {"test": {"command": command, **({"program": program} if program else {})}},
        "results": {"format": "stream"},
    }


def _prairielearn(document: Mapping[str, Any]) -> dict[str, Any]:
    """One phase under the limits of PrairieLearn's hosts."""
    options = _options(ExternalGrading, document, "prairielearn")
    unset = [name for name, value in options.environment.items() if value is None]
    seconds = min(options.timeout, MAX_TIMEOUT_S)
    run = script("prairielearn_run.sh")
    return {
        "flavour": "large",
        "image": options.image,
        "submission": {"strip": False},
        "mounts": {"submission": SUBMISSION_MOUNT, "tests": BUNDLE_MOUNT, "results": "/grade"},
        "limits": {
            "memory_bytes": 2048 * MIB,
            "cpus": 0.9,
            "wall_time_s": seconds,
            "cpu_time_s": seconds,
            "processes": 1024,
            "file_size_bytes": 1024 * MIB,
            "output_bytes": 8 * MIB,
        },
        "phases": {
            "test": {
                "command": ["sh", "-c", run, "grade", *unset, "--", *_entry_point(options)],
                "env": {k: v for k, v in options.environment.items() if v is not None},
                "profile": "own-root",
            }
        },
        "results": {"format": "prairielearn", "path": "results/results.json", "forgeable": True},
    }


def _entry_point(options: ExternalGrading) -> list[str]:
    try:
        return options.argv()
    except ValueError as error:
        raise ValueError(f"prairielearn: {error}") from None


def _autolab(document: Mapping[str, Any]) -> dict[str, Any]:
    lab = _options(Autolab, document, "autolab")
    return {
        "submission": {"strip": False},
        "mounts": {"submission": SUBMISSION_MOUNT, "tests": BUNDLE_MOUNT},
        "limits": {"wall_time_s": 180, "cpu_time_s": 180, "output_bytes": 4 * MIB},
        "phases": {
            "test": {
                "command": ["sh", "-c", script("autolab_run.sh"), "make", lab.handin or ""],
                "env": {"USER": "autograde", "LOGNAME": "autograde"},
            }
        },
        "results": {
            "format": "autolab",
            "weights": lab.problems,
            "output_visible": True,
            "forgeable": True,
        },
    }


def _classroom(document: Mapping[str, Any]) -> dict[str, Any]:
    """One phase for all tests, as large as GitHub's runners, with the sum of the time-outs."""
    tests = _options(Classroom, document, "classroom").tests
    # The time-out of a test is that of each of its two commands; steps between them have none.
    commands = sum(60 * test.timeout * (2 if test.setup else 1) for test in tests)
    steps = _CLASSROOM_S * sum(len(test.before) for test in tests)
    main = _MAIN.format(CLASSROOM_HARNESS)
    return _one_phase(min(_CLASSROOM_S, commands + steps), "-c", main, settings=CLASSROOM_SETTINGS)


def _check50(_: Mapping[str, Any]) -> dict[str, Any]:
    """One phase for check50 and the student's program, which it runs."""
    return _one_phase(120, f"{ENGINE_MOUNT}/{CHECK50_HARNESS}", settings=CHECK50_SETTINGS)


def _submitty(document: Mapping[str, Any]) -> dict[str, Any]:
    """One phase for all tests, with time for every command of theirs."""
    options = _options(Submitty, document, "submitty")
    count = sum(len(test.command) for test in options.tests)
    seconds = min(_CLASSROOM_S, 60 + options.time_s * count)
    return _one_phase(seconds, "-c", _SUBMITTY_MAIN, settings=SUBMITTY_SETTINGS)


def _vpl(document: Mapping[str, Any]) -> dict[str, Any]:
    """One phase for the scripts of the activity and the student's program."""
    seconds = 2 * _options(Vpl, document, "vpl").max_time_s
    return _one_phase(seconds, "-c", _VPL_MAIN, settings=CASES_SETTINGS)


def _one_phase(seconds: float, *harness: str, settings: str) -> dict[str, Any]:
    """Have the tests' phase run one of the engine's harnesses beside the student's program.

    `harness` are arguments of python3, and `settings` is the name of the harness's file of them.
    """
    command = ["python3", *harness, f"{ENGINE_MOUNT}/{settings}"]
    return {
        "flavour": "large",
        "mounts": {"submission": SUBMISSION_MOUNT, "tests": BUNDLE_MOUNT},
        "limits": {"wall_time_s": seconds, "cpu_time_s": seconds},
        "phases": {"test": {"command": command}},
        "results": {"format": "stream", "forgeable": True},
    }


CONTRACTS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = MappingProxyType(
    {
        "autolab": _autolab,
        "cases": _cases,
        "check50": _check50,
        "classroom": _classroom,
        "gradescope": _gradescope,
        "prairielearn": _prairielearn,
        "submitty": _submitty,
        "vpl": _vpl,
    }
)


def _options(model: type[M], document: Mapping[str, Any], key: str) -> M:
    """Validate the section `key`; raises `ValueError` whose message begins with the key."""
    try:
        return model.model_validate(document.get(key) or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ValueError(f"{key}: {where}: {message}") from None
