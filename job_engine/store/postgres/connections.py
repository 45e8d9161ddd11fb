"""Connections to PostgreSQL, and the time limits of what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import URL, Engine

from job_engine.store.base import read_json, write_json

BUSY_TIMEOUT_S: Final = 30.0
"""Seconds to wait for another writer, or for a free connection."""
READ_LIMIT_S: Final = 10.0
"""Seconds that one statement of a read may take, because slow searches delay all others."""
PAUSE_LIMIT_S: Final = 10.0
"""Seconds that a connection may be idle within a transaction before the server ends it, so that
a process that was paused or cut off does not block the other writers."""

_CONNECT: Final = {
    "connect_timeout": 30,
    "application_name": "job-engine",
    # A broken network is noticed after half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}


def make_engine(url: URL, connections: int, ready: Callable[[Any], None]) -> Engine:
    """Return an engine with a pool of `connections`; 0: a new connection each time."""
    pool: dict[str, Any] = {"poolclass": sa.NullPool}
    if connections:
        pool = {"pool_size": connections, "max_overflow": 0, "pool_timeout": BUSY_TIMEOUT_S}
    engine = sa.create_engine(
        url,
        connect_args=_CONNECT,
        json_serializer=write_json,
        json_deserializer=read_json,
        # Values are private, and include password hashes: errors must not contain them.
        hide_parameters=True,
        **pool,
    )
    sa.event.listen(engine, "connect", lambda raw, _record: ready(raw))
    return engine


def ready_to_read(raw: Any) -> None:
    """Set a connection to read-only snapshots, with a time limit for statements."""
    _set(raw, statement_timeout=READ_LIMIT_S, idle_in_transaction_session_timeout=PAUSE_LIMIT_S)
    raw.execute("SET default_transaction_isolation = 'repeatable read'")
    raw.execute("SET default_transaction_read_only = on")
    raw.commit()
    # The driver would begin transactions with a round trip of their own.
    raw.autocommit = True


def ready_to_write(raw: Any) -> None:
    """Set a connection to durable commits, with a time limit for locks."""
    _set(raw, lock_timeout=BUSY_TIMEOUT_S, idle_in_transaction_session_timeout=PAUSE_LIMIT_S)
    # Whatever the server's default is: a commit must be on disk when it returns.
    raw.execute(
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') = 'off'"
    )
    raw.commit()
    # As above.
    raw.autocommit = True


def ready_to_listen(raw: Any) -> None:
    """Set a connection to autocommit, so that notifications arrive at once."""
    raw.autocommit = True


def _set(raw: Any, **limits_s: float) -> None:
    for name, limit_s in limits_s.items():
        raw.execute(f"SET {name} = {round(limit_s * 1000)}")
    # JIT compilation of a search takes longer than running it.
    raw.execute("SET jit = off")
    raw.commit()
