"""PrairieLearn: a question's options for external grading, and reading them from a course."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.source import Read
from job_engine.grading.fields import EnvName, RelativePath

FILE: Final = "info.json"
MAX_TIMEOUT_S: Final = 600
"""PrairieLearn's own maximum."""
_ENTRY_POINTS: Final = {
    "prairielearn/grader-c": "/cgrader/entrypoint.sh",
    "prairielearn/grader-python": "/python_autograder/run.sh",
    "prairielearn/grader-java": "/javagrader/autograde.sh",
    "prairielearn/grader-r": "/r_autograder/run.sh",
}
"""Entry points of PrairieLearn's own images, also of an image that the operator maps to another."""


class ExternalGrading(BaseModel):
    """`externalGradingOptions` of a question's `info.json`; other keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    image: str | None = None
    entrypoint: str | list[str] | None = None
    timeout: float = Field(30, gt=0, allow_inf_nan=False)
    """Seconds; at most 600, as in PrairieLearn."""
    enableNetworking: bool = False  # noqa: N815 - PrairieLearn's name
    environment: dict[EnvName, str | None] = {}
    """None: unset."""
    serverFilesCourse: list[RelativePath] = []  # noqa: N815

    @field_validator("enableNetworking")
    @classmethod
    def _refused(cls, value: bool) -> bool:
        if value:
            raise ValueError(
                "a phase that sees the tests gets no network here; `prairielearn: "
                "{enableNetworking: false}` in an assignment.yaml beside info.json runs it without"
            )
        return value

    def argv(self) -> list[str]:
        """Return the entry point as words; raises `ValueError` when there is none."""
        entry = self.entrypoint or _ENTRY_POINTS.get((self.image or "").partition(":")[0])
        words = shlex.split(entry) if isinstance(entry, str) else list(entry or ())
        if not words:
            raise ValueError(
                'entrypoint: give it, for the image\'s own is not known: ["/grade/tests/run.sh"]'
            )
        return words


def document(_files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return title and options of a question, as keys of an assignment's document.

    Raises `AssignmentError` for a question that is not graded externally.
    """
    try:
        info = json.loads(read(FILE))
        options = info.get("externalGradingOptions")
    except (ValueError, AttributeError) as error:
        raise AssignmentError(f"{FILE} cannot be read: {error}") from None
    if not isinstance(options, dict):
        raise AssignmentError(
            f"{FILE} has no externalGradingOptions: only questions that are graded externally can "
            "be taken."
        )
    title = {"title": str(info["title"])} if "title" in info else {}
    return {**title, "prairielearn": options}


def course_files(question: Path, document: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files of the course's `serverFilesCourse` that a question names.

    Keys are their names below `tests/`. Raises `AssignmentError` for a directory that lies in no
    course, and for names that are not in it.
    """
    options = document.get("prairielearn")
    names = options.get("serverFilesCourse", []) if isinstance(options, Mapping) else []
    if not names or (question / "serverFilesCourse").is_dir():
        return {}
    parents = question.resolve().parents
    course = next((path for path in parents if (path / "infoCourse.json").is_file()), None)
    if course is None:
        raise AssignmentError(
            f"{question} asks for serverFilesCourse, and lies below no directory with "
            "infoCourse.json; copy those files to serverFilesCourse/ in it."
        )
    root = (course / "serverFilesCourse").resolve()
    files: dict[str, Path] = {}
    for name in map(str, names):
        path = (root / name).resolve()
        if not path.is_relative_to(root) or not path.exists():
            raise AssignmentError(f"serverFilesCourse: {name!r} is not in {root}.")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not file.is_symlink():
                files[f"serverFilesCourse/{file.relative_to(root)}"] = file
    return files
