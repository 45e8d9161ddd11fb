"""Whose fault it was: every verdict says so, and every error has one."""

from __future__ import annotations

import pytest

from job_engine import errors
from job_engine.errors import (
    ActionFailedError,
    ArchiveError,
    AssignmentError,
    ImageUnavailableError,
    PlatformFaultError,
    SandboxError,
    SandboxRefusedError,
    SubmissionError,
    TimedOut,
)
from job_engine.model import Failure, Fault, FinalVerdict, verdict_of

OF_FAULT = {
    Fault.NOBODY: {"accepted"},
    Fault.PROGRAM: {
        *("wrong-answer", "runtime-error", "time-limit", "memory-limit", "output-limit"),
        *("process-limit", "disk-limit", "build-failed", "submission-refused"),
    },
    Fault.ASSIGNMENT: {"harness-failed", "assignment-refused"},
    Fault.PLATFORM: {
        *("sandbox-broke", "image-missing", "executor-lost", "job-timeout"),
        *("replay-refused", "engine-failed"),
    },
}


def test_every_verdict_has_a_fault() -> None:
    found = {fault: {v.value for v in FinalVerdict if v.fault is fault} for fault in Fault}
    assert found == OF_FAULT


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ArchiveError("x"), FinalVerdict.SUBMISSION_REFUSED),
        (SubmissionError("x"), FinalVerdict.SUBMISSION_REFUSED),
        (AssignmentError("x"), FinalVerdict.ASSIGNMENT_REFUSED),
        (SandboxRefusedError("x"), FinalVerdict.ASSIGNMENT_REFUSED),
        (SandboxError("x"), FinalVerdict.SANDBOX_BROKE),
        (ImageUnavailableError("x"), FinalVerdict.IMAGE_MISSING),
        (TimedOut("x"), FinalVerdict.JOB_TIMEOUT),
        (PlatformFaultError("x"), FinalVerdict.ENGINE_FAILED),
        (ZeroDivisionError("x"), FinalVerdict.ENGINE_FAILED),
        (SystemExit(1), FinalVerdict.ENGINE_FAILED),
        (ActionFailedError("x"), None),
    ],
)
def test_an_error_has_its_verdict(error: BaseException, verdict: FinalVerdict | None) -> None:
    assert verdict_of(error) is verdict


def test_no_error_of_the_platform_is_a_students_failure() -> None:
    """A new error class is the platform's until it is put elsewhere."""
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]
    programs = {k for k in kinds if (v := verdict_of(k("x"))) and v.fault is Fault.PROGRAM}
    assert all(issubclass(kind, errors.GradingError) for kind in programs)


def test_a_failure_is_json_that_names_verdict_and_fault() -> None:
    output = Failure.of(FinalVerdict.IMAGE_MISSING, "no such image").model_dump_json()
    assert output == '{"verdict":"image-missing","fault":"platform","message":"no such image"}'
