"""The actions themselves, in the executor's own context, on the real sandboxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from actions.grade import HARNESS_FAILED, Grade
from actions.run_command import LIMIT, RunCommand
from executor.run import Run
from job_engine.client import Api
from job_engine.errors import ActionFailedError, SubmissionError
from job_engine.grading.bundles import BundleCache
from job_engine.grading.results import Results
from job_engine.model import Fence, Job
from job_engine.plugins import Action, Result, load_actions
from job_engine.queue.base import QueueClaim, Registration
from job_engine.sandbox.base import Sandbox
from job_engine.settings import ExecutorSettings
from job_engine.testing.git_server import GitServer
from tests.integration.grading.conftest import EXAMPLES, Desk

Do = Callable[[Action[Any], dict[str, Any]], Result | BaseException | None]


@pytest.fixture
def do(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Do:
    """Run an action with a payload, as a worker thread does."""
    monkeypatch.setenv("JOB_ENGINE_BUNDLE_CACHE_DIR", str(desk.settings.bundle_cache_dir))
    settings = ExecutorSettings(name=desk.label, **desk.policy.model_dump())
    # Nothing listens there: bundles are in the cache, and the submissions in the payload.
    api = Api("http://127.0.0.1:9", retry_s=0.1)

    def run(action: Action[Any], payload: dict[str, Any]) -> Result | BaseException | None:
        job = Job(id="job/1", action=action.name, payload=json.dumps(payload))
        claim = QueueClaim("entry-1", job.id, Fence(1, 1), Registration(1, "/executors/x", 1))
        return Run(
            job=job,
            claim=claim,
            action=action,
            collaborators={Api: api, Sandbox: desk.sandbox, ExecutorSettings: settings},
            scratch_root=desk.directory,
            on_update=lambda run: None,
        ).execute()

    return run


def cached(desk: Desk, name: str) -> str:
    digest = desk.blobs.names[name]
    with BundleCache.from_settings(desk.settings).open(digest, desk.blobs):
        return digest


def finished(ended: Result | BaseException | None) -> Result:
    assert isinstance(ended, Result), ended
    return ended


def test_both_actions_are_found_under_their_names() -> None:
    found = load_actions()
    assert found["grade"].payload.model_json_schema()
    assert found["run_command"].payload.model_json_schema()


def test_grade_stores_results(desk: Desk, do: Do) -> None:
    digest = cached(desk, "python-pytest")
    good = EXAMPLES / "submissions" / "python-pytest-good" / "stack.py"
    payload = {
        "assignment": digest,
        "submission": {"files": {"stack.py": good.read_text()}},
        "student": "ada",
        "due": "2030-01-01T00:00:00Z",
    }
    result = finished(do(Grade(), payload))
    assert (result.return_code, result.message) == (0, "accepted: Score 10 of 10.")
    stored = Results.model_validate_json(result.output or "")
    assert stored.receipt.assignment == digest
    assert len(stored.tests) == 4


def test_grade_tells_a_broken_harness(desk: Desk, do: Do) -> None:
    payload = {
        "assignment": cached(desk, "python-pytest"),
        "submission": {"files": {"stack.py": "import os\nos._exit(0)\n"}},
    }
    result = finished(do(Grade(), payload))
    assert result.return_code == HARNESS_FAILED
    assert Results.model_validate_json(result.output or "").score is None


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({}, ActionFailedError),
        ({"assignment": "x", "submission": {}}, ActionFailedError),
        ({"assignment": "x", "submission": {"files": {"a": ""}}, "extra": 1}, ActionFailedError),
        ({"assignment": "DIGEST", "submission": {"files": {"a": "x"}}}, SubmissionError),
    ],
)
def test_grade_refuses(desk: Desk, do: Do, payload: dict[str, Any], error: type[Exception]) -> None:
    digest = cached(desk, "c-make")
    ended = do(Grade(), {k: digest if v == "DIGEST" else v for k, v in payload.items()})
    assert isinstance(ended, error), ended


@pytest.mark.parametrize(
    ("payload", "code", "stdout"),
    [
        ({"command": "echo hello; echo no >&2"}, 0, "hello\n"),
        ({"command": ["sh", "-c", "cat; exit 3"], "stdin": "in"}, 3, "in"),
        (
            {
                "command": "cat a; ./b 2>&1 || echo not executable; pwd",
                "files": {"a": "x\n", "b": ""},
            },
            0,
            "x\n",
        ),
        ({"command": "printf %s $WHO", "env": {"WHO": "ada"}}, 0, "ada"),
        ({"command": "kill -SEGV $$"}, 128 + 11, ""),
        ({"command": "sleep 60", "limits": {"wall_time_s": 1}}, LIMIT, ""),
        ({"command": "while :; do :; done", "limits": {"cpu_time_s": 1}}, LIMIT, ""),
        ({"command": "yes", "limits": {"output_bytes": 100_000}}, LIMIT, "y\n"),
    ],
)
def test_run_command(do: Do, payload: dict[str, Any], code: int, stdout: str) -> None:
    result = finished(do(RunCommand(), payload))
    output = json.loads(result.output or "")
    assert result.return_code == code, output
    assert stdout in output["stdout"]
    assert result.message


def test_run_command_names_no_image_but_the_operators(do: Do) -> None:
    ended = do(RunCommand(), {"command": "true", "image": "localhost:1/someone/elses"})
    assert isinstance(ended, ActionFailedError)
    assert "command_images" in ended.message


def test_run_command_reaches_nothing(do: Do, git_server: GitServer) -> None:
    """Not even what listens on the host's own loopback."""
    before = len(git_server.requests)
    code = f"import socket; socket.create_connection(('127.0.0.1', {git_server.port}), 3)"
    result = finished(do(RunCommand(), {"command": ["python3", "-c", code]}))
    assert result.return_code == 1
    assert "refused" in (result.output or "")
    assert len(git_server.requests) == before


def test_run_command_refuses_what_it_has_not(do: Do) -> None:
    ended = do(RunCommand(), {"command": "true", "flavour": "huge"})
    assert isinstance(ended, ActionFailedError)
    assert "large, small, standard" in ended.message
    assert isinstance(do(RunCommand(), {"command": []}), ActionFailedError)
    assert isinstance(do(RunCommand(), {"command": "x", "files": {"../a": ""}}), SubmissionError)
