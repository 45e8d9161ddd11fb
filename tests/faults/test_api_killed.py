"""stored-first: what was answered 201 is there after `kill -9`, and so is its event."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from job_engine.store.factory import open_store
from tests.support.engine import free_port

PASSWORD = "correct horse"


@contextmanager
def api_process(data_dir: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "JOB_ENGINE_DATA_DIR": str(data_dir),
        "JOB_ENGINE_PORT": str(port),
        "JOB_ENGINE_ADMIN_PASSWORD": PASSWORD,
        "JOB_ENGINE_LOG_LEVEL": "ERROR",
    }
    process = subprocess.Popen([sys.executable, "-m", "job_engine.api"], env=environment)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/api/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def add_until_it_dies(url: str, answered: list[str], enough: threading.Event) -> None:
    login = {"href": "session-template/password", "username": "admin", "password": PASSWORD}
    with httpx.Client(base_url=url) as client:
        client.post("/api/session", json={"template": login}).raise_for_status()
        while True:
            try:
                reply = client.post("/api/job", json={"action": "noop"})
            except httpx.TransportError:
                return
            assert reply.status_code == 201, reply.text
            answered.append(reply.json()["resource-id"])
            if len(answered) > 100:
                enough.set()


def test_no_answered_job_is_lost(tmp_path: Path) -> None:
    port = free_port()
    answered: list[str] = []
    enough = threading.Event()
    with api_process(tmp_path, port) as process:
        url = f"http://127.0.0.1:{port}"
        threads = [
            threading.Thread(target=add_until_it_dies, args=(url, answered, enough))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        assert enough.wait(60)
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join(30)
    store = open_store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    store.start()
    try:
        jobs = [stored.event.job for stored in store.events.after(0, limit=100_000).events]
        assert len(jobs) == len(set(jobs))
        assert set(answered) <= set(jobs)
        for job in answered:
            assert store.jobs.get(job)["state"] == "QUEUED"
    finally:
        store.stop()
