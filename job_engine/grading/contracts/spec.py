"""Schemas for settings of contracts in the words of the systems that they come from."""

from __future__ import annotations

import shlex
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from job_engine.grading.fields import EnvName, RelativePath

MAX_TIMEOUT_S: Final = 600
"""What PrairieLearn allows at most."""
_ENTRY_POINTS: Final = {
    "prairielearn/grader-c": "/cgrader/entrypoint.sh",
    "prairielearn/grader-python": "/python_autograder/run.sh",
    "prairielearn/grader-java": "/javagrader/autograde.sh",
    "prairielearn/grader-r": "/r_autograder/run.sh",
}
"""Of images whose own it is; an image that is mapped to another is asked for the same."""


class ExternalGrading(BaseModel):
    """`externalGradingOptions` of a question's `info.json`; other keys are not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    image: str | None = None
    entrypoint: str | list[str] | None = None
    timeout: float = Field(30, gt=0, allow_inf_nan=False)
    """Seconds; cut at 600, as there."""
    enableNetworking: bool = False  # noqa: N815 - the name is the contract's
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


class Autolab(BaseModel):
    """What a lab's `.yml` says for its autograder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    handin: RelativePath | None = None
    """Name that the hand-in has for the grader; None: the submission's files as they are."""
    problems: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Most points of each problem."""
    files: list[RelativePath] = []
    """What the grader gets of the lab besides its Makefile and `autograde.tar`: there a lab's
    `.rb` says it (`autogradeInputFiles`)."""
