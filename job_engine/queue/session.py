"""One ZooKeeper session with a clock of its own (lost-means-stop).

During a partition kazoo stays SUSPENDED until it can reconnect, long after the servers have
expired the session and others may claim. So this module decides by the monotonic clock: a
session is lost two thirds of the negotiated timeout after the last answered request was
*sent*. The server heard from us no earlier than that, so it expires the session later.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.connection import CLOSE_RESPONSE, ConnectionHandler
from kazoo.protocol.states import KazooState
from kazoo.retry import KazooRetry

from job_engine.errors import QueueError, SessionLostError
from job_engine.log import get_logger
from job_engine.queue.handler import PollingHandler

log = get_logger(__name__)

LOST_AFTER: Final = 2 / 3
"""Fraction of the negotiated timeout after which a session without answers is lost."""

QUIET_FOR: Final = 0.4
"""Fraction after which an idle session is probed. kazoo pings after a third of the timeout
without a request, so that is hardly ever necessary."""

# kazoo's timeout has another base class, and a closing connection raises `OSError`.
ZK_ERRORS: Final = (KazooException, KazooTimeoutError, OSError)


class _Connection(ConnectionHandler):  # type: ignore[misc]
    """kazoo's connection, with the session timeout that the server granted, and ping times."""

    granted_s: float | None = None
    goes_on: Callable[[], bool]
    """Says whether the session may still hold when reconnecting."""
    on_pong: Callable[[float], None]
    """Called with the time at which a ping was sent, once it is answered."""
    _pinged_at = 0.0

    def _send_ping(self, connect_timeout: float) -> None:
        self._pinged_at = time.monotonic()
        super()._send_ping(connect_timeout)

    def _connect(self, *args: Any) -> tuple[float, float]:
        if not self.goes_on():
            # A server refuses a client that has seen a later zxid. A lost session does not
            # need that consistency, and a ZooKeeper that was wiped or restored would
            # refuse this process for ever.
            self.client.last_zxid = 0
        # kazoo does not expose the negotiated timeout, but returns two thirds of it (in
        # milliseconds) as the read timeout.
        read_timeout_ms, connect_timeout_ms = super()._connect(*args)
        self.granted_s = read_timeout_ms * 1.5 / 1000
        return read_timeout_ms, connect_timeout_ms

    def _read_socket(self, read_timeout: float) -> Any:
        awaited = self.ping_outstanding.is_set()
        response = super()._read_socket(read_timeout)
        # A TLS record may hold several packets. The others are buffered, not in the socket,
        # so kazoo would not read them before more data arrives, seconds later perhaps.
        while response is not CLOSE_RESPONSE and _pending(self._socket):
            response = super()._read_socket(read_timeout)
        if awaited and not self.ping_outstanding.is_set():
            self.on_pong(self._pinged_at)
        return response


def _pending(connection: Any) -> bool:
    return bool(isinstance(connection, ssl.SSLSocket) and connection.pending())


class ZooKeeperSession:
    """A kazoo client and the clock that says whether its session still holds.

    Args:
        hosts: `host:port,…`, with an optional chroot.
        timeout_s: session timeout to ask for.
        access: further arguments of kazoo's client (`security.client_arguments`).
    """

    def __init__(
        self, hosts: str, timeout_s: float, access: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self._client = KazooClient(
            hosts=hosts,
            timeout=timeout_s,
            handler=PollingHandler(),
            connection_retry=KazooRetry(max_tries=-1, delay=0.1, backoff=2, max_delay=1.0),
            command_retry=KazooRetry(max_tries=1, delay=0.1),
            **access,
        )
        self._connection = _Connection(
            self._client, self._client._conn_retry.copy(), logger=self._client.logger
        )
        self._connection.goes_on = self.alive
        self._connection.on_pong = self._note_pong
        self._client._connection = self._connection
        self._on_lost: list[Callable[[], None]] = []
        self._quiet: Callable[[], bool] = lambda: False
        self._lock = threading.Lock()
        self._answered_at = float("-inf")
        self._session_id: int | None = None
        self._lost = True  # until the first answer there is no session
        self._stopping = threading.Event()
        self._alive = threading.Event()
        self._monitor = threading.Thread(target=self._watch, name="zk-session", daemon=True)

    @property
    def client(self) -> KazooClient:
        """The kazoo client; every result of its transactions has to be inspected."""
        return self._client

    @property
    def id(self) -> int:
        """Id of the current session. Raises `SessionLostError` if there is none."""
        with self._lock:
            session_id = self._session_id
        if session_id is None or not self.alive():
            raise SessionLostError
        return session_id

    @property
    def granted_s(self) -> float | None:
        """The session timeout that the server granted, in seconds; None before the first one."""
        return self._connection.granted_s

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call `callback` once for each lost session, from the monitor's thread."""
        self._on_lost.append(callback)

    def quiet_while(self, nothing_at_stake: Callable[[], bool]) -> None:
        """Send no probes while `nothing_at_stake` is true: kazoo's pings prove the session.

        Pings are less frequent than probes, so an outage of a third of the timeout may lose
        the session, instead of more than half. Without claims that costs nothing.
        """
        self._quiet = nothing_at_stake

    def start(self) -> None:
        """Connect in the background."""
        self._client.start_async()
        self._monitor.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End the session, so that its nodes vanish at once; wait up to `timeout_s`."""
        self._stopping.set()
        # kazoo would wait more than ten seconds for a connection.
        closer = threading.Thread(target=self._close, name="zk-close", daemon=True)
        closer.start()
        closer.join(timeout_s)
        if self._monitor.is_alive():
            self._monitor.join(timeout_s)

    def _close(self) -> None:
        try:
            self._client.stop()
            self._client.close()
        except ZK_ERRORS as error:
            log.debug("zookeeper.close_failed", error=repr(error))

    def alive(self) -> bool:
        """Return whether the session certainly still holds, by our own clock."""
        with self._lock:
            return self._within_clock()

    def _within_clock(self) -> bool:
        """Like `alive`; the caller holds the lock."""
        granted_s = self._connection.granted_s
        if granted_s is None or self._lost or self._stopping.is_set():
            return False
        return time.monotonic() - self._answered_at < granted_s * LOST_AFTER

    def holds(self, session_id: int) -> bool:
        """Return whether this very session certainly still holds."""
        with self._lock:
            return self._session_id == session_id and self._within_clock()

    def wait_alive(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for a session; return whether there is one."""
        return self._alive.wait(timeout_s) and self.alive()

    def require(self, session_id: int) -> None:
        """Raise `SessionLostError` unless this very session is alive, and connected.

        While it is suspended (`QueueError`) nothing new may be started on it.
        """
        if self.id != session_id:
            raise SessionLostError
        if self._client.state != KazooState.CONNECTED:
            raise QueueError("The ZooKeeper connection is suspended.")

    # --- the clock -----------------------------------------------------------

    def _watch(self) -> None:
        outstanding = threading.Event()
        while True:
            granted_s = self._connection.granted_s or 1.0
            if self._stopping.wait(min(granted_s / 12, 1.0)):
                return
            connected = self._client.state == KazooState.CONNECTED
            if connected and not outstanding.is_set() and not self._may_be_quiet():
                self._ask(outstanding)
            self._check_clock()

    def _may_be_quiet(self) -> bool:
        granted_s = self._connection.granted_s or 0.0
        with self._lock:
            fresh = time.monotonic() - self._answered_at < granted_s * QUIET_FOR
            known = not self._lost and self._session_id == self._connected_id
        return fresh and known and self._quiet()

    @property
    def _connected_id(self) -> int | None:
        """Return the id of the session that kazoo is connected in; None: it is reconnecting.

        kazoo's state still says CONNECTED for a moment then.
        """
        client_id = self._client.client_id
        return None if client_id is None else int(client_id[0])

    def _ask(self, outstanding: threading.Event) -> None:
        session_id = self._connected_id
        if session_id is None:
            return
        sent_at = time.monotonic()

        def answered(result: Any) -> None:
            outstanding.clear()
            # A reply in another session than the request's proves nothing.
            if result.successful() and session_id == self._connected_id:
                self._note_answer(session_id, sent_at)

        outstanding.set()
        self._client.exists_async("/").rawlink(answered)

    def _note_pong(self, sent_at: float) -> None:
        with self._lock:
            # Only answers to requests reveal a new session.
            if self._session_id == self._connected_id and not self._is_overdue():
                self._answered_at = max(self._answered_at, sent_at)

    def _is_overdue(self) -> bool:
        """Whether the clock has ended the session, although `_check_clock` has not run yet.

        A later answer must not revive the session: callers that asked in the meantime were
        told that it is lost, and have dropped their claims. The caller holds the lock.
        """
        return self._session_id is not None and not self._lost and not self._within_clock()

    def _note_answer(self, session_id: int, sent_at: float) -> None:
        if self._stopping.is_set():
            return  # the session ends on purpose, which is no loss
        with self._lock:
            fresh = self._session_id != session_id
            expired_unseen = fresh and not self._lost
            overdue = self._is_overdue()
        if overdue:
            self._lose("silent")
        elif expired_unseen:
            # A new session may answer before the old one counts as lost.
            self._lose("replaced")
        with self._lock:
            self._session_id = session_id
            self._answered_at = sent_at
            self._lost = False
        self._alive.set()
        if fresh or overdue:
            log.info("zookeeper.session", session=f"{session_id:x}")

    def _check_clock(self) -> None:
        with self._lock:
            running = not self._lost
        if running and not self.alive() and not self._stopping.is_set():
            self._lose("silent")

    def _lose(self, why: str) -> None:
        with self._lock:
            self._lost = True
            session_id, self._session_id = self._session_id, None
            self._alive.clear()
        log.warning("zookeeper.lost", session=f"{session_id or 0:x}", why=why)
        for callback in self._on_lost:
            try:
                callback()
            except Exception:
                # This thread is the clock and must survive errors of callbacks.
                log.exception("zookeeper.callback_failed")
