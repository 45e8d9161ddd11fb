"""Packages of Codeforces' Polygon as plain cases: `problem.xml`, `tests/`, a testlib checker."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree as ET

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.problem_package import (
    MAX_MEMORY_BYTES,
    build_and_limits,
    number,
    program,
)
from job_engine.grading.contracts.source import Read, script

FILE: Final = "problem.xml"
BUNDLED: Final = frozenset({FILE, "tests", "files"})
"""Names at a package's root that judging needs."""
_PATTERN: Final = re.compile(r"[\w./-]*%0?\d?d[\w./-]*")
_PLAIN: Final = re.compile(r"[^\w.-]+")
_STANDARD: Final[dict[str, dict[str, Any]]] = {
    "fcmp": {"kind": "lines"},
    "rcmp": {"kind": "floats", "tolerance": 1.5e-6},
    "rcmp4": {"kind": "floats", "tolerance": 1e-4},
    "rcmp6": {"kind": "floats", "tolerance": 1e-6},
    "rcmp9": {"kind": "floats", "tolerance": 1e-9},
    "yesno": {"kind": "tokens", "ignore_case": True},
    "nyesno": {"kind": "tokens", "ignore_case": True},
    **{name: {"kind": "tokens"} for name in ("hcmp", "icmp", "lcmp", "ncmp", "uncmp", "wcmp")},
}
"""Our checkers for testlib's own, which a package names without containing them."""


@dataclass(frozen=True)
class _Test:
    name: str
    """Path of the case in the bundle, below `cases/` and without a suffix."""
    input: str
    answer: str
    """Paths in the package."""
    points: float
    group: str | None


def document(files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return limits, cases and title of a package, as keys of an assignment's document.

    Raises `AssignmentError` for one whose tests are not in it.
    """
    root = _root(read)
    tests = _tests(root)
    missing = [name for t in tests for name in (t.input, t.answer) if name not in files]
    if missing or not tests:
        raise AssignmentError(
            f"The package lacks {missing[0] if missing else 'tests'}: export the full package, "
            "which holds all of them."
        )
    testset = _testset(root)
    time_s = (number(testset.findtext("time-limit")) or 5000.0) / 1000
    memory = number(testset.findtext("memory-limit"))
    scored = any(test.points for test in tests)
    cases: dict[str, Any] = {
        "directory": "cases",
        "program": program(min(memory, MAX_MEMORY_BYTES) if memory else None),
        "time_s": time_s,
        "output_bytes": 8 * 2**20,
        **_judges(root, files),
        "groups": dict(_groups(testset, tests)),
    }
    if scored:
        cases["cases"] = {test.name: {"points": test.points} for test in tests}
    else:
        cases["all_or_nothing"] = True
    document = {**build_and_limits(len(tests), time_s), "cases": cases}
    names = root.findall("names/name")
    english = [name for name in names if name.get("language") == "english"]
    if title := next((name.get("value") for name in [*english, *names]), None):
        document["title"] = title[:200]
    return document


def renamed(read: Read) -> dict[str, str]:
    """Return the path in the bundle of each file of the tests, by its path in the package."""
    paths = {}
    for test in _tests(_root(read)):
        paths[test.input] = f"cases/{test.name}.in"
        paths[test.answer] = f"cases/{test.name}.ans"
    return paths


def _root(read: Read) -> ET.Element:
    data = read(FILE)
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise AssignmentError(f"{FILE} has a document type, which no package needs.")
    try:
        return ET.fromstring(data)
    except ET.ParseError as error:
        raise AssignmentError(f"{FILE} cannot be read: {error}") from None


def _testset(root: ET.Element) -> ET.Element:
    testset = root.find("judging/testset[@name='tests']")
    if testset is None:
        raise AssignmentError(f"{FILE} has no testset 'tests'.")
    return testset


def _tests(root: ET.Element) -> list[_Test]:
    testset = _testset(root)
    patterns = [testset.findtext(f"{kind}-path-pattern") or "" for kind in ("input", "answer")]
    if not all(_PATTERN.fullmatch(pattern) for pattern in patterns):
        raise AssignmentError(f"{FILE}: the path patterns of its tests cannot be read: {patterns}")
    elements = testset.findall("tests/test")
    if not elements:
        count = int(number(testset.findtext("test-count")) or 0)
        elements = [ET.Element("test")] * count
    return [_test(index, element, patterns) for index, element in enumerate(elements, start=1)]


def _test(index: int, element: ET.Element, patterns: list[str]) -> _Test:
    group = _PLAIN.sub("-", element.get("group") or "") or None
    directory = "sample" if element.get("sample") == "true" else "secret"
    return _Test(
        name=posixpath.join(directory, group or "", f"{index:03}"),
        input=patterns[0] % index,
        answer=patterns[1] % index,
        points=number(element.get("points")) or 0.0,
        group=group,
    )


def _groups(testset: ET.Element, tests: list[_Test]) -> Iterator[tuple[str, dict[str, Any]]]:
    strict = {
        _PLAIN.sub("-", group.get("name") or "")
        for group in testset.findall("groups/group")
        if group.get("points-policy") == "complete-group"
    }
    for directory, group in sorted({(posixpath.dirname(t.name), t.group or "") for t in tests}):
        rules: dict[str, Any] = {}
        if not directory.startswith("sample"):
            rules["shown"] = False
        if group in strict:
            rules["all_or_nothing"] = True
        if rules:
            yield directory, rules


def _judges(root: ET.Element, files: tuple[str, ...]) -> dict[str, Any]:
    """Return the checker, and the interactor of a problem that has one."""
    judges = {"checker": _checker(root, files)}
    interactor = root.find("assets/interactor")
    if interactor is not None:
        judges["interactor"] = _testlib("interactor", interactor, files)
    return judges


def _checker(root: ET.Element, files: tuple[str, ...]) -> dict[str, Any]:
    checker = root.find("assets/checker")
    name = (checker.get("name") or "") if checker is not None else ""
    standard = _STANDARD.get(name.removeprefix("std::").removesuffix(".cpp"))
    if checker is None or standard is not None:
        return standard or {"kind": "tokens"}
    return {"kind": "custom", **_testlib("checker", checker, files)}


def _testlib(what: str, asset: ET.Element, files: tuple[str, ...]) -> dict[str, Any]:
    """Return the commands of a program that is in the package as a source."""
    source = asset.find("source")
    path = source.get("path", "") if source is not None else ""
    if path not in files:
        name = asset.get("name") or path
        raise AssignmentError(f"{FILE}: its {what} {name!r} is not in the package.")
    build = ["sh", "-c", script("polygon_testlib.sh"), "testlib", what, f"/mnt/tests/{path}"]
    return {"build": build, "command": [*build]}
