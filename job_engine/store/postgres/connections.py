"""Connections to PostgreSQL: how they are made, and how long what they do may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import URL, Engine

from job_engine.store.base import write_json

BUSY_TIMEOUT_S: Final = 30.0
"""Seconds to wait for another process that writes, or for a connection."""
READ_LIMIT_S: Final = 10.0
"""Seconds that one statement of a read may take: a search that takes longer would hold
everybody's up."""
PAUSE_LIMIT_S: Final = 10.0
"""Seconds that a process may be silent within a transaction: then the server ends it, so that
one which was paused, or cut off, holds the others up no longer."""

_CONNECT: Final = {
    "connect_timeout": 30,
    "application_name": "job-engine",
    # Half a minute after a cable was pulled, it is noticed.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}


def make_engine(url: URL, connections: int, ready: Callable[[Any], None]) -> Engine:
    """Return an engine with so many connections; 0: with one for each time it is asked."""
    pool: dict[str, Any] = {"poolclass": sa.NullPool}
    if connections:
        pool = {"pool_size": connections, "max_overflow": 0, "pool_timeout": BUSY_TIMEOUT_S}
    engine = sa.create_engine(
        url,
        connect_args=_CONNECT,
        json_serializer=write_json,
        # Values are people's, and digests of their passwords: no error may repeat them.
        hide_parameters=True,
        **pool,
    )
    sa.event.listen(engine, "connect", lambda raw, _record: ready(raw))
    return engine


def ready_to_read(raw: Any) -> None:
    """Have a connection see snapshots, change nothing, and give up what takes too long."""
    _set(raw, statement_timeout=READ_LIMIT_S, idle_in_transaction_session_timeout=PAUSE_LIMIT_S)
    raw.execute("SET default_transaction_isolation = 'repeatable read'")
    raw.execute("SET default_transaction_read_only = on")
    raw.commit()
    # The driver's own transactions begin with a way to the server of their own, wanted or not.
    raw.autocommit = True


def ready_to_write(raw: Any) -> None:
    """Have a connection wait for its turn only so long, and answer what is on the disk."""
    _set(raw, lock_timeout=BUSY_TIMEOUT_S, idle_in_transaction_session_timeout=PAUSE_LIMIT_S)
    # Whatever is the server's default: what is answered is on its disk.
    raw.execute(
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') = 'off'"
    )
    raw.commit()
    # The driver's own transactions begin with a way to the server of their own.
    raw.autocommit = True


def ready_to_listen(raw: Any) -> None:
    """Have a connection hear of what is announced at once."""
    raw.autocommit = True


def _set(raw: Any, **limits_s: float) -> None:
    for name, limit_s in limits_s.items():
        raw.execute(f"SET {name} = {round(limit_s * 1000)}")
    # Compiling a search of a person's takes longer than running it.
    raw.execute("SET jit = off")
    raw.commit()
