"""Bringing a database to the newest schema, from empty or from any earlier release."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine

_SCRIPTS = Path(__file__).parent / "migrations"

# Alembic hands its context to `env.py` through module globals.
_ONE_AT_A_TIME = threading.Lock()


def upgrade(engine: Engine) -> None:
    """Run every migration that is missing, all of them in one transaction.

    The transaction takes the write lock before it looks, so of two processes that
    start together one migrates and the other finds it done.
    """
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    with _ONE_AT_A_TIME, engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
