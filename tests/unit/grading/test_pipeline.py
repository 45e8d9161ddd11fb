"""Who sees what, and whose fault it was: the plan and the results, as tables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from job_engine.errors import RepositoryAwayError, SandboxError, SubmissionError
from job_engine.grading.assemble import assemble, clone_error
from job_engine.grading.assignment import Assignment
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.plan import Plan, make_plan
from job_engine.grading.policy import load_assignment
from job_engine.grading.results import Outcome, Visibility
from job_engine.grading.submission import GitSource
from job_engine.model import Fault, FinalVerdict
from job_engine.sandbox.base import PhaseResult, Reach, Verdict
from job_engine.settings import GradingSettings, SandboxSettings
from tests.support.receipts import make_receipt

TEXT = """\
name: sort
image: course:1
phases:
  clone: {image: git:1}
  build: {command: make, reach: ['pypi.org:443'], env: {A: b}}
  test: {command: [run], limits: {wall_time_s: 5}}
  report: {command: tell, reach: ['lms.example:443']}
results: {format: gradescope, max_score: 4}
"""
GIT = GitSource(url="https://example.org/a", commit="0" * 40)
RECEIPT = make_receipt(assignment_name="sort", submission="b")


def load(text: str = TEXT) -> Assignment:
    return load_assignment(text.encode(), BUILT_IN, SandboxSettings())


def plan(assignment: Assignment, git: GitSource | None = None) -> Plan:
    return make_plan(assignment, git, BUILT_IN, GradingSettings())


def ended(phase: str, verdict: Verdict = Verdict.OK, **changes: Any) -> PhaseResult:
    whole: dict[str, Any] = {
        "exit_code": 0 if verdict is Verdict.OK else 2,
        "signal": None,
        "wall_time_s": 1.0,
        "cpu_time_s": 0.5,
        "peak_memory_bytes": 0,
        "stdout": b"out",
        "stderr": b"err",
    }
    return PhaseResult(phase=phase, verdict=verdict, **{**whole, **changes})


def results_file(value: object) -> dict[str, bytes]:
    return {"results/results.json": json.dumps(value).encode()}


def test_each_phase_sees_and_reaches_what_the_table_says() -> None:
    made = plan(load(), GIT)
    seen = {
        spec.name: {(mount.tree, mount.read_only) for mount in spec.mounts} for spec in made.phases
    }
    assert seen == {
        "clone": {("workspace", False)},
        "build": {("workspace", False)},
        "test": {("workspace", False), ("tests", True), ("results", False)},
        "report": {("results", True)},
    }
    assert {spec.name: spec.reach for spec in made.phases} == {
        "clone": (Reach(host="example.org", port=443),),
        "build": (Reach(host="pypi.org", port=443),),
        "test": (),
        "report": (Reach(host="lms.example", port=443),),
    }
    # A report command does not begin where a submission may have put files.
    assert {spec.name: spec.workdir for spec in made.phases}["report"] == "/"
    assert {spec.name: spec.image for spec in made.phases}["clone"] == "git:1"
    assert made.image == "course:1"
    assert made.limits("test").wall_time_s == 5
    assert [spec.name for spec in plan(load()).phases] == ["build", "test", "report"]
    assert [spec.name for spec in made.phases if spec.handover] == ["test"]


def test_a_graded_submission() -> None:
    assignment = load()
    files = results_file({"score": 3, "stdout_visibility": "visible"})
    results = assemble(
        assignment,
        plan(assignment),
        {"build": ended("build"), "test": ended("test", Verdict.EXIT, files=files)},
        RECEIPT,
    )
    assert (results.outcome, results.score, results.max_score) == (Outcome.GRADED, 3, 4)
    assert results.headline == "wrong-answer: Score 3 of 4."
    assert (results.verdict, results.fault) == (FinalVerdict.WRONG_ANSWER, Fault.PROGRAM)
    assert results.execution_time == 1.0
    assert [phase.output for phase in results.phases] == ["out\nerr", "out\nerr"]
    assert results.phases[1].visibility is Visibility.VISIBLE


@pytest.mark.parametrize(
    ("verdict", "words", "final"),
    [
        (Verdict.WALL_TIME, "longer than 5 s", FinalVerdict.TIME_LIMIT),
        (Verdict.CPU_TIME, "CPU time", FinalVerdict.TIME_LIMIT),
        (Verdict.MEMORY, "512 MiB of memory", FinalVerdict.MEMORY_LIMIT),
        (Verdict.PROCESSES, "128 processes", FinalVerdict.PROCESS_LIMIT),
        (Verdict.DISK, "disk", FinalVerdict.DISK_LIMIT),
        (Verdict.FILE_SIZE, "64 MiB", FinalVerdict.DISK_LIMIT),
        (Verdict.OUTPUT, "1,048,576 bytes", FinalVerdict.OUTPUT_LIMIT),
        (Verdict.SIGNAL, "SIGKILL", FinalVerdict.RUNTIME_ERROR),
    ],
)
def test_limits_are_the_submissions_own_and_believed_over_its_results(
    verdict: Verdict, words: str, final: FinalVerdict
) -> None:
    assignment = load()
    test = ended("test", verdict, exit_code=None, signal=9, files=results_file({"score": 4}))
    results = assemble(assignment, plan(assignment), {"test": test}, RECEIPT)
    assert (results.outcome, results.score) == (Outcome.LIMIT, 0)
    assert (results.verdict, results.fault) == (final, Fault.PROGRAM)
    assert words in results.message
    build = ended("build", verdict, exit_code=None, signal=9)
    failed = assemble(assignment, plan(assignment), {"build": build}, RECEIPT)
    assert (failed.outcome, failed.score) == (Outcome.BUILD_FAILED, 0)
    assert failed.verdict is FinalVerdict.BUILD_FAILED


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        ({"score": 0, "output": "It does not compile."}, FinalVerdict.WRONG_ANSWER),
        ({"score": -1}, FinalVerdict.WRONG_ANSWER),
        ({"score": 0, "tests": [{"status": "passed"}]}, FinalVerdict.ACCEPTED),
        ({"score": 0, "max_score": 0}, FinalVerdict.ACCEPTED),
        ({"score": 3}, FinalVerdict.ACCEPTED),
    ],
)
def test_a_score_of_nothing_is_not_every_point_where_nobody_says_how_many(
    told: dict[str, Any], verdict: FinalVerdict
) -> None:
    assignment = load(TEXT.replace(", max_score: 4", ""))
    test = ended("test", files=results_file(told))
    results = assemble(assignment, plan(assignment), {"test": test}, RECEIPT)
    assert results.verdict is verdict


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("time-limit", FinalVerdict.TIME_LIMIT),
        (None, FinalVerdict.WRONG_ANSWER),
        ("accepted", FinalVerdict.WRONG_ANSWER),
        (["x"], FinalVerdict.WRONG_ANSWER),
    ],
)
def test_the_first_case_that_is_not_right_says_why(said: object, verdict: FinalVerdict) -> None:
    assignment = load("{name: a, contract: cases, cases: {program: ./a}}")
    wrong: dict[str, Any] = {"score": 0, "max_score": 1, "extra_data": {"ended": said}}
    tests = [{"score": 1, "max_score": 1}, wrong, {**wrong, "extra_data": {"ended": "time-limit"}}]
    lines = "\n".join(json.dumps({"name": "t", **test}) for test in tests)
    test = ended("test", files={"results/tests.jsonl": lines.encode()})
    phases = {"test": test, "program": ended("program")}
    assert assemble(assignment, plan(assignment), phases, RECEIPT).verdict is verdict


@pytest.mark.parametrize("files", [{}, {"results/results.json": b"x"}, {"workspace/x": b"{}"}])
def test_a_harness_without_results_is_staffs_matter(files: dict[str, bytes]) -> None:
    assignment = load()
    test = ended("test", Verdict.EXIT, files=files)
    results = assemble(assignment, plan(assignment), {"test": test}, RECEIPT)
    assert (results.outcome, results.score) == (Outcome.HARNESS_FAILED, None)
    assert (results.verdict, results.fault) == (FinalVerdict.HARNESS_FAILED, Fault.ASSIGNMENT)
    assert "harness failed, not the submission" in results.message
    assert results.phases


def test_tests_that_never_ran_are_a_fault() -> None:
    assignment = load()
    with pytest.raises(SandboxError):
        assemble(assignment, plan(assignment), {"build": ended("build")}, RECEIPT)


ACCESS = "fatal: unable to access 'https://h/': "
"""What git puts before an error of curl."""


@pytest.mark.parametrize(
    "said",
    [
        ACCESS + "The requested URL returned error: 503",
        ACCESS + "The requested URL returned error: 429",
        ACCESS + "CONNECT tunnel failed, response 502",
        ACCESS + "Received HTTP code 502 from proxy after CONNECT",
        ACCESS + "Proxy CONNECT aborted",
        ACCESS + "Failed to connect to h port 443 after 1 ms: Couldn't connect to server",
        ACCESS + "Operation too slow. Less than 1 bytes/sec transferred the last 20 seconds",
        ACCESS + "Operation timed out after 300000 milliseconds with 0 bytes received",
        ACCESS + "Empty reply from server",
        ACCESS + "OpenSSL SSL_connect: Connection reset by peer in connection to h:443",
        ACCESS + "OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to h:443",
        ACCESS + "gnutls_handshake() failed: The TLS connection was non-properly terminated.",
        ACCESS + "gnutls_handshake() failed: Error in the pull function.",
        ACCESS + "gnutls_handshake() failed: Error in the push function.",
        ACCESS + "Failed sending data to the peer",
        ACCESS + "Failure when receiving data from the peer",
        ACCESS + "SSL certificate problem: certificate is not yet valid",
        "error: RPC failed; curl 56 Recv failure: Connection reset by peer",
        "error: RPC failed; curl 56 GnuTLS recv error (-110): The TLS connection was closed",
        "error: RPC failed; curl 92 HTTP/2 stream 5 was reset",
        "error: RPC failed; curl 55 Failed sending data to the peer",
        "error: RPC failed; curl 18 transfer closed with outstanding read data remaining",
        "error: RPC failed; HTTP 500 curl 22 The requested URL returned error: 500\n"
        "fatal: the remote end hung up unexpectedly",
        "fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF",
    ],
)
def test_a_host_that_is_away_is_tried_again(said: str) -> None:
    assert type(failed_clone(said)) is RepositoryAwayError


@pytest.mark.parametrize(
    "said",
    [
        ACCESS + "The requested URL returned error: 404",
        ACCESS + "CONNECT tunnel failed, response 403",
        ACCESS + "CONNECT tunnel failed, response 404",
        ACCESS + "Received HTTP code 403 from proxy after CONNECT",
        ACCESS + "Could not resolve host: h",
        ACCESS + "SSL certificate problem: certificate has expired",
        ACCESS + "gnutls_handshake() failed: Handshake failed",
        "error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403\n"
        "fatal: the remote end hung up unexpectedly",
        "error: RPC failed; HTTP 413 curl 22 The requested URL returned error: 413\n"
        "fatal: the remote end hung up unexpectedly",
        "fatal: couldn't find remote ref no-such-branch",
        "fatal: reference is not a tree: " + "1" * 40,
        "fatal: remote error: the hook timed out",
        f"fatal: remote error: no\n{ACCESS}The requested URL returned error: 503",
        f"remote: {ACCESS}returned error: 503\nfatal: repository 'http://h/' not found",
    ],
)
def test_what_a_host_refuses_is_final(said: str) -> None:
    assert type(failed_clone(said)) is SubmissionError


def failed_clone(said: str) -> SubmissionError:
    """Return the error of a clone of which git said this."""
    stderr = f"noise\n{said}\n".encode()
    result = ended("clone", Verdict.EXIT, exit_code=1, stderr=stderr)
    return clone_error(result, plan(load(), GIT), GIT)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            ended("clone", Verdict.EXIT, exit_code=1, stderr=b"fatal: no\x1b[2J\n"),
            "fatal: no\ufffd",
        ),
        (ended("clone", Verdict.EXIT, exit_code=66, stderr=b"missing: Makefile"), "Makefile"),
        (ended("clone", Verdict.EXIT, exit_code=68), "more than 32 directories deep"),
        (ended("clone", Verdict.DISK), "filled its disk"),
        (ended("clone", Verdict.WALL_TIME), "upload an archive"),
    ],
)
def test_a_failed_clone_says_what_to_do(result: PhaseResult, words: str) -> None:
    message = clone_error(result, plan(load(), GIT), GIT).message
    assert words in message
    assert message.isprintable()
