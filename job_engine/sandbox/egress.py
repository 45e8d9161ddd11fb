"""The egress proxy: the only way out of a sandbox, to the hosts that a phase names.

It listens on a socket that lives in the sandbox's own network namespace (the backend
makes it) and connects from the executor's. So nothing has to run inside the sandbox, and
the sandbox has no route at all. It speaks HTTP CONNECT and plain HTTP with an absolute
URI, which is what `http_proxy` and `https_proxy` mean to git, pip, curl and the rest.

What must hold: only the named host and port pairs; a name is resolved once, and the address
that was checked is the one that is connected to (no DNS rebinding); no address of a
private or special range, and none of this machine, unless the operator names that host and
port. The grain is host and port: a phase that may reach one may reach all that is served there.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, Self

from job_engine.errors import SandboxRefusedError
from job_engine.log import get_logger
from job_engine.sandbox.base import Reach
from job_engine.sandbox.egress_http import BadRequestError, Request, read_request
from job_engine.sandbox.egress_policy import EgressPolicy

MAX_CONNECTIONS: Final = 64
"""Connections of one phase at once; one more is closed unanswered."""
CONNECT_TIMEOUT_S: Final = 10.0
HEAD_TIMEOUT_S: Final = 15.0
FIRST_BYTE_TIMEOUT_S: Final = 20.0
"""Until a tunnel's server says anything. Clients wait for a handshake much longer, and git's
`http.lowSpeedTime` counts only what follows it."""
IDLE_TIMEOUT_S: Final = 120.0
"""A connection that moves no byte for this long, in one direction, is closed."""
BURST: Final = 256
"""Connections accepted without delay; beyond that, one each `PACE_S`."""
PACE_S: Final = 0.01
MAX_REFUSALS_LOGGED: Final = 20
"""Refusals of one phase that are logged; more could fill the disk."""
_CLOSE_TIMEOUT_S: Final = 0.5
_CHUNK_BYTES: Final = 64 * 2**10
_NO_SUCH_NAME: Final = (errno.EINVAL, socket.EAI_NONAME, socket.EAI_NODATA)
"""Errors of `resolve` for a name that is none, does not exist or has no address. With any other
the resolver failed."""
_LINGER_S: Final = 1.0
_LINGER_READS: Final = 16
"""Reads from a connection after its request was refused, at most."""

log = get_logger(__name__)


class EgressProxy:
    """Serves one phase; `close` ends every connection. Use it as a context manager.

    Args:
        reach: the pairs that the phase may connect to.
        allow_private_hosts: the operator's `host:port` exceptions to the ban on
            private addresses; they widen no phase's `reach`.
    """

    def __init__(self, reach: Iterable[Reach], allow_private_hosts: Iterable[str] = ()) -> None:
        self._policy = EgressPolicy(reach, allow_private_hosts)
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._refusals = 0

    def serve(self, listening_socket: socket.socket) -> None:
        """Start to answer on a bound, listening stream socket, and take ownership of it."""
        self._listener = listening_socket
        self._start(self._accept, listening_socket)

    def close(self) -> None:
        """Stop listening and end all connections. Idempotent.

        Returns within a second: a thread that still resolves a name is not waited for, and
        finds afterwards that it may not connect.
        """
        with self._lock:
            self._closed.set()
            sockets = [*self._open, *([self._listener] if self._listener else [])]
            threads = list(self._threads)
        for sock in sockets:
            _shutdown(sock)
        deadline = time.monotonic() + _CLOSE_TIMEOUT_S
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
        if self._listener is not None:
            self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self, listener: socket.socket) -> None:
        due = time.monotonic()
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self._track(client):
                self._start(self._converse, client)
            else:
                client.close()
            # A connection costs the executor more than the phase, whose CPU time is counted.
            now = time.monotonic()
            due = max(due, now - BURST * PACE_S) + PACE_S
            self._closed.wait(max(due - now, 0))

    def _start(self, target: Callable[[socket.socket], None], sock: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(sock,), name="egress", daemon=True)
        with self._lock:
            self._threads = [known for known in self._threads if known.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _track(self, sock: socket.socket) -> bool:
        with self._lock:
            # Two sockets a connection, its client's and its server's.
            if self._closed.is_set() or len(self._open) >= 2 * MAX_CONNECTIONS:
                return False
            self._open.add(sock)
            return True

    def _untrack(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.discard(sock)
        sock.close()

    def _converse(self, client: socket.socket) -> None:
        try:
            client.settimeout(HEAD_TIMEOUT_S)
            self._answer(client)
        except OSError:
            pass  # Either end may close at any time.
        finally:
            self._untrack(client)

    def _answer(self, client: socket.socket) -> None:
        try:
            request = read_request(client)
            address = self._policy.resolve(request.host, request.port)
        except BadRequestError as error:
            _refuse(client, 400, str(error))
            return
        except SandboxRefusedError as error:
            self._log_refusal(error.message)
            _refuse(client, 403, error.message)
            return
        except OSError as error:
            # Who is told 502 tries again later, so a name that does not exist gets another answer.
            status = 404 if error.errno in _NO_SUCH_NAME else 502
            _refuse(client, status, f"the name cannot be resolved: {error.strerror}")
            return
        server = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        # Known before it connects, so that `close` ends the attempt as well.
        if not self._track(server):
            server.close()
            return
        try:
            self._relay(client, server, address, request)
        finally:
            self._untrack(server)

    def _log_refusal(self, reason: str) -> None:
        with self._lock:
            self._refusals += 1
            wanted = self._refusals <= MAX_REFUSALS_LOGGED
        if wanted:
            log.warning("egress.refused", reason=reason)

    def _relay(
        self,
        client: socket.socket,
        server: socket.socket,
        address: tuple[str, int],
        request: Request,
    ) -> None:
        server.settimeout(CONNECT_TIMEOUT_S)
        try:
            server.connect(address)
        except OSError as error:
            _refuse(client, 502, f"cannot connect: {error.strerror or error}")
            return
        for sock in (client, server):
            sock.settimeout(IDLE_TIMEOUT_S)
        if request.tunnel:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        server.sendall(request.forward)
        upward = threading.Thread(
            target=_copy, args=(client, server), name="egress-up", daemon=True
        )
        upward.start()
        _copy(server, client, FIRST_BYTE_TIMEOUT_S if request.tunnel else IDLE_TIMEOUT_S)
        upward.join()


def _copy(source: socket.socket, sink: socket.socket, first_s: float = IDLE_TIMEOUT_S) -> None:
    """Move bytes until the end of `source`, then say so to `sink`; on error end both.

    The first ones have to come within `first_s`.
    """
    try:
        source.settimeout(first_s)
        data = source.recv(_CHUNK_BYTES)
        source.settimeout(IDLE_TIMEOUT_S)
        while data:
            sink.sendall(data)
            data = source.recv(_CHUNK_BYTES)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        _shutdown(source)
        _shutdown(sink)


def _shutdown(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _refuse(client: socket.socket, status: int, reason: str) -> None:
    """Answer with a one-line reason, in the status line too: curl and git show only that."""
    line = " ".join(reason.split())[:200].encode("ascii", "replace").decode("ascii")
    body = f"{line}\n".encode()
    head = (
        f"HTTP/1.1 {status} {line}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    client.shutdown(socket.SHUT_WR)
    # Closing with unread input would reset the connection before the answer is read.
    client.settimeout(_LINGER_S)
    for _ in range(_LINGER_READS):
        if not client.recv(_CHUNK_BYTES):
            break
