"""Checking an assignment on its reference solutions, each of which must get the expected score.

`solutions/` beside the assignment has a directory for each solution. `model` must get full score,
`empty` (made here if it does not exist) none, and any other the score in `expected.yaml`:

    forgets-tabs: 7
    loops: {score: 0, verdict: time-limit}
    divides-by-zero: {score: 4, tests: {"Divides, and refuses to divide by zero": 0}}
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from job_engine.errors import ArchiveError, AssignmentError, SubmissionError
from job_engine.grading.archive import pack_submission
from job_engine.grading.contracts.recognise import EXPECTED, MODEL, SOLUTIONS
from job_engine.grading.fields import StrictModel
from job_engine.grading.follow import Watch
from job_engine.grading.pipeline import Grader
from job_engine.grading.results import Results
from job_engine.grading.submission import GradePayload
from job_engine.grading.yaml_lines import load
from job_engine.model import FinalVerdict

EMPTY: Final = "empty"
_CLOSE: Final = 1e-6


class Expectation(StrictModel):
    """The expected result of a solution; a number alone is its score."""

    score: float | Literal["full"] | None = None
    verdict: FinalVerdict | None = None
    tests: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    """Scores of single tests, by name."""

    def __str__(self) -> str:
        parts = [] if self.score is None else [_number(self.score)]
        parts += [str(self.verdict)] if self.verdict is not None else []
        parts += [f"{name}: {_number(score)}" for name, score in self.tests.items()]
        return ", ".join(parts)


def _expectation(value: Any) -> Any:
    return {"score": value} if isinstance(value, (int, float, str)) else value


_EXPECTED: Final = TypeAdapter(dict[str, Annotated[Expectation, BeforeValidator(_expectation)]])


@dataclass(frozen=True)
class Solution:
    """One reference solution."""

    name: str
    directory: Path | None
    """None: the submission is an empty file."""
    expected: Expectation


@dataclass(frozen=True)
class Proof:
    """The result of one solution, compared with what was expected."""

    solution: Solution
    got: str
    problems: tuple[str, ...]
    """Empty: the result is as expected."""
    results: Results | None = None


class LocalBlobs:
    """A content-addressed directory: a blob source, and a catalogue in which all are published."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def add(self, file: Path) -> str:
        """Move a file in; return its digest."""
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        file.rename(self._directory / digest)
        return f"sha256:{digest}"

    def download_blob(self, digest: str, target: Path) -> None:
        """See `BlobSource`."""
        shutil.copyfile(self._directory / digest.removeprefix("sha256:"), target)

    def digest_of(self, name: str) -> str | None:
        """See `Catalogue`: nothing has a name here."""

    def publishes(self, digest: str) -> bool:
        """See `Catalogue`."""
        return (self._directory / digest.removeprefix("sha256:")).exists()


def solutions_of(directory: Path) -> list[Solution]:
    """Return the solutions in a directory, `model` and `empty` first.

    Raises `AssignmentError` if the directories and the expectations do not match.
    """
    expected = _expected(directory / EXPECTED)
    there = {path.name: path for path in sorted(directory.iterdir()) if path.is_dir()}
    if MODEL not in there:
        raise AssignmentError(f"{directory} has no directory {MODEL}: the model answer.")
    defaults = {MODEL: Expectation(score="full"), EMPTY: Expectation(score=0)}
    expected = {**defaults, **expected}
    for name in [*expected, *there]:
        if name not in expected:
            raise AssignmentError(
                f"{directory / EXPECTED} does not say what {name} must get: add `{name}: 0`, say."
            )
        if name not in there and name != EMPTY:
            raise AssignmentError(f"{directory} has no directory {name}, which {EXPECTED} names.")
    return [Solution(name, there.get(name), expectation) for name, expectation in expected.items()]


def prove(
    grader: Grader, blobs: LocalBlobs, assignment: str, solutions: list[Solution], watch: Watch
) -> Iterator[Proof]:
    """Grade each solution with the assignment of this digest; yield the comparisons.

    Raises `AssignmentError` for an assignment that grades nothing, and `SandboxError`.
    """
    for solution in solutions:
        submission = _submission(solution, blobs, watch.scratch)
        payload = GradePayload.model_validate(
            {"assignment": assignment, "submission": submission, "student": solution.name}
        )
        try:
            results = grader.grade(payload, watch)
        except (SubmissionError, ArchiveError) as error:
            yield _refused(solution, error.message)
        else:
            problems = tuple(_problems(solution.expected, results))
            yield Proof(solution, _got(results), problems, results)


def _submission(solution: Solution, blobs: LocalBlobs, scratch: Path) -> Mapping[str, Any]:
    directory = solution.directory
    if directory is None or not any(directory.iterdir()):
        return {"files": {"empty": ""}}
    packed = scratch / f"solution-{solution.name}"
    with packed.open("wb") as out:
        pack_submission(directory, out)
    return {"archive": {"blob": blobs.add(packed)}}


def _expected(file: Path) -> dict[str, Expectation]:
    if not file.is_file():
        return {}
    value, _ = load(file.read_bytes(), file.name)
    try:
        return _EXPECTED.validate_python(value or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        raise AssignmentError(f"{file}: {where}: {first['msg']}") from None


def _problems(expected: Expectation, results: Results) -> Iterator[str]:
    if expected.score == "full":
        if not results.lost_nothing:
            yield "it must get every point"
    elif expected.score is not None and not _same(results.score or 0.0, expected.score):
        yield f"it must get {_number(expected.score)}"
    if expected.verdict is not None and results.verdict is not expected.verdict:
        yield f"its verdict must be {expected.verdict}"
    scores = {test.name: test.score for test in results.tests}
    for name, score in expected.tests.items():
        if name not in scores:
            yield f"there is no test {name!r}"
        elif not _same(scores[name] or 0.0, score):
            yield f"test {name!r} must give {_number(score)}, and gives {scores[name] or 0:g}"


def _refused(solution: Solution, message: str) -> Proof:
    expected = solution.expected
    problems = []
    if expected.score not in (0, None):
        problems.append(f"it must get {_number(expected.score)}, and is refused: {message}")
    if expected.verdict not in (None, FinalVerdict.SUBMISSION_REFUSED):
        problems.append(f"its verdict must be {expected.verdict}")
    return Proof(solution, "refused", tuple(problems))


def _got(results: Results) -> str:
    score = "none" if results.score is None else f"{results.score:g}"
    of = "" if results.max_score is None else f" of {results.max_score:g}"
    return f"{score}{of}, {results.verdict or results.outcome}"


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _CLOSE


def _number(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def solutions_beside(source: Path) -> Path:
    """Return where the solutions of a directory or an archive are looked for."""
    return (source if source.is_dir() else source.parent) / SOLUTIONS
