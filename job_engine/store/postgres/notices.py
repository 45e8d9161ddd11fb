"""Notifying other processes of commits, by PostgreSQL's NOTIFY and LISTEN.

A notice only wakes them early. If one is lost with its connection, they find the news with
their next poll.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from job_engine.log import get_logger
from job_engine.model import JobState
from job_engine.store.base import EVENTS_TOPIC

log = get_logger(__name__)

CHANNEL: Final = "job_engine"
RECONNECT_S: Final = 1.0
"""Seconds between two attempts to connect again."""
_LOOK_UP_S: Final = 5.0
"""Seconds after which the listening thread notices a stop, at the latest."""
_EVERYTHING: Final = frozenset(EVENTS_TOPIC + state for state in JobState)


class Notices:
    """Sends the topics of this process's commits, and calls `hear` with those of the others."""

    def __init__(self, engine: Engine, hear: Callable[[frozenset[str]], None]) -> None:
        """`engine` makes autocommit connections without a pool."""
        self._engine = engine
        self._hear = hear
        # PostgreSQL also notifies the sender, whose listeners were called already.
        self._name = uuid.uuid4().hex
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start to listen. Raises the driver's error if that fails."""
        connection = self._listen()
        self._thread = threading.Thread(
            target=self._run, args=(connection,), name="store-notices", daemon=True
        )
        self._thread.start()

    def statements(self, topics: Collection[str]) -> Sequence[str]:
        """Return SQL statements that notify the other processes of `topics` with the commit.

        Topics are constants of the engine, so they are safe in SQL.
        """
        return [self._notify(*sorted(topics))] if topics else []

    def _notify(self, *topics: str) -> str:
        return f"NOTIFY {CHANNEL}, '{' '.join([self._name, *topics])}'"

    def stop(self) -> None:
        """Stop listening. Idempotent."""
        self._stopping.set()
        if self._thread is None:
            return
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql(self._notify())
        except sa.exc.SQLAlchemyError:
            log.debug("notices.not_woken")  # the thread notices the stop by itself
        self._thread.join()
        self._thread = None

    def _run(self, connection: Connection) -> None:
        listening: Connection | None = connection
        while listening is not None:
            try:
                with listening:
                    self._follow(listening.connection.driver_connection)
            except (psycopg.Error, sa.exc.SQLAlchemyError) as error:
                log.warning("notices.lost", error=type(error).__name__)
            listening = self._listen_again()

    def _listen_again(self) -> Connection | None:
        """Connect again, however long that takes; return None once stopped."""
        while not self._stopping.wait(RECONNECT_S):
            try:
                connection = self._listen()
            except sa.exc.SQLAlchemyError:
                continue
            # Notices in the meantime were lost.
            self._hear(_EVERYTHING)
            return connection
        return None

    def _listen(self) -> Connection:
        connection = self._engine.connect()
        try:
            connection.exec_driver_sql(f"LISTEN {CHANNEL}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _follow(self, raw: Any) -> None:
        """Receive notices until stopped. Raises when the connection is lost."""
        while not self._stopping.is_set():
            for notice in raw.notifies(timeout=_LOOK_UP_S):
                sender, *topics = notice.payload.split(" ")
                if self._stopping.is_set():
                    return
                if sender != self._name and topics:
                    self._hear(frozenset(topics))
