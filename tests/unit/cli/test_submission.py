"""Fetching what was handed in with a job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from job_engine.cli.app import app
from job_engine.cli.exits import OK, USAGE
from job_engine.client import Api
from job_engine.settings import ApiSettings
from tests.unit.api.support import ADMIN_PASSWORD, serving

runner = CliRunner()
ADMIN = {"username": "admin", "password": ADMIN_PASSWORD}


def test_the_archive_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, key, copy = (tmp_path / name for name in ("hw1.zip", "key.json", "copy.zip"))
    archive.write_bytes(b"what a student made")
    settings = ApiSettings(
        data_dir=tmp_path / "api", port=0, admin_password=SecretStr(ADMIN_PASSWORD)
    )
    with serving(settings) as server, Api(server.url, credentials=ADMIN) as api:
        template = {"href": "credential-template/generate-api-key"}
        made = api.add("credential", {"template": template}).data
        key.write_text(json.dumps({"key": made["resource-id"], "secret": made["secret-key"]}))
        key.chmod(0o600)
        monkeypatch.setenv("JOB_ENGINE_API_URL", server.url)
        monkeypatch.setenv("JOB_ENGINE_CREDENTIALS_FILE", str(key))
        submission = {"archive": {"blob": api.upload_blob(archive)}}
        job = api.submit("unknown", {"submission": submission})

        command = ["job", "submission", job.id.removeprefix("job/")]
        done = runner.invoke(app, [*command, str(copy)])
        assert (done.exit_code, copy.read_bytes()) == (OK, archive.read_bytes()), done.output
        again = runner.invoke(app, [*command, str(copy)])
        assert (again.exit_code, "is there already" in again.output) == (USAGE, True)
        assert runner.invoke(app, [*command, str(tmp_path / "no" / "file")]).exit_code == USAGE

        none = runner.invoke(app, ["job", "submission", api.submit("noop").id, f"{copy}.2"])
        assert "no upload that you may read" in none.output
        assert none.exit_code not in (OK, USAGE)
