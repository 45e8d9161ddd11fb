"""Error messages for bundles that are not recognised, with advice for known formats."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
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
    ("vpl_run.sh", "a VPL activity without an evaluation", "Add its vpl_evaluate.cases or "
     "vpl_evaluate.sh."),
    ("task.yaml", "an INGInious task", _COMMANDS),
    (".guides/", "a Codio project", _COMMANDS),
)  # fmt: skip
"""A file or directory (with a slash) at the root, the system it belongs to, and advice."""


class Format(Protocol):
    """A format that is recognised."""

    @property
    def label(self) -> str:
        """Its name in messages."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Files at the root by which it is recognised."""


def message(source: Path, files: tuple[str, ...], formats: Sequence[Format]) -> str:
    """Return why a directory or archive with these files has no known format, and what to do."""
    for mark, what, advice in _SYSTEMS:
        if any(file == mark or (mark[-1] == "/" and file.startswith(mark)) for file in files):
            return f"{source} looks like {what}, which is not taken as it is. {advice}"
    # The first marks of each label; further ones are alternative names of the same file.
    first = {format_.label: format_.marks for format_ in reversed(formats)}
    marks = [f"{' and '.join(names)} ({label})" for label, names in reversed(first.items())]
    problem = (
        f"{source} is no assignment: it has neither {FILE_NAME} nor, at its root, "
        f"{' nor '.join(marks)}."
    )
    if inside := _inside(files, formats):
        return f"{problem} Did you mean {source / inside}?"
    if case := next((file for file in files if file.endswith(".in")), None):
        return (
            f"{problem} For cases such as {case} write an {FILE_NAME} with `contract: cases` and "
            "the program that is run on them, and put them below tests/ (docs/assignments.md)."
        )
    return f"{problem} docs/assignments.md says what can be taken, and how."


def _inside(files: tuple[str, ...], formats: Sequence[Format]) -> str | None:
    """Return the highest directory with the first mark of a format."""
    first = {FILE_NAME, *(format_.marks[0] for format_ in formats if "/" not in format_.marks[0])}
    found = {posixpath.dirname(file) for file in files if posixpath.basename(file) in first}
    return min(found - {""}, key=lambda path: (path.count("/"), path), default=None)
