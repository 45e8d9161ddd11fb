"""Submitty: reading the test cases of a `config.json`.

The keys are those of Submitty's assignment configuration; what scores is as in its
`main_validator.cpp`, and how outputs are compared as in its `myersDiff.cpp`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.source import Read
from job_engine.grading.fields import StrictModel

FILES: Final = ("config/config.json", "config.json")
"""Possible places of the configuration; the first one that exists is used."""
MARKS: Final = (("config/config.json",), ("config.json", "test_output/"))
_COMMENT: Final = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
METHODS: Final[Mapping[str, Mapping[str, Any]]] = {
    "diff": {},
    "myersDiffbyLinebyChar": {"comparison": "byLinebyChar"},
    "myersDiffbyLinebyWord": {"comparison": "byLinebyWord"},
    "myersDiffbyLine": {"comparison": "byLine"},
    "myersDiffbyLineNoWhite": {"comparison": "byLine", "ignoreWhitespace": True},
    "diffLineSwapOk": {"comparison": "byLine", "lineSwapOk": True},
    "fileExists": {},
    "errorIfEmpty": {},
    "errorIfNotEmpty": {},
    "warnIfEmpty": {},
    "warnIfNotEmpty": {},
    "intComparison": {},
    "searchToken": {},
    "custom_validator": {},
}
"""Supported methods of validation; the value is the method that it is another name for."""
_UNSUPPORTED: Final = (
    "containers",
    "dispatcher_actions",
    "actions",
    "solution_commands",
    "input_generation_commands",
)
_MIN_TIME_S: Final = 20.0
_SOURCES: Final = ("c", "cpp", "cxx", "h", "hpp", "hxx", "java")


def _list(value: Any) -> Any:
    return [value] if isinstance(value, (str, Mapping)) else value


Words = Annotated[list[str], BeforeValidator(_list)]


class Validation(StrictModel):
    """One check of a test's output; keys about presentation are ignored."""

    model_config = ConfigDict(extra="ignore")

    method: str
    actual_file: Words = []
    expected_file: str = ""
    expected_string: str | None = None
    """Instead of a file."""
    comparison: str = "byLinebyChar"
    ignoreWhitespace: bool = False  # noqa: N815 - the names are the system's
    lineSwapOk: bool = False  # noqa: N815
    extra_student_output: bool = False
    one_of: bool = False
    term: float | None = None
    """Of `intComparison`: what the number is compared with."""
    data: Words = []
    """Of `searchToken`: what must be in the output."""
    command: str = ""
    """Of `custom_validator`: what runs it."""
    given: dict[str, JsonValue] = {}
    """Of `custom_validator`: the validation as the configuration has it, which it reads."""
    deduction: float = Field(1.0, ge=0, le=1)
    """Fraction of the test's points that it may deduct."""
    failure_message: str = ""


class SubmittyTest(StrictModel):
    """One test case."""

    model_config = ConfigDict(extra="ignore")

    type: str = "Execution"
    title: str = ""
    command: Words = []
    points: float = 0
    extra_credit: bool = False
    hidden: bool = False
    executable_name: Words = []
    """For `Compilation`: files that it must have made."""
    actual_file: Words = []
    """For `FileCheck`: files that must exist."""
    validation: Annotated[list[Validation], BeforeValidator(_list)] = []


class Submitty(StrictModel):
    """For `contract: submitty`."""

    tests: list[SubmittyTest] = Field(min_length=1)
    time_s: float = Field(_MIN_TIME_S, gt=0, allow_inf_nan=False)
    """Of each command."""
    sources: Words = [f"**/*.{ending}" for ending in _SOURCES]
    """Patterns of submitted files that are passed to compilations."""


def document(files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return the tests of a configuration, as keys of an assignment's document.

    Raises `AssignmentError` for an invalid configuration, and for unsupported tests.
    """
    name = next(name for name in FILES if name in files)
    config = _config(read(name), name)
    tests = [test for test in config.get("testcases") or [] if isinstance(test, Mapping)]
    if problems := list(_problems(config, tests)):
        raise AssignmentError(
            f"{name} asks for {', '.join(dict.fromkeys(problems))}, which is not taken. Call its "
            "tests from the test phase of an assignment.yaml (docs/assignments.md)."
        )
    # Penalties for many submissions are left to the platform.
    kept = [dict(test) for test in tests if "max_submissions" not in test]
    for test in kept:
        checks = test.get("validation") or []
        test["validation"] = [_validation(check) for check in _list(checks)]
    found: dict[str, Any] = {"submitty": {"tests": kept}}
    limits = [scope["resource_limits"] for scope in (config, *tests) if "resource_limits" in scope]
    cpu_s = [limit.get("RLIMIT_CPU") for limit in limits if isinstance(limit, Mapping)]
    if times := [float(s) for s in cpu_s if isinstance(s, (int, float)) and s > 0]:
        found["submitty"]["time_s"] = max(_MIN_TIME_S, *times)
    copied = config.get("autograding")
    if isinstance(copied, Mapping) and "submission_to_compilation" in copied:
        found["submitty"]["sources"] = copied["submission_to_compilation"]
    options = config.get("container_options")
    if config.get("autograding_method") == "docker" and isinstance(options, Mapping):
        found |= {"image": options["container_image"]} if "container_image" in options else {}
    return found


def _validation(check: Mapping[str, Any]) -> dict[str, Any]:
    found = {**check, **METHODS[check["method"]]}
    return {**found, "given": dict(check)} if check["method"] == "custom_validator" else found


def _problems(config: Mapping[str, Any], tests: list[Mapping[str, Any]]) -> Iterator[str]:
    for where in (config, *tests):
        yield from (key for key in _UNSUPPORTED if where.get(key))
    for test in tests:
        if test.get("type", "Execution") not in ("Execution", "Compilation", "FileCheck"):
            yield f"tests of type {test['type']}"
        for check in _list(test.get("validation") or []):
            if check.get("method") not in METHODS:
                yield f"the validation {check.get('method', 'custom')!r}"


def _config(data: bytes, name: str) -> dict[str, Any]:
    text = data.decode("utf-8", "replace")
    plain = _COMMENT.sub(lambda match: match[0] if match[0].startswith('"') else " ", text)
    try:
        config = json.loads(plain)
    except ValueError as error:
        raise AssignmentError(f"{name} cannot be read: {error}") from None
    if not isinstance(config, dict) or not config.get("testcases"):
        raise AssignmentError(f"{name} has no testcases.")
    return config
