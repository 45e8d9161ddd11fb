"""`job-engine up` from outside: a whole engine, used by the command line, leaving nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from job_engine.errors import MissingDependencyError
from job_engine.queue.local import find_zookeeper
from tests.conftest import require
from tests.support.pages import DOCS, blocks

pytestmark = [pytest.mark.zookeeper, pytest.mark.timeout(180)]

SCRIPT = Path(sys.executable).with_name("job-engine")
README = DOCS.parent / "README.md"


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.05)


class Engine:
    """A running `job-engine up`, and the commands that talk to it."""

    def __init__(self, data_dir: Path, *flags: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_suffix(".log")
        common = ["--data-dir", str(data_dir), "--port", "0", "--sandbox", "none"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [SCRIPT, "up", *common, *flags], stdout=log, stderr=subprocess.STDOUT
            )
        self.ps = psutil.Process(self.process.pid)

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.output()
            return (self.data_dir / "run.json").exists()

        until(ready, "ready")

    def output(self) -> str:
        return self.log.read_text()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "JOB_ENGINE_DATA_DIR": str(self.data_dir)}
        return subprocess.run(
            [SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60
        )

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def state(self, job: str) -> str:
        return str(self.json("job", "show", job)["state"])

    def password(self) -> str:
        found = re.search(r"Login +admin, password (\S+)", self.output())
        assert found, self.output()
        return found[1]

    def child(self, what: str) -> psutil.Process:
        found = [p for p in self.ps.children(recursive=True) if what in " ".join(p.cmdline())]
        assert len(found) == 1, found
        return found[0]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def actions_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("my-actions")
    (directory / "count_words.py").write_text(blocks(DOCS / "plugin-author.md")[0])
    return directory


@contextmanager
def running(directory: Path, *flags: str) -> Iterator[Engine]:
    try:
        find_zookeeper()
    except MissingDependencyError as error:
        require(False, error.message)
    engine = Engine(directory, *flags)
    try:
        engine.wait_until_ready()
        yield engine
    finally:
        engine.stop()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine of the test's own: it may be stopped, killed and drained."""
    with running(tmp_path / "engine", "--drain-s", "30") as engine:
        yield engine


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, actions_dir: Path) -> Iterator[Engine]:
    """One engine for all tests that only use it."""
    directory = tmp_path_factory.mktemp("shared") / "engine"
    with running(directory, "--actions-dir", str(actions_dir)) as engine:
        yield engine


def test_a_job_runs_and_nothing_is_left_behind(engine: Engine) -> None:
    done = engine.run("job", "add", "noop", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout

    failed = engine.run("job", "add", "noop", "--payload", '{"fail": "so be it"}', "--wait")
    assert failed.returncode == 3
    assert "so be it" in failed.stdout

    children = engine.ps.children(recursive=True)
    assert len(children) >= 4
    assert engine.stop() == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    assert not (engine.data_dir / "run.json").exists()


def test_the_action_of_the_plugin_page_runs(shared: Engine) -> None:
    payload = '{"text": "one two three"}'
    done = shared.run("job", "add", "count_words", "--payload", payload, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 words" in done.stdout
    refused = shared.run("job", "add", "count_words", "--payload", '{"text": 5}')
    assert refused.returncode == 5
    assert "text" in refused.stderr


def test_status_says_what_there_is(shared: Engine) -> None:
    said = shared.json("status")
    assert said["problems"] == []
    (noop,) = [action for action in said["actions"] if action["action"] == "noop"]
    assert (noop["executors"], noop["threads"], noop["queued"]) == (1, 4, 0)
    assert noop["leader"]
    waiting = shared.json("job", "add", "nobody_has_this")["id"]
    told = shared.run("status")
    assert told.returncode == 1
    assert "1 job of nobody_has_this wait, and no live executor has that action" in told.stdout
    assert shared.run("job", "cancel", waiting).returncode == 0
    assert shared.run("status").returncode == 0


def test_a_key_is_listed_and_revoked(shared: Engine, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    made = shared.run("credential", "add", "--role", "executor", "--days", "90", "-o", str(file))
    assert made.returncode == 0, made.stderr
    key = json.loads(file.read_text())["key"]
    bare = key.removeprefix("credential/")
    listed = shared.run("credential", "list").stdout.splitlines()
    (line,) = [line for line in listed if bare in line]
    assert re.fullmatch(rf"{bare} +\d+ s +in 89 d +executor *", line)
    assert "secret" not in json.dumps(shared.json("credential", "list"))
    assert shared.run("credential", "revoke", bare).stdout == f"{key} is revoked\n"
    assert shared.run("credential", "revoke", key).returncode == 5
    assert bare not in shared.run("credential", "list").stdout


def test_a_killed_child_is_replaced_and_the_job_still_ends(engine: Engine) -> None:
    job = engine.json("job", "add", "noop", "--payload", '{"seconds": 2}')["id"]
    until(lambda: engine.state(job) == "RUNNING", "running")
    engine.child("job-executor").kill()
    until(lambda: engine.state(job) == "SUCCESS", "done by the next executor")
    assert "was killed by signal 9; again in 1 s" in engine.output()


def test_a_stop_waits_and_the_next_start_has_all_but_the_password(engine: Engine) -> None:
    job = engine.json("job", "add", "noop", "--payload", '{"seconds": 3}')["id"]
    until(lambda: engine.state(job) == "RUNNING", "running")
    assert engine.stop() == 0
    password = engine.password()
    with running(engine.data_dir) as again:
        document = again.json("job", "show", job)
        assert (document["state"], document["duration"] >= 2) == ("SUCCESS", True)
        assert password not in again.output()


def test_a_drained_executor_is_not_started_again(engine: Engine) -> None:
    (executor,) = engine.json("executor", "list")
    process = engine.child("job-executor")
    assert engine.run("executor", "drain", executor["name"]).returncode == 0
    process.wait(30)
    until(lambda: "has stopped, as it was asked to" in engine.output(), "said so")
    assert engine.json("executor", "list") == []


def test_the_printed_password_lets_one_in(shared: Engine, tmp_path: Path) -> None:
    url = json.loads((shared.data_dir / "run.json").read_text())["api_url"]
    environment = {**os.environ, "HOME": str(tmp_path)}

    def command(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, *arguments],
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )

    login = ["login", "--api-url", url, "--user", "admin", "--password-stdin"]
    assert command(*login, given="wrong\n").returncode == 5
    assert command("job", "list").returncode == 4
    assert command(*login, given=f"{shared.password()}\n").returncode == 0
    assert command("job", "list").returncode == 0
    assert command("logout").returncode == 0


def test_the_client_page_does_what_it_says(shared: Engine, tmp_path: Path) -> None:
    key = json.loads((shared.data_dir / "credentials" / "admin.json").read_text())
    url = json.loads((shared.data_dir / "run.json").read_text())["api_url"]
    code = "\n".join(blocks(DOCS / "api-client.md"))
    for placeholder, real in (
        ("http://127.0.0.1:8020", url),
        ("credential/…", key["key"]),
        ("the secret", key["secret"]),
    ):
        assert placeholder in code
        code = code.replace(placeholder, real)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SUCCESS")


def test_curl_alone_from_the_readme(tmp_path: Path) -> None:
    """Three commands, from nothing to a job and its result."""
    require(shutil.which("curl") is not None, "curl is not installed")
    require(os.geteuid() == 0 and shutil.which("bwrap") is not None, "needs root and bubblewrap")
    section = README.read_text().partition("## With curl alone\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^(job-engine|curl) (.*)$", section, re.MULTILINE)
    assert [program for program, _ in commands] == ["job-engine", "curl", "curl"]
    with running(tmp_path / "engine", "--sandbox", "bubblewrap") as engine:
        url = json.loads((engine.data_dir / "run.json").read_text())["api_url"]

        def answer(arguments: str) -> Any:
            command = f"curl --silent {arguments}"
            for placeholder, real in (
                ("~/.local/share/job-engine", str(engine.data_dir)),
                ("http://127.0.0.1:8020", url),
            ):
                assert placeholder in command
                command = command.replace(placeholder, real)
            done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
            return json.loads(done.stdout)

        created = answer(commands[1][1])
        assert created["status"] == 201

        def succeeded() -> Any:
            (newest,) = answer(commands[2][1])["resources"]
            assert newest["id"] == created["resource-id"]
            return newest if newest["state"] == "SUCCESS" else None

        until(succeeded, "the job has succeeded")
        assert json.loads(succeeded()["output"])["stdout"] == "hello\n"


def test_the_login_for_curl_is_no_admins(shared: Engine) -> None:
    file = shared.data_dir / "curl.conf"
    assert file.stat().st_mode & 0o777 == 0o600
    name, _, value = file.read_text().rpartition('cookie = "')[2].rstrip('"\n').partition("=")
    url = json.loads((shared.data_dir / "run.json").read_text())["api_url"]
    with requests.Session() as session:
        session.cookies.set(name, value)
        roles = session.get(f"{url}/api/session").json()["resources"][0]["roles"].split()
        assert session.get(f"{url}/api/engine/shares").status_code == 403
    assert "group/job-submitter" in roles
    assert "group/nuvla-admin" not in roles


def test_a_submitter_may_create_jobs_and_not_users(shared: Engine, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    made = shared.run("credential", "add", "--role", "submitter", "--output", str(file))
    assert made.returncode == 0, made.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    environment = {
        **os.environ,
        "JOB_ENGINE_DATA_DIR": str(shared.data_dir),
        "JOB_ENGINE_CREDENTIALS_FILE": str(file),
    }

    def command(*arguments: str, given: str = "") -> int:
        return subprocess.run(
            [SCRIPT, *arguments],
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        ).returncode

    assert command("job", "add", "noop", "--wait") == 0
    user = ["user", "add", "eve", "--role", "submitter", "--password-stdin"]
    assert command(*user, given="long enough\n") == 5
    assert shared.run("user", "add", "ada", "--role", "teacher").returncode != 0  # no password


def test_two_engines_live_apart(shared: Engine, tmp_path: Path) -> None:
    with running(tmp_path / "second") as second:
        job = second.json("job", "add", "noop")["id"]
        until(lambda: second.state(job) == "SUCCESS", "run by the second")
        assert shared.run("job", "show", job).returncode == 5


def test_a_directory_has_one_engine(shared: Engine) -> None:
    rival = Engine(shared.data_dir)
    assert rival.process.wait(30) == 2
    assert "runs in" in rival.output()
    assert "--data-dir" in rival.output()


def test_a_killed_supervisor_takes_everything_along(engine: Engine) -> None:
    """And the next one, started at once, waits for that: it has the same port and data."""
    children = engine.ps.children(recursive=True)
    url = json.loads((engine.data_dir / "run.json").read_text())["api_url"]
    job = engine.json("job", "add", "noop", "--payload", '{"seconds": 2}')["id"]
    until(lambda: engine.state(job) == "RUNNING", "running")
    engine.process.kill()
    (engine.data_dir / "run.json").unlink()
    with running(engine.data_dir) as again:
        _, alive = psutil.wait_procs(children, timeout=0)
        assert alive == []
        assert json.loads((engine.data_dir / "run.json").read_text())["api_url"] == url
        until(lambda: again.state(job) == "SUCCESS", "run again")
    engine.process.wait()
