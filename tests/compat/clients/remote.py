"""A `nuvla-api` client in another process, as if it were here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.compat.clients.environment import clean_environment
from tests.compat.clients.recorder import Recorder, Request

PROGRAM = Path(__file__).with_name("program.py")


class RemoteError(Exception):
    """What the client raised; the attributes are those that programs decide by."""

    def __init__(self, error_data: dict[str, Any]) -> None:
        super().__init__(error_data["text"])
        self.type: str = error_data["type"]
        self.reason: str | None = error_data.get("reason")
        self.status: int | None = error_data.get("status")
        self.is_key_error: bool = error_data["is_key_error"]


class Remote:
    """Orders to a process with one client at a time; `with` ends the process."""

    def __init__(self, interpreter: Path, version: str, home: Path) -> None:
        self.version = version
        self.major = int(version.partition(".")[0])
        self.wire: Recorder
        """What the client talks to; set for each test."""
        self._process = subprocess.Popen(
            [str(interpreter), "-I", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(home),
        )

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def __call__(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method, and return what it gave. Raises `RemoteError`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"do": name, "args": args, "kwargs": kwargs}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RemoteError(answer["error"])
        return answer["value"]

    def connect(self, **kwargs: Any) -> None:
        """Make the client, with nobody logged in; keywords are those of `nuvla.api.Api`."""
        self("new", self.wire.url, **{"insecure": True, "persist_cookie": False, **kwargs})
        self.wire.take()

    def sent(self, name: str, *args: Any, **kwargs: Any) -> list[Request]:
        """Call a method, and return what it sent."""
        self.wire.take()
        self(name, *args, **kwargs)
        return self.wire.take()
