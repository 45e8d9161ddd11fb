"""Settings as flags: precedence, help, secrets, and what a wrong value says."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from pydantic import Field, SecretStr
from typer.testing import CliRunner

from job_engine.cli.options import load_settings, settings_command
from job_engine.errors import ConfigurationError, JobEngineError
from job_engine.settings import Settings

runner = CliRunner()


class Sample(Settings):
    """Every kind of field."""

    port: int = Field(8020, ge=1, description="Where to listen.")
    verbose: bool = Field(False, description="Say more.")
    hosts: list[str] = Field([], description="Whom to reach.")
    weights: dict[str, float] = Field({}, description="Shares.")
    home: Path | None = Field(None, description="Where to live.")
    password: SecretStr | None = Field(None, description="How to get in.")


def run(*arguments: str, sample: list[Sample]) -> tuple[int, str]:
    app = typer.Typer(rich_markup_mode=None)
    settings_command(app, None, Sample, sample.append, about="Try it.")
    result = runner.invoke(app, list(arguments))
    return result.exit_code, result.output


def test_flags_win_over_variables_and_variables_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("port: 1\nhosts: [from-file]\nhome: /file\n")
    monkeypatch.setenv("JOB_ENGINE_CONFIG", "")  # undone after the test, whatever --config sets
    monkeypatch.setenv("JOB_ENGINE_PORT", "2")
    monkeypatch.setenv("JOB_ENGINE_HOSTS", '["from-variable"]')
    made: list[Sample] = []
    code, output = run("--config", str(file), "--port", "3", sample=made)
    assert (code, output) == (0, "")
    assert (made[0].port, made[0].hosts, made[0].home) == (3, ["from-variable"], Path("/file"))


def test_every_kind_of_flag_is_parsed() -> None:
    made: list[Sample] = []
    code, output = run(
        "--verbose", "--hosts", "a:1", "--hosts", "b:2", "--weights", '{"x": 0.5}', sample=made
    )
    assert (code, output) == (0, "")
    assert made[0].verbose
    assert made[0].hosts == ["a:1", "b:2"]
    assert made[0].weights == {"x": 0.5}


def test_a_flag_can_switch_off_what_a_variable_switched_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOB_ENGINE_VERBOSE", "1")
    made: list[Sample] = []
    assert run("--no-verbose", sample=made)[0] == 0
    assert not made[0].verbose


def test_help_names_flag_variable_default_and_description() -> None:
    _, output = run("--help", sample=[])
    words = " ".join(output.split())
    assert "--port INTEGER" in words
    assert "Where to listen. (env JOB_ENGINE_PORT, default 8020)" in words
    assert "(env JOB_ENGINE_VERBOSE, default off)" in words


def test_a_secret_has_a_variable_but_no_flag_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOB_ENGINE_PASSWORD", "hunter2")
    _, output = run("--help", sample=[])
    assert "JOB_ENGINE_PASSWORD: How to get in." in output
    assert "hunter2" not in output
    assert run("--password", "x", sample=[])[0] == 2


def test_a_wrong_value_names_flag_and_variable() -> None:
    code, output = run("--port", "0", sample=[])
    assert code == 2
    assert "--port (JOB_ENGINE_PORT)" in output


def test_a_wrong_secret_is_not_repeated() -> None:
    class Strict(Settings):
        pin: SecretStr = Field(SecretStr("0000"), min_length=4, description="Pin.")

    with pytest.raises(ConfigurationError) as raised:
        load_settings(Strict, {"pin": "abc"})
    assert "abc" not in raised.value.message


def test_a_missing_file_is_a_usage_error() -> None:
    code, output = run("--config", "/nowhere.yaml", sample=[])
    assert code == 2
    assert "/nowhere.yaml" in output


def test_an_error_of_ours_ends_without_a_traceback() -> None:
    def fail(_settings: Sample) -> None:
        raise JobEngineError("It broke: mend it.")

    app = typer.Typer()
    settings_command(app, None, Sample, fail, about="Try it.")
    result = runner.invoke(app, [])
    assert result.exit_code == 1
    assert result.output == "error: It broke: mend it.\n"
