"""The verdict on a submission: one of a closed set, each of which implies who is at fault.

A fault of the program is a result of the job, except `submission-refused`, which is a FAILED job
unless the tests themselves refused the submission. A fault of the assignment or the platform is no
result, and is never shown as a student's failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from job_engine.errors import (
    ActionFailedError,
    AssignmentError,
    GradingError,
    ImageUnavailableError,
    ReplayRefusedError,
    SandboxError,
    SandboxRefusedError,
    TimedOut,
)

VERDICT_ACTION: Final = "grade"
"""The action whose `output` is a verdict."""

RECEIPT_KEY: Final = '"receipt"'
"""Text in the output of other actions that is a verdict too; other outputs lack it."""


class Fault(StrEnum):
    """Who has to fix the problem."""

    NOBODY = "nobody"
    PROGRAM = "program"
    """The submitter."""
    ASSIGNMENT = "assignment"
    """The author of the assignment."""
    PLATFORM = "platform"
    """The operator. The job was retried as often as its action allows."""


class FinalVerdict(StrEnum):
    """The verdict on a submission."""

    ACCEPTED = "accepted"
    """Full score, and no test failed."""

    WRONG_ANSWER = "wrong-answer"
    """The tests ran to their end, but not all passed, or points were lost."""
    RUNTIME_ERROR = "runtime-error"
    """The tests were ended by a signal that no limit explains."""
    TIME_LIMIT = "time-limit"
    """CPU time or wall time."""
    MEMORY_LIMIT = "memory-limit"
    OUTPUT_LIMIT = "output-limit"
    PROCESS_LIMIT = "process-limit"
    DISK_LIMIT = "disk-limit"
    """A file system was full, or a file too large."""
    BUILD_FAILED = "build-failed"
    """It does not build, for whatever reason."""
    SUBMISSION_REFUSED = "submission-refused"
    """There is nothing to grade: no such repository, a damaged archive, missing files."""

    HARNESS_FAILED = "harness-failed"
    """The tests gave no readable results."""
    ASSIGNMENT_REFUSED = "assignment-refused"
    """There is no such assignment, or it asks for more than the operator allows."""

    SANDBOX_BROKE = "sandbox-broke"
    IMAGE_MISSING = "image-missing"
    EXECUTOR_LOST = "executor-lost"
    """Its executors died repeatedly while they ran it."""
    JOB_TIMEOUT = "job-timeout"
    """The job exceeded its action's timeout, although every phase kept its own limits."""
    REPLAY_REFUSED = "replay-refused"
    """A replay was refused, because the image, the limits or another input has changed."""
    ENGINE_FAILED = "engine-failed"
    """Any other error of the engine."""

    @property
    def fault(self) -> Fault:
        """Who is at fault."""
        return _FAULTS[self]


_V = FinalVerdict
_FAULTS: Final[Mapping[FinalVerdict, Fault]] = {
    _V.ACCEPTED: Fault.NOBODY,
    **dict.fromkeys(
        (
            *(_V.WRONG_ANSWER, _V.RUNTIME_ERROR, _V.TIME_LIMIT, _V.MEMORY_LIMIT, _V.OUTPUT_LIMIT),
            *(_V.PROCESS_LIMIT, _V.DISK_LIMIT, _V.BUILD_FAILED, _V.SUBMISSION_REFUSED),
        ),
        Fault.PROGRAM,
    ),
    **dict.fromkeys((_V.HARNESS_FAILED, _V.ASSIGNMENT_REFUSED), Fault.ASSIGNMENT),
    **dict.fromkeys(
        (
            *(_V.SANDBOX_BROKE, _V.IMAGE_MISSING, _V.EXECUTOR_LOST),
            *(_V.JOB_TIMEOUT, _V.REPLAY_REFUSED, _V.ENGINE_FAILED),
        ),
        Fault.PLATFORM,
    ),
}

_OF_ERRORS: Final[Mapping[type[BaseException], FinalVerdict | None]] = {
    # The action's own judgement of its job: the engine adds none.
    ActionFailedError: None,
    AssignmentError: _V.ASSIGNMENT_REFUSED,
    GradingError: _V.SUBMISSION_REFUSED,
    ReplayRefusedError: _V.REPLAY_REFUSED,
    ImageUnavailableError: _V.IMAGE_MISSING,
    SandboxRefusedError: _V.ASSIGNMENT_REFUSED,
    SandboxError: _V.SANDBOX_BROKE,
    TimedOut: _V.JOB_TIMEOUT,
    BaseException: _V.ENGINE_FAILED,
}


def verdict_of(error: BaseException) -> FinalVerdict | None:
    """Return the verdict on a job that ended with `error`; None: the error implies none."""
    return next(_OF_ERRORS[kind] for kind in type(error).__mro__ if kind in _OF_ERRORS)


class Failure(BaseModel):
    """The `output` of a job that ended without results, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: FinalVerdict
    fault: Fault
    message: str
    """One line for a person."""

    @classmethod
    def of(cls, verdict: FinalVerdict, message: str) -> Failure:
        """Return the failure with this verdict, and the fault that it implies."""
        return cls(verdict=verdict, fault=verdict.fault, message=message)
