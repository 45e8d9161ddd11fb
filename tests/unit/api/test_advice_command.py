"""`job-engine assignment advice` over what the API has stored."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from job_engine.cli.app import app
from job_engine.cli.up.admin import make_key
from job_engine.client import Api
from tests.unit.api.support import ADMIN, ADMIN_PASSWORD, Client
from tests.unit.grading.test_advice import run


def test_advice_comes_from_the_grades_that_are_stored(api: Client, tmp_path: Path) -> None:
    for seconds in (1.0, 2.0, 3.0):
        graded = {"action": "grade", "output": run(seconds, seconds / 2, 50).model_dump_json()}
        job = api(ADMIN, "POST", "job", graded).json()["resource-id"]
        api(ADMIN, "PUT", job, {"state": "RUNNING"})
        api(ADMIN, "PUT", job, {"state": "SUCCESS"})
    client = Api(api.running.url)
    login = tmp_path / "login.json"
    login.write_text(json.dumps(make_key(client, "admin", ADMIN_PASSWORD)))
    client.close()
    shell = {"JOB_ENGINE_API_URL": api.running.url, "JOB_ENGINE_CREDENTIALS_FILE": str(login)}
    result = CliRunner().invoke(app, ["assignment", "advice", "sort", "--json"], env=shell)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["grades"], found["advice"]) == (3, "small")
    assert found["phases"][0]["wall_time_s"] == {"p50": 2.0, "p95": 2.9, "largest": 3.0}
    table = CliRunner().invoke(app, ["assignment", "advice", "sort"], env=shell)
    assert "the smallest that fits is small" in table.stdout
    assert "3.00 s" in table.stdout
    nobody = CliRunner().invoke(app, ["assignment", "advice", "other"], env=shell)
    assert nobody.exit_code == 5
    assert CliRunner().invoke(app, ["assignment", "advice", "../x"], env=shell).exit_code == 2
