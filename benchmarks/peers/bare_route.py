"""A bare FastAPI route that commits one row of SQLite, in a process of its own.

`python -m benchmarks.peers.bare_route PORT FILE` serves it.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from benchmarks.servers import wait_for
from tests.support.engine import free_port

PEER: Final = "bare FastAPI route"
DURABILITY: Final = "SQLite WAL, synchronous=FULL"


@contextmanager
def bare_route() -> Iterator[int]:
    """Serve it; yields its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "rows.sqlite"
        command = [sys.executable, "-m", __name__, str(port), str(file)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: _answers(port), 30, PEER)
            yield port
        finally:
            server.terminate()
            server.wait()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
    except urllib.error.HTTPError as error:
        error.close()
        return True  # 404 is an answer
    except OSError:
        return False
    return True


def make_app(file: Path) -> FastAPI:
    """Return the application."""
    app = FastAPI()
    database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL").close()
    database.execute("PRAGMA synchronous=FULL").close()
    database.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, document TEXT)").close()
    lock = threading.Lock()

    @app.post("/row", status_code=201)
    def create(body: dict[str, Any]) -> dict[str, str]:
        key = str(uuid.uuid4())
        with lock:
            database.execute("INSERT INTO rows VALUES (?, ?)", (key, json.dumps(body))).close()
        return {"id": key}

    return app


if __name__ == "__main__":
    uvicorn.run(
        make_app(Path(sys.argv[2])),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
