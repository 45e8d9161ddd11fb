"""Statements that are run for many rows at once, and often: compiled a single time.

SQLAlchemy prepares the values of each row anew, which costs more than the row's write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.sql.dml import UpdateBase


class Many:
    """An update, insert or delete; its values have to be text, numbers, booleans or None."""

    def __init__(self, statement: UpdateBase, names: Sequence[str] | None = None) -> None:
        """`names` are the columns that an insert sets."""
        self._statement = statement
        self._names = names
        self._prepared: dict[str, tuple[str, list[str] | None, dict[str, Any]]] = {}

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run it for each row, and return how many rows of the table were met."""
        if not rows:
            return 0
        prepared = self._prepared.get(connection.dialect.name)
        if prepared is None:
            prepared = self._prepared[connection.dialect.name] = self._prepare(connection)
        sql, order, constants = prepared
        if order is None:
            values: list[Any] = [{**constants, **row} for row in rows]
        elif constants:
            values = [tuple([{**constants, **row}[name] for name in order]) for row in rows]
        else:
            values = [tuple([row[name] for name in order]) for row in rows]
        return connection.exec_driver_sql(sql, values).rowcount

    def _prepare(self, connection: Connection) -> tuple[str, list[str] | None, dict[str, Any]]:
        """Return the text, the order of the values (None: by name), and those that never change."""
        compiled = self._statement.compile(dialect=connection.dialect, column_keys=self._names)
        constants = {
            name: str(bind.value) if isinstance(bind.value, str) else bind.value
            for name, bind in compiled.binds.items()
            if not bind.required
        }
        order = compiled.positiontup if compiled.positional else None
        return str(compiled), order, constants


def by_id(result: CursorResult[Any]) -> dict[str, dict[str, Any]]:
    """Return rows as dictionaries, by their column `id`."""
    names = list(result.keys())
    place = names.index("id")
    return {row[place]: dict(zip(names, row, strict=True)) for row in result}
