"""The executor's end of a forwarder: connections that come out of a container's stream."""

from __future__ import annotations

import contextlib
import inspect
import socket
import tempfile
import threading
from pathlib import Path
from typing import Final, Self

from job_engine.errors import SandboxError
from job_engine.log import get_logger
from job_engine.sandbox.docker import forwarder
from job_engine.sandbox.docker.attach import STDOUT, AttachedStream
from job_engine.sandbox.policy import PROXY_ADDRESS

_READY_S: Final = 30.0

log = get_logger(__name__)


def command() -> tuple[str, ...]:
    """Return what runs the other end: its source, so that any image with a python3 will do."""
    host, port = PROXY_ADDRESS
    return ("python3", "-I", "-c", inspect.getsource(forwarder), host, str(port))


class Forwarding:
    """Connects each connection of the forwarder's to `listener`; a context manager."""

    def __init__(self, stream: AttachedStream) -> None:
        self._stream = stream
        self._multiplexer = forwarder.Multiplexer(stream.send, self._handle)
        self._ready = threading.Event()
        self._errors = bytearray()
        # A Unix socket in a private directory: no other user of this host can connect.
        self._directory = tempfile.TemporaryDirectory(prefix="job-engine-egress-")
        self._path = str(Path(self._directory.name) / "proxy")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self._path)
        self.listener.listen()
        self._thread = threading.Thread(target=self._run, name="docker-forward", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._multiplexer.close()
        self._thread.join()
        self.listener.close()
        self._directory.cleanup()

    def wait_ready(self) -> None:
        """Return when the forwarder listens; raises `SandboxError` when it does not."""
        if not self._ready.wait(_READY_S) or not self._thread.is_alive():
            reason = self._errors.decode(errors="replace").strip().splitlines()
            raise SandboxError(f"the forwarder does not start: {reason[-1:] or 'no answer'}")

    def _run(self) -> None:
        try:
            while (parts := self._stream.receive()) is not None:
                for stream, data in parts:
                    if stream == STDOUT:
                        self._multiplexer.feed(data)
                    else:
                        self._errors = (self._errors + data)[-2000:]
        except (OSError, ValueError, SandboxError) as error:
            log.debug("docker.forwarder.ended", error=str(error))
        finally:
            self._ready.set()

    def _handle(self, number: int, kind: int) -> None:
        if kind == forwarder.READY:
            self._ready.set()
        elif kind == forwarder.OPEN:
            self._open(number)

    def _open(self, number: int) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            with contextlib.suppress(OSError):
                self._multiplexer.send(number, forwarder.END)
            return
        if not self._multiplexer.add(number, sock):
            sock.close()
