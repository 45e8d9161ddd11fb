"""Counts of started jobs by time slot, from which waiting times are estimated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, bindparam, insert, update

from job_engine.store.prepared import PreparedWrite
from job_engine.store.tables import starts

SLOT_MS: Final = 10_000
"""Length of a time slot, in milliseconds."""


_ADD: Final = PreparedWrite(
    update(starts)
    .where(
        starts.c.action == bindparam("in_action"),
        starts.c.slot == bindparam("in_slot"),
    )
    .values(count=starts.c.count + bindparam("more"))
)


def count(connection: Connection, now_ms: int, started: Mapping[str, int]) -> None:
    """Count jobs that were started now, by action."""
    slot = now_ms // SLOT_MS
    for action, number in started.items():
        added = {"in_action": action, "in_slot": slot, "more": number}
        if _ADD.run(connection, [added]) == 0:
            connection.execute(insert(starts).values(action=action, slot=slot, count=number))
