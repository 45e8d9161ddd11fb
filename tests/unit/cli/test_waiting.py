"""`share`, and `job resubmit`, against an API that answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from job_engine.cli.app import app
from job_engine.model import Fence
from job_engine.model.acl import ADMIN as ADMIN_GROUP
from job_engine.settings import ApiSettings
from tests.contract.store.support import claim, entry, finish
from tests.unit.api.support import ADMIN, ADMIN_PASSWORD, Client, serving

KEY_TEMPLATE = {"href": "credential-template/generate-api-key", "roles": [ADMIN_GROUP]}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """An API, and an admin's key to it in the environment."""
    settings = ApiSettings(
        data_dir=tmp_path,
        port=0,
        admin_password=SecretStr(ADMIN_PASSWORD),
        trusted_peers=["127.0.0.1"],
    )
    with serving(settings) as running, httpx.Client(base_url=running.url) as http:
        client = Client(http, running)
        made = client(ADMIN, "POST", "credential", {"template": KEY_TEMPLATE}).json()
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("JOB_ENGINE_API_URL", running.url)
        monkeypatch.setenv("JOB_ENGINE_API_KEY", made["resource-id"])
        monkeypatch.setenv("JOB_ENGINE_API_SECRET", made["secret-key"])
        yield client


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def test_a_share_is_given_a_weight(api: Client) -> None:
    assert run("share", "set", "course/1", "2.5") == "course/1 has the weight 2.5\n"
    assert json.loads(run("share", "list", "--json")) == [{"name": "course/1", "weight": 2.5}]
    assert "course/1" in run("share", "list")
    for weight in ("0", "1001", "much"):
        result = CliRunner().invoke(app, ["share", "set", "course/1", weight])
        assert result.exit_code == 2, result.output


def test_a_job_is_sent_again(api: Client) -> None:
    job = api.add_job(payload='{"x":1}')
    assert run("job", "resubmit", job) == f"{job} has not ended yet: QUEUED\n"
    assert claim(api.services.store, job, entry(1), Fence(1, 1)).answer.runs
    finish(api.services.store, job, Fence(1, 1))
    printed = run("job", "resubmit", job.removeprefix("job/"))
    new = printed.split()[-1]
    assert printed == f"{job} is sent again as {new}\n"
    found = api.get(new)
    assert (found["resubmitted-from"], found["payload"]) == (job, '{"x":1}')
