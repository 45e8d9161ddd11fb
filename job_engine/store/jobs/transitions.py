"""Columns that follow from a change of a job (docs/cimi.md §3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import RowMapping, case

from job_engine.model import JobState
from job_engine.store.tables import jobs

MAX_MESSAGE: Final = 100_000
"""UTF-16 code units of a `status-message`; a longer one loses its middle."""
_KEPT: Final = 50_000


def truncate(message: str) -> str:
    """Cut the middle out of a message that is too long."""
    if len(message) * 2 <= MAX_MESSAGE:  # a character has two code units at most
        return message
    units = message.encode("utf-16-le", "surrogatepass")
    if len(units) <= MAX_MESSAGE * 2:
        return message
    head, tail = units[: _KEPT * 2], units[-_KEPT * 2 :]
    # Drop surrogates whose pair was cut apart.
    return "\n...\n".join(part.decode("utf-16-le", "ignore") for part in (head, tail))


def touch(now_ms: int, by: str | None) -> dict[str, Any]:
    """Return the columns that say when and by whom a row was changed."""
    return {"updated_ms": now_ms, "updated_by": by}


def settle(row: RowMapping, columns: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """Return `columns` of an edited row, and the columns that follow from them."""
    settled = dict(columns)
    state = JobState(settled["state"])
    if settled["status_message"] is not None:
        settled["status_changed_ms"] = now_ms
        settled["status_message"] = truncate(settled["status_message"])
    if settled["progress"] is None:
        settled["progress"] = row["progress"]
    if state is JobState.RUNNING and settled["started_ms"] is None:
        settled["started_ms"] = now_ms
    if state.is_final:
        settled |= finished({**row, **settled}, state, now_ms)
    return settled


def finished(row: RowMapping | Mapping[str, Any], state: JobState, now_ms: int) -> dict[str, Any]:
    """Return the columns of a row that reaches a final state."""
    columns: dict[str, Any] = {"state": state, "progress": 100}
    if row["started_ms"] is not None:
        columns["duration"] = max(0, (now_ms - row["started_ms"]) // 1000)
    if row["status_message"] is not None:
        columns["status_changed_ms"] = now_ms
    return columns


def finished_blind(state: JobState, now_ms: int) -> dict[str, Any]:
    """Like `finished`, in SQL expressions, where the row is not known."""
    elapsed = (now_ms - jobs.c.started_ms) // 1000
    return {
        "state": state,
        "progress": 100,
        "duration": case(
            (jobs.c.started_ms.is_(None), jobs.c.duration),
            (elapsed < 0, 0),
            else_=elapsed,
        ),
    }


def message_columns(message: str | None, now_ms: int) -> dict[str, Any]:
    """Return the columns of a new status message; none for none."""
    if message is None:
        return {}
    return {"status_message": truncate(message), "status_changed_ms": now_ms}
