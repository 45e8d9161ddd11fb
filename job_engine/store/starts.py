"""How many jobs were started, by slots of time: what waiting times are estimated from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, insert, update

from job_engine.store.tables import starts

SLOT_MS: Final = 10_000
"""Length of a slot."""


def count(connection: Connection, now_ms: int, started: Mapping[str, int]) -> None:
    """Add jobs of some actions that were started now."""
    slot = now_ms // SLOT_MS
    for action, number in started.items():
        here = (starts.c.action == action) & (starts.c.slot == slot)
        added = update(starts).where(here).values(count=starts.c.count + number)
        if connection.execute(added).rowcount == 0:
            connection.execute(insert(starts).values(action=action, slot=slot, count=number))
