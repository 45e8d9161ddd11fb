"""Grading through the real processes: the phases, the score, and what a client sees."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from job_engine.cli.app import app
from job_engine.cli.up.admin import make_key
from job_engine.client import Api
from job_engine.settings import SandboxSettings
from tests.contract.sandbox import bubblewrap_host, docker_host
from tests.support.engine import ADMIN_PASSWORD, Engine, eventually
from tests.support.grading import RIGHT, add_assignment, submission
from tests.support.pages import DOCS, blocks

REPORTED = """
name: reported
phases:
  test: sh /mnt/tests/run.sh
  report: |
    read -r token
    body='{"message": "told by the report phase", "lines": ["from the report phase"]}'
    python3 - "$token" "$body" <<'PYTHON'
    import os, sys, urllib.request
    url = os.environ["JOB_ENGINE_API_URL"] + "/api/" + os.environ["JOB_ENGINE_JOB"]
    headers = {"Authorization": "Bearer " + sys.argv[1], "Content-Type": "application/json"}
    request = urllib.request.Request(url + "/log", sys.argv[2].encode(), headers)
    print(urllib.request.urlopen(request).status)
    PYTHON
results: {format: stdout}
"""

MOODY = """
name: moody
phases:
  test: |
    printf '{"score": %s}' "$(date +%s.%N)" > /mnt/results/results.json
results: {format: gradescope}
"""
"""Its score is the time of day."""


@pytest.fixture(
    params=[
        pytest.param(bubblewrap_host.settings, marks=pytest.mark.bubblewrap, id="bubblewrap"),
        pytest.param(docker_host.settings, marks=pytest.mark.docker, id="docker"),
    ]
)
def engine(request: pytest.FixtureRequest, tmp_path: Path, zk_hosts: str) -> Iterator[Engine]:
    make_settings: Callable[[], SandboxSettings] = request.param
    settings = make_settings()
    given = {"sandbox": settings.sandbox, "default_image": settings.default_image}
    with Engine(tmp_path, zk_hosts) as engine:
        actions = tmp_path / "actions"
        actions.mkdir()
        (actions / "run_c.py").write_text(blocks(DOCS / "plugin-author.md")[1])
        engine.start(
            actions_dir=actions,
            bundle_cache_dir=tmp_path / "bundles",
            **{key: value for key, value in given.items() if value},
        )
        yield engine
        assert engine.stop("executor") == 0


@pytest.fixture
def api(engine: Engine) -> Iterator[Api]:
    api = engine.admin()
    yield api
    api.close()


def log_of(api: Api, job: str) -> list[str]:
    lines: list[str] = api.session.get(f"{api.endpoint}/api/{job}/log").json()["lines"]
    return lines


def test_a_report_command_reaches_the_api_with_a_token_for_its_job_alone(
    engine: Engine, api: Api, tmp_path: Path
) -> None:
    assignment = add_assignment(api, tmp_path / "assignment", REPORTED)
    job = engine.submit(api, "grade", submission(assignment, RIGHT))
    engine.wait_final(api, 1)
    document = api.get(job).data
    output = json.loads(document["output"])
    assert output["score"] == 1, document
    told = output["phases"][1]
    assert told["verdict"] == "ok", told["output"]
    assert "from the report phase" in log_of(api, job)

    # And the action with a sandbox from the page for authors, since this engine runs.
    source = "#include <stdio.h>\nint main(void) { return putchar(getchar() + 1) != 'B'; }"
    job = engine.submit(api, "run_c", {"source": source, "text": "A"})
    engine.wait_final(api, 2)
    assert (api.get(job).data["state"], api.get(job).data["output"]) == ("SUCCESS", "B")


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (
            {"assignment": "nope", "submission": {"files": {"a": "b"}}},
            "There is no assignment",
        ),
        (
            {
                "assignment": "sha256:" + "0" * 64,
                "submission": {"git": {"url": "http://nowhere.invalid/x"}},
            },
            "No assignment",
        ),
    ],
)
def test_a_job_that_cannot_be_graded_has_advice(
    engine: Engine, api: Api, payload: dict[str, object], told: str
) -> None:
    job = engine.submit(api, "grade", payload)
    engine.wait_final(api, 1)
    document = api.get(job).data
    assert document["state"] == "FAILED"
    assert told in document["status-message"]


def test_a_repository_that_does_not_exist_fails_with_its_url(
    engine: Engine, api: Api, tmp_path: Path
) -> None:
    assignment = add_assignment(api, tmp_path / "assignment")
    git = {"git": {"url": "http://nowhere.invalid/student/repo.git"}}
    job = engine.submit(api, "grade", {"assignment": assignment, "submission": git})
    engine.wait_final(api, 1)
    document = api.get(job).data
    assert document["state"] == "FAILED"
    assert "nowhere.invalid" in document["status-message"]


def test_cancelling_kills_the_sandbox_within_a_second(
    engine: Engine, api: Api, tmp_path: Path
) -> None:
    assignment = add_assignment(api, tmp_path / "assignment")
    nap = str(4_000_000 + uuid.uuid4().int % 1_000_000)
    job = engine.submit(api, "grade", submission(assignment, f"sleep {nap}; echo 5"))

    def sleeping() -> bool:
        return any(p.info["cmdline"] == ["sleep", nap] for p in psutil.process_iter(["cmdline"]))

    eventually(sleeping)
    api.operation(api.get(job), "cancel")
    cancelled_at = time.monotonic()
    eventually(lambda: not sleeping())
    assert time.monotonic() - cancelled_at < 1.0
    assert api.get(job).data["state"] == "CANCELED"
    # Its thread is free again.
    again = engine.submit(api, "grade", submission(assignment, RIGHT))
    eventually(lambda: api.get(again).data["state"] == "SUCCESS")


def test_a_replay_says_whether_the_result_is_the_same(
    engine: Engine, api: Api, tmp_path: Path
) -> None:
    login = tmp_path / "admin.json"
    login.write_text(json.dumps(make_key(api, "admin", ADMIN_PASSWORD)))
    shell = {"JOB_ENGINE_API_URL": engine.url, "JOB_ENGINE_CREDENTIALS_FILE": str(login)}

    def replay(job: str) -> tuple[int, dict[str, Any]]:
        ended = CliRunner().invoke(app, ["replay", job, "--json"], env=shell)
        return ended.exit_code, json.loads(ended.stdout)

    stable = add_assignment(api, tmp_path / "stable")
    job = engine.submit(api, "grade", submission(stable, RIGHT))
    engine.wait_final(api, 1)
    code, told = replay(job)
    assert (code, told["same"]) == (0, True)
    receipts = [
        json.loads(api.get(name).data["output"])["receipt"] for name in (job, told["replay"])
    ]
    for receipt in receipts:
        for changing in ("started", "ended"):
            receipt.pop(changing)
    assert receipts[0] == receipts[1]
    moody = add_assignment(api, tmp_path / "moody", MOODY)
    job = engine.submit(api, "grade", submission(moody, RIGHT))
    engine.wait_final(api, 3)
    code, told = replay(job)
    assert (code, told["same"]) == (1, False)
    assert told["differences"][0].startswith("score ")
