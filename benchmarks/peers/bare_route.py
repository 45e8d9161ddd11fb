"""A bare FastAPI route that commits one row, in a process of its own.

The row goes to the database that the engine beside it uses, or to a SQLite of its own.
`python -m benchmarks.peers.bare_route PORT URL` serves it.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from sqlalchemy import URL, make_url

from benchmarks.servers import wait_for
from tests.support.engine import free_port

PEER: Final = "bare FastAPI route"


Insert = Callable[[str, str], None]
"""Commits a row: its id, and its document as JSON."""


@contextmanager
def bare_route(database_url: str | None) -> Iterator[int]:
    """Serve it over a database, or over a SQLite of its own; yields its port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        url = database_url or f"sqlite:///{directory}/rows.sqlite"
        command = [sys.executable, "-m", __name__, str(port), url]
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


def _on_sqlite(file: str) -> Insert:
    database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL").close()
    database.execute("PRAGMA synchronous=FULL").close()
    database.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, document TEXT)").close()
    return lambda key, text: database.execute("INSERT INTO rows VALUES (?, ?)", (key, text)).close()


def _on_postgresql(url: URL) -> Insert:
    import psycopg  # an extra

    where = url.set(drivername="postgresql").render_as_string(hide_password=False)
    database = psycopg.connect(where, autocommit=True)
    database.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, document TEXT)").close()
    insert = "INSERT INTO rows VALUES (%s, %s)"
    return lambda key, text: database.execute(insert, (key, text), prepare=True).close()


def make_app(url: URL) -> FastAPI:
    """Return the application."""
    app = FastAPI()
    is_sqlite = url.get_backend_name() == "sqlite"
    insert = _on_sqlite(url.database or "") if is_sqlite else _on_postgresql(url)
    lock = threading.Lock()

    @app.post("/row", status_code=201)
    def create(body: dict[str, Any]) -> dict[str, str]:
        key = str(uuid.uuid4())
        with lock:
            insert(key, json.dumps(body))
        return {"id": key}

    return app


if __name__ == "__main__":
    uvicorn.run(
        make_app(make_url(sys.argv[2])),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
