"""Sending one message, to the very address that was checked.

The receiver is not trusted, so this must hold: the name is resolved once, and the connection
goes to the checked address (no DNS rebinding); redirects are not followed, and proxies of the
environment not used; everything ends in time, however slow the receiver is; and of its answer
only the status is kept.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from job_engine import __version__
from job_engine.errors import DestinationRefusedError
from job_engine.webhooks.destination import Destination, DestinationPolicy

CONNECT_TIMEOUT_S: Final = 5.0
"""Seconds to connect to each address."""
MAX_ANSWER_BYTES: Final = 16 * 1024
"""Bytes that are read of a response's body, so that a normal receiver is not cut off."""
T = TypeVar("T")

_USER_AGENT: Final = f"job-engine-webhooks/{__version__}"


@dataclass(frozen=True)
class Outcome:
    """The result of sending a message."""

    status: int | None = None
    """Status of the response; None: there was none."""
    error: str | None = None
    """Why there was no response."""
    refused: bool = False
    """Whether it was not sent, because its destination is not allowed; then it never will be."""


class Sender:
    """Sends messages, from any number of threads; `close` aborts those in progress.

    Args:
        policy: where messages may go.
        timeout_s: seconds that one message may take, from connecting to the answer.
        ca_file: a PEM file with further certificate authorities.
    """

    def __init__(
        self, policy: DestinationPolicy, *, timeout_s: float, ca_file: Path | None = None
    ) -> None:
        self._policy = policy
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context()
        if ca_file is not None:
            self._tls.load_verify_locations(ca_file)
        self._lock = threading.Lock()
        self._open: set[_Connection] = set()
        self._closed = False

    def close(self) -> None:
        """Abort messages in progress, and refuse later ones. Idempotent."""
        with self._lock:
            self._closed = True
            connections = list(self._open)
        for connection in connections:
            connection.cut()

    def send(self, url: str, headers: Mapping[str, str], body: str) -> Outcome:
        """Post one message."""
        deadline = time.monotonic() + self._timeout_s
        try:
            destination = Destination.parse(url)
            addresses = _in_time(partial(self._policy.addresses, destination), self._timeout_s)
        except ValueError as error:
            return Outcome(error=f"The URL {error}", refused=True)
        except DestinationRefusedError as error:
            return Outcome(error=error.message, refused=True)
        except OSError as error:
            why = error.strerror or f"not within {self._timeout_s:g} s"
            return Outcome(error=f"{destination.host} does not resolve: {why}")
        sent = {**headers, "user-agent": _USER_AGENT, "connection": "close"}
        connection = _Connection(destination, addresses, self._tls, deadline)
        try:
            with self._tracked(connection):
                connection.request("POST", destination.path, body.encode(), sent)
                answer = connection.getresponse()
                answer.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            return Outcome(error=self._reason(error, deadline))
        return Outcome(status=answer.status)

    @contextmanager
    def _tracked(self, connection: _Connection) -> Iterator[None]:
        """Close the connection at its deadline, whatever it is doing."""
        watch = threading.Timer(connection.left_s(), connection.cut)
        watch.daemon = True
        with self._lock:
            if self._closed:
                raise OSError("the sender is closed")
            self._open.add(connection)
        watch.start()
        try:
            yield
        finally:
            watch.cancel()
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _reason(self, error: Exception, deadline: float) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"Its certificate is not believed: {error.verify_message}"
        if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
            return f"It did not answer within {self._timeout_s:g} s."
        if isinstance(error, OSError):
            return f"It cannot be reached: {error.strerror or error}"
        return f"What answers does not speak HTTP: {type(error).__name__}"


def _in_time(ask: Callable[[], T], timeout_s: float) -> T:
    """Call `ask` in a thread, and abandon it after `timeout_s`, because resolving a name cannot
    be cancelled. Raises `TimeoutError`, and what it raises.
    """
    asked: Future[T] = Future()

    def answer() -> None:
        try:
            asked.set_result(ask())
        except Exception as error:  # noqa: BLE001 - raised in the waiting thread
            asked.set_exception(error)

    threading.Thread(target=answer, name="webhook-resolve", daemon=True).start()
    return asked.result(timeout_s)


class _Connection(http.client.HTTPConnection):
    """A connection to a host, by addresses that were resolved before."""

    def __init__(
        self, destination: Destination, addresses: list[str], tls: ssl.SSLContext, deadline: float
    ) -> None:
        super().__init__(destination.host, destination.port)
        # What the `Host` header leaves the port out for.
        self.default_port = 443 if destination.tls else 80
        self._addresses = addresses
        self._tls = tls if destination.tls else None
        self._deadline = deadline
        self._cut = threading.Event()

    def left_s(self) -> float:
        """Seconds until the deadline."""
        return max(0.001, self._deadline - time.monotonic())

    def connect(self) -> None:
        """Connect to the first address that answers."""
        self.sock = self._reach()
        self.sock.settimeout(self.left_s())
        if self._tls is not None:
            # Set before the TLS handshake, so that `cut` can abort it.
            self.sock = self._tls.wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self._refuse_cut()
            self.sock.do_handshake()
        self._refuse_cut()

    def cut(self) -> None:
        """Abort the connection; for any thread."""
        self._cut.set()
        sock = self.sock
        if sock is not None:
            with suppress(OSError):
                # Not the TLS object's own method, which is not safe while another thread reads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _reach(self) -> socket.socket:
        failure: OSError = OSError("no address")
        for address in self._addresses:
            self._refuse_cut()
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            sock.settimeout(min(CONNECT_TIMEOUT_S, self.left_s()))
            try:
                sock.connect((address, self.port))
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def _refuse_cut(self) -> None:
        if self._cut.is_set():
            raise TimeoutError
