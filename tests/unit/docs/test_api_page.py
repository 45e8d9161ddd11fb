"""Every block of the page on the API runs, in order, against a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from tests.conftest import require
from tests.support.engine import ADMIN_PASSWORD, Engine

PAGE: Final = Path(__file__).parents[3] / "docs" / "api.md"
BLOCK: Final = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CURL: Final = r"""
set -euo pipefail
curl() { command curl --silent --show-error --write-out '%{stderr}HTTP %{http_code}\n' "$@"; }
"""
"""Stops at the first command that fails, and tells the status of every answer."""
DONE: Final = "--- the block is done ---"

pytestmark = pytest.mark.timeout(300)


class Shell:
    """A shell that runs one block after the other, and remembers what they set."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=directory,
        )

    def run(self, block: str) -> str:
        """Run a block; returns what it said. Fails where a command of it fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{block}\necho; echo '{DONE}'\n")
        self._process.stdin.flush()
        output: list[str] = []
        for line in self._process.stdout:
            if line.rstrip() == DONE:
                return "".join(output)
            output.append(line)
        raise AssertionError(f"{block}\nended with\n{''.join(output)}")

    def close(self) -> None:
        """End the shell."""
        self._process.communicate()


def log_in(url: str, template: dict[str, str]) -> requests.Session:
    session = requests.Session()
    reply = session.post(f"{url}/api/session", json={"template": template})
    assert reply.status_code == 201, reply.text
    return session


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path, "unused") as engine:
        engine.start_api()
        yield engine


@contextmanager
def admin_of(engine: Engine) -> Iterator[requests.Session]:
    template = {
        "href": "session-template/password",
        "username": "admin",
        "password": ADMIN_PASSWORD,
    }
    with log_in(engine.url, template) as session:
        yield session


def submitter_key(engine: Engine, admin: requests.Session) -> tuple[str, str]:
    template = {
        "href": "credential-template/generate-api-key",
        "roles": ["group/job-submitter"],
    }
    made = admin.post(f"{engine.url}/api/credential", json={"template": template}).json()
    return made["resource-id"], made["secret-key"]


def test_the_page_runs(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    require(shutil.which("curl") is not None, "curl is not installed")
    with zipfile.ZipFile(tmp_path / "hw1.zip", "w") as archive:
        archive.writestr("Makefile", "all:\n" * 1000)
    with admin_of(engine) as admin:
        key, secret = submitter_key(engine, admin)
        namespace: dict[str, Any] = {"admin": admin}
        shell = Shell(tmp_path)
        shell.run(CURL)
        shell.run(login_block(engine))
        ran = {"sh": 0, "python": 0}
        for language, block in BLOCK.findall(PAGE.read_text()):
            code = filled_in(block, engine.url, key, secret)
            if language == "sh":
                output = shell.run(code)
                wrong = [
                    s for s in re.findall(r"HTTP (\d+)", output) if s >= "400" and s not in code
                ]
                assert wrong == [], f"{block}\n{output}"
            else:
                exec(compile(code, str(PAGE), "exec"), namespace)
            ran[language] += 1
        shell.close()
        namespace["http"].close()
    assert (tmp_path / "copy.zip").read_bytes() == (tmp_path / "hw1.zip").read_bytes()
    assert ran["sh"] == ran["python"] > 10


def login_block(engine: Engine) -> str:
    template = {
        "href": "session-template/password",
        "username": "admin",
        "password": ADMIN_PASSWORD,
    }
    body = json.dumps({"template": template})
    return f"curl --cookie-jar admin-jar {engine.url}/api/session --json '{body}'"


def filled_in(block: str, url: str, key: str, secret: str) -> str:
    for placeholder, real in (
        ("http://127.0.0.1:8020", url),
        ("credential/…", key),
        ("the secret", secret),
    ):
        block = block.replace(placeholder, real)
    return block
