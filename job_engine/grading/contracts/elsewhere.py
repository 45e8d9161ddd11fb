"""Error messages for bundles that are not recognised, with advice for known formats."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from job_engine.grading.assignment import FILE_NAME

_CASES: Final = "Its inputs and outputs can be moved to plain cases (contract: cases)."
_COMMANDS: Final = (
    "Call its tests from the test phase of an assignment.yaml that says how they tell what they "
    "found (TAP, JUnit XML, JSON or an exit code)."
)
_SYSTEMS: Final = (
    ("autograde-Makefile", "an Autolab lab whose autograde.tar is missing", "Make it first: `make` "
     "does in most labs, else `tar cf autograde.tar` of what the Makefile unpacks."),
    ("otter_config.json", "an Otter assignment", "`otter generate` makes a Gradescope autograder "
     "of it; give that zip."),
    ("nbgrader_config.py", "an nbgrader course", _COMMANDS),
    (".cs50.yaml", "a check50 problem", _COMMANDS),
    (".cs50.yml", "a check50 problem", _COMMANDS),
    ("config/config.json", "a Submitty configuration", _COMMANDS),
    ("vpl_evaluate.cases", "a VPL activity", _CASES),
    ("vpl_evaluate.sh", "a VPL activity", _COMMANDS),
    ("task.yaml", "an INGInious task", _COMMANDS),
    (".guides/", "a Codio project", _COMMANDS),
)  # fmt: skip
"""A file or directory at the root, what it tells, and what its owner can do."""


class Known(Protocol):
    """A kind that is taken."""

    @property
    def label(self) -> str:
        """What it is called."""

    @property
    def needed(self) -> tuple[str, ...]:
        """Files at its root that tell it."""


def unknown(source: Path, files: tuple[str, ...], kinds: Iterable[Known]) -> str:
    """Return why a directory or archive with these files is taken as nothing."""
    for mark, what, advice in _SYSTEMS:
        if any(file == mark or (mark[-1] == "/" and file.startswith(mark)) for file in files):
            return f"{source} looks like {what}, which is not taken as it is. {advice}"
    kinds = tuple(kinds)
    # Of each kind the first sign: the others are other names of the same.
    first = {kind.label: kind.needed for kind in reversed(kinds)}
    needed = [f"{' and '.join(names)} ({label})" for label, names in reversed(first.items())]
    message = (
        f"{source} is no assignment: it has neither {FILE_NAME} nor, at its root, "
        f"{' nor '.join(needed)}."
    )
    if inside := _inside(files, kinds):
        return f"{message} Did you mean {source / inside}?"
    if case := next((file for file in files if file.endswith(".in")), None):
        return (
            f"{message} For cases such as {case} write an {FILE_NAME} with `contract: cases` and "
            "the program that is run on them, and put them below tests/ (docs/assignments.md)."
        )
    return f"{message} docs/assignments.md says what can be taken, and how."


def _inside(files: tuple[str, ...], kinds: tuple[Known, ...]) -> str | None:
    """Return the highest directory that has what one of the kinds needs."""
    first = {FILE_NAME, *(kind.needed[0] for kind in kinds if "/" not in kind.needed[0])}
    found = [posixpath.dirname(file) for file in files if posixpath.basename(file) in first]
    return min((place for place in found if place), key=lambda p: (p.count("/"), p), default=None)
