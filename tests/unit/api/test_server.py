"""Starting and stopping the process: the first password, and a prompt end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.support.engine import free_port


def start(data_dir: Path, port: int, **settings: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "JOB_ENGINE_DATA_DIR": str(data_dir),
        "JOB_ENGINE_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
        **{f"JOB_ENGINE_{name.upper()}": value for name, value in settings.items()},
    }
    return subprocess.Popen(
        [sys.executable, "-m", "job_engine.api"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def refused(data_dir: Path, **settings: str) -> tuple[int, str, str]:
    """Return how a server ended that could not start, what it said, and what it logged."""
    process = start(data_dir, free_port(), **settings)
    said, logged = process.communicate(timeout=30)
    return process.returncode, said, logged


def stop(process: subprocess.Popen[str]) -> tuple[str, str, float]:
    """Return what it said, what it logged, and the seconds that the end took."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, logged = process.communicate(timeout=20)
    return said, logged, time.monotonic() - began


def until_ready(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/api/health/ready").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server did not start")


def test_a_generated_password_is_said_once_and_logged_never(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    first = start(tmp_path, port)
    until_ready(url)
    said, logged, seconds = stop(first)
    assert first.returncode == 0
    assert seconds < 3
    found = re.search(r"The password of the user `admin` is: (\S{20,})\n", said)
    assert found is not None
    assert found[1] not in logged
    second = start(tmp_path, port)
    until_ready(url)
    template = {"href": "session-template/password", "username": "admin", "password": found[1]}
    assert httpx.post(f"{url}/api/session", json={"template": template}).status_code == 201
    said, logged, _ = stop(second)
    assert said == ""
    assert found[1] not in logged


def test_a_port_that_is_taken_ends_the_process(tmp_path: Path) -> None:
    port = free_port()
    first = start(tmp_path / "a", port)
    until_ready(f"http://127.0.0.1:{port}")
    second = start(tmp_path / "b", port)
    _, logged = second.communicate(timeout=30)
    assert second.returncode != 0
    assert "address already in use" in logged
    stop(first)


def test_a_stop_under_a_client_that_trickles_is_quiet(tmp_path: Path) -> None:
    """It is told why it gets no answer, and nobody has to read a traceback."""
    port = free_port()
    process = start(tmp_path, port)
    until_ready(f"http://127.0.0.1:{port}")
    head = b"POST /api/job HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as trickling:
        trickling.sendall(head)
        until_ready(f"http://127.0.0.1:{port}")
        _, logged, seconds = stop(process)
        assert trickling.recv(1000).startswith(b"HTTP/1.1 503")
    assert process.returncode == 0
    assert seconds < 10
    assert "Traceback" not in logged


def test_errors_of_the_start_have_no_traceback(tmp_path: Path) -> None:
    expected = "error: --rate-per-s (JOB_ENGINE_RATE_PER_S): Input should be"
    code, said, logged = refused(tmp_path, rate_per_s="many")
    assert (code, said, logged[: len(expected)], logged.count("\n")) == (2, "", expected, 1)
    for name in ("blob_dir", "credentials_dir"):
        code, said, logged = refused(tmp_path, **{name: "/proc/nowhere"})
        assert (code, said, logged.count("\n")) == (2, "", 1), logged
        assert logged.startswith("error: /proc/nowhere cannot be used: ")
    code, said, logged = refused(tmp_path, admin_password="")
    expected = "error: JOB_ENGINE_ADMIN_PASSWORD has to have 8 to 1000 characters.\n"
    assert (code, said) == (2, "")
    assert logged.endswith(expected)
