"""Settings as flags: precedence, help, secrets, and what a wrong value says."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from pydantic import Field, SecretStr
from typer.testing import CliRunner

from job_engine.cli.app import app as application
from job_engine.cli.options import load_settings, settings_command
from job_engine.errors import ConfigurationError, JobEngineError
from job_engine.grading.preflight import check_settings
from job_engine.settings import ExecutorSettings, Settings
from job_engine.settings.loading import flag_of

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


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "settings.yaml"
    monkeypatch.setenv("JOB_ENGINE_CONFIG", str(file))
    return file


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_memory_byte: 5", "'max_memory_byte' is no setting; did you mean 'max_memory_bytes'?"),
        ("max-memory-bytes: 5", "did you mean 'max_memory_bytes'?"),
        ("quite_something: 5", "'quite_something' is no setting."),
        ("- allow_images", "has to be a mapping"),
        ("port: 1\nallow_images: [a: b", "settings.yaml, line 2 is no YAML"),
        ("port: hunter2", "port in "),
        ("port: [hunter2", "is no YAML"),
        ("hosts: hunter2", "hosts in "),
        ("hosts: [[hunter2]]", "hosts in "),
    ],
)
def test_a_mistake_in_the_file_stops_the_start_and_shows_no_value(
    config: Path, text: str, told: str
) -> None:
    config.write_text(text)
    code, output = run(sample=[])
    assert code == 2
    assert told in output
    assert "hunter2" not in output


@pytest.mark.parametrize("missing", ["nowhere.yaml", "."])
def test_a_file_that_cannot_be_read_is_not_taken_for_an_empty_one(
    config: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_ENGINE_CONFIG", str(config.parent / missing))
    code, output = run(sample=[])
    assert code == 2
    assert "JOB_ENGINE_CONFIG" in output


def test_the_file_serves_all_processes(config: Path) -> None:
    config.write_text("executors: 2\nlogin_file: /x\nallow_kvm: true\naudit_s: 5\nreconcile_s: 9\n")
    made: list[Sample] = []
    assert run(sample=made) == (0, "")
    assert len(made) == 1


def test_a_slip_in_a_variable_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_ENGINE_ALLOW_IMAGE", '["hunter2"]')
    code, output = run(sample=[])
    assert code == 2
    assert "JOB_ENGINE_ALLOW_IMAGE is no setting; did you mean JOB_ENGINE_ALLOW_IMAGES?" in output
    assert "hunter2" not in output


def test_an_unrelated_variable_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOB_ENGINE_PORT_8020_TCP_ADDR", "10.0.0.1")
    code, output = run(sample=[])
    assert (code, output) == (
        0,
        "warning: JOB_ENGINE_PORT_8020_TCP_ADDR is no setting, and is ignored.\n",
    )


@pytest.mark.parametrize("name", ["HOSTS", "WEIGHTS"])
def test_a_structure_that_is_no_json_says_how_it_is_written(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"JOB_ENGINE_{name}", "hunter2")
    code, output = run(sample=[])
    assert code == 2
    assert f'JOB_ENGINE_{name} is no JSON: a list is written ["a", "b"]' in output
    assert "hunter2" not in output


def test_a_program_of_its_own_has_a_version() -> None:
    assert run("--version", sample=[]) == (0, f"job-engine {version('job-engine')}\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("zk_hosts", hosts) for hosts in ("", "a:b", "a,", "a b:1", "http://a:1")),
        *(("api_url", url) for url in ("localhost:8020", "ftp://a", "http://")),
        *(("name", name) for name in ("", "a/b", "a b")),
        ("queue_root", "job"),
    ],
)
def test_impossible_values_are_refused_at_the_start(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{flag_of(name)} .* is not as it has to be: "):
        load_settings(ExecutorSettings, {name: value})


@pytest.mark.parametrize(
    "hosts", ["zookeeper", "127.0.0.1:2181", "[::1]:2181", "a:1,b:2,c:3/engine/one"]
)
def test_hosts_of_zookeeper_may_have_many_forms(hosts: str) -> None:
    assert load_settings(ExecutorSettings, {"zk_hosts": hosts}).zk_hosts == hosts


def test_settings_that_break_grading_are_refused_at_the_start(tmp_path: Path) -> None:
    wrong = {"big": {"memory": "1GiB"}}
    with pytest.raises(ConfigurationError, match=r"flavours: big\.memory"):
        check_settings(load_settings(ExecutorSettings, {"flavours": wrong}))
    with pytest.raises(ConfigurationError, match=r"git_secrets_file .*nope"):
        check_settings(load_settings(ExecutorSettings, {"git_secrets_file": tmp_path / "nope"}))


def test_a_store_that_is_not_there_is_not_copied(tmp_path: Path) -> None:
    source = f"sqlite:///{tmp_path}/nowhere/store.sqlite"
    for url, told in ((source, "There is no store in"), ("nonsense", "is no database URL")):
        result = CliRunner().invoke(
            application, ["store", "copy", url, f"sqlite:///{tmp_path}/new.sqlite"]
        )
        assert result.exit_code == 2
        assert told in result.output
    assert list(tmp_path.iterdir()) == []
