"""`job-engine assignment check`, as far as it goes without a sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from job_engine.cli.app import app


@pytest.mark.parametrize(
    ("variable", "value"),
    [("JOB_ENGINE_MAX_CPUS", "many"), ("JOB_ENGINE_ALLOW_PROFILES", '["everything"]')],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    (tmp_path / "assignment.yaml").write_text("{name: a, phases: {test: 'true'}}")
    (tmp_path / "tests").mkdir()
    (tmp_path / "solutions" / "model").mkdir(parents=True)
    monkeypatch.setenv(variable, value)
    done = CliRunner().invoke(app, ["assignment", "check", str(tmp_path)])
    assert done.exit_code == 2
    assert variable in done.stderr
    assert isinstance(done.exception, SystemExit)
