"""The table of the corpus: what each program is, how it is run, and what it must get."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from job_engine.grading.results import Outcome
from job_engine.sandbox.base import Verdict

PROGRAMS: Final = Path(__file__).with_name("programs")
HELPER: Final = Path(__file__).with_name("hostile.py")


class Row(BaseModel):
    """One program of the corpus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    why: str
    """What it tries."""
    kind: str
    """The containment that it tries: the file that it stands in."""
    python: str | None = None
    sh: str | None = None
    c: str | None = None
    files: dict[str, str] = {}
    """Further files of the submission, by name."""
    assignment: Literal["plain", "build", "writer", "harness", "imported", "reported", "split"] = (
        "plain"
    )
    """Who runs it; see `assignments.py`."""
    limits: dict[str, float | str] = {}
    """Changes to the limits of the phase that runs it."""
    profile: Literal["own-root"] | None = None
    """Of the test phase."""
    root_too: bool = False
    """Whether it is graded under the profile own-root as well, as `<name>-root`."""
    reach: list[str] = []
    """Where a build may connect to."""
    verdict: Verdict | dict[str, Verdict] = Verdict.OK
    """Of the phase that runs it; by backend where the two count in different ways."""
    outcome: Outcome = Outcome.GRADED
    score: float | None = 1.0
    says: str | None = None
    """What its output must hold (a pattern), to show that it did try."""
    forges: bool = False
    """Whether an assignment that is `forgeable` is excused from its score and outcome."""
    split_score: float = 0.0
    """What it must get in a split run, where it can forge nothing."""

    @model_validator(mode="after")
    def _one_program(self) -> Row:
        if sum(text is not None for text in (self.python, self.sh, self.c)) != 1:
            raise ValueError(f"{self.name}: exactly one of python, sh and c")
        return self

    @property
    def language(self) -> Literal["py", "sh", "c"]:
        """The suffix of its file."""
        if self.c is not None:
            return "c"
        return "sh" if self.sh is not None else "py"

    def submission(self) -> dict[str, Any]:
        """Return it as a `grade` job's submission."""
        program = self.python or self.sh or self.c or ""
        files: dict[str, Any] = {f"solution.{self.language}": program, "name": self.name}
        if self.language == "py":
            files["hostile.py"] = HELPER.read_text()
        return {"files": files | self.files}

    def in_split(self) -> Row:
        """Return the same program in a split run, which is excused nothing."""
        own = {
            "name": f"{self.name}-split",
            "assignment": "split",
            "forges": False,
            "outcome": Outcome.GRADED,
            "score": self.split_score,
            "verdict": Verdict.OK,
            "says": None,
        }
        if self.assignment == "imported":
            own["python"] = f"{self.python}\nif __name__ == '__main__': print(answer())\n"
        return self.model_copy(update=own)

    def as_root(self) -> Row:
        """Return the same program under the profile own-root, which is excused nothing."""
        return self.model_copy(update={"name": f"{self.name}-root", "profile": "own-root"})

    def expected(self, backend: str) -> Verdict:
        """Return the verdict that it must get."""
        return self.verdict[backend] if isinstance(self.verdict, dict) else self.verdict


@cache
def load() -> dict[str, Row]:
    """Return the corpus by name."""
    rows: dict[str, Row] = {}
    for file in sorted(PROGRAMS.glob("*.yaml")):
        for fields in yaml.safe_load(file.read_text()):
            row = Row(kind=file.stem, **fields)
            assert row.name not in rows, f"two programs are called {row.name}"
            rows[row.name] = row
            if row.forges:
                rows[f"{row.name}-split"] = row.in_split()
            if row.root_too:
                rows[f"{row.name}-root"] = row.as_root()
    return rows
