"""Copying a whole store to another database, all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Table, func, insert, select, text, tuple_

from job_engine.errors import ConflictError
from job_engine.store.base import Database
from job_engine.store.store import Store
from job_engine.store.tables import metadata

_BATCH: Final = 500


def copy(source: Store, target: Store) -> dict[str, int]:
    """Copy every row to an empty store, in one transaction; both are started.

    Returns how many rows each table has. The source must not change: stop the API
    first. Raises `ConflictError` where the target is not empty, and
    `InvalidResourceError` for what its database cannot hold (a NUL in a text).
    """

    def unit(connection: Connection) -> dict[str, int]:
        # In order of foreign keys.
        return {
            table.name: _copy_table(source.database, connection, table)
            for table in metadata.sorted_tables
        }

    return target.database.write(unit)


def _copy_table(source: Database, target: Connection, table: Table) -> int:
    if target.execute(select(table).limit(1)).first() is not None:
        raise ConflictError(f"The target is not empty: it has {table.name}. Copy to a new one.")
    copied = 0
    for rows in _pages(source, table):
        target.execute(insert(table), [dict(row) for row in rows])
        copied += len(rows)
    if copied and target.dialect.name == "postgresql":
        _go_on_counting(target, table)
    return copied


def _pages(source: Database, table: Table) -> Iterator[Sequence[RowMapping]]:
    """Yield all rows in pages by primary key, so that no read takes long."""
    key = list(table.primary_key)
    query = select(table).order_by(*key).limit(_BATCH)
    page = query
    while rows := source.read(lambda c, page=page: c.execute(page).mappings().all()):  # type: ignore[misc]
        yield rows
        last = [rows[-1][column.name] for column in key]
        page = query.where(tuple_(*key) > tuple_(*last))


def _go_on_counting(target: Connection, table: Table) -> None:
    """Advance the server's sequence beyond the copied numbers."""
    column = table.autoincrement_column
    if column is None:
        return
    values: dict[str, Any] = {"table": table.name, "column": column.name}
    sequence = target.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), values)
    name = sequence.scalar()
    if name is not None:
        newest = target.execute(select(func.max(column))).scalar_one()
        target.execute(text("SELECT setval(:name, :newest)"), {"name": name, "newest": newest})
