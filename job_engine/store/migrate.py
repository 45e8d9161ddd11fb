"""Migrating a database to the newest schema, from empty or from any earlier release."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine

from job_engine.errors import StoreError

_SCRIPTS = Path(__file__).parent / "migrations"

# Alembic passes its context to `env.py` through module globals, so one migration at a time.
_ONE_AT_A_TIME = threading.Lock()


def upgrade(
    engine: Engine,
    lock: Callable[[Connection], None] | None = None,
    *,
    revision: str = "head",
) -> None:
    """Run all missing migrations up to `revision`, in one transaction.

    The transaction takes the write lock first, so that of two processes that start at the
    same time only one migrates. `lock` takes it on databases where BEGIN does not. Raises
    `StoreError` for a schema that this release does not know.
    """
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    with _ONE_AT_A_TIME, engine.begin() as connection:
        if lock is not None:
            lock(connection)
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, revision)
        except CommandError as error:
            raise StoreError(
                f"its schema is not one of this release's ({error}). A newer release has upgraded "
                "it: run that one, or restore the backup that was made before."
            ) from error
