"""Statements of the hot path: compiled once by SQLAlchemy, and run by the driver directly.

SQLAlchemy's conversion of values and results would cost more than the database's own work. So
values have to be text, numbers, booleans or None, and results have the driver's types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Select, TextClause
from sqlalchemy.sql.dml import UpdateBase

from job_engine.store.base import read_json

if TYPE_CHECKING:
    from job_engine.store.pipeline import Pipeline

Row = dict[str, Any]
PIPELINE: Final = "pipeline"
"""Key in a connection's `info` of its `Pipeline`, on PostgreSQL."""

_LISTS: Final = tuple(2**n for n in range(16))
"""Lengths to which a list of values is padded, so that there are few different statements."""
_FEW: Final = 64
"""Most rows of a deferred write that are queued; with more rows it runs at once."""
_PLACE: Final = re.compile(r"%\((\w+)\)s|%%")


@dataclass(frozen=True)
class _Compiled:
    """A statement compiled for one dialect."""

    sql: str
    order: tuple[str, ...] | None
    """Names of the parameters in order, for positional ones; None: they are named."""
    constants: Row
    """Parameters with a fixed value."""
    values: Callable[[Mapping[str, Any]], Any]
    """Converts a row, with the constants, into the driver's parameters."""
    copy: str | None = None
    """The equivalent `COPY` for many rows, for an insert on PostgreSQL."""

    def given(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return the driver's parameters for each row."""
        if self.constants:
            return [self.values({**self.constants, **row}) for row in rows]
        return [*map(self.values, rows)]


def _as_it_is(error: Exception) -> Exception:
    return error


class _Statement:
    def __init__(
        self, statement: UpdateBase | Select[Any] | TextClause, names: Sequence[str] | None
    ) -> None:
        self._statement = statement
        self._names = names
        self._by_dialect: dict[str, _Compiled] = {}

    def _compiled(self, connection: Connection) -> _Compiled:
        found = self._by_dialect.get(connection.dialect.name)
        if found is None:
            found = self._by_dialect[connection.dialect.name] = self._compile(connection)
        return found

    def _compile(self, connection: Connection) -> _Compiled:
        compiled: Any = self._statement.compile(dialect=connection.dialect, column_keys=self._names)
        constants = {
            name: _constant(bind, connection)
            for name, bind in compiled.binds.items()
            if not bind.required
        }
        order = tuple(compiled.positiontup) if compiled.positional else None
        copy = None if constants else self._copy(connection)
        return _Compiled(str(compiled), order, constants, _picker(order), copy)

    def _copy(self, connection: Connection) -> str | None:
        """Return the `COPY` that inserts rows with the columns `names`; None: not possible."""
        if connection.dialect.name != "postgresql" or self._names is None:
            return None
        if not isinstance(self._statement, sa.Insert):
            return None
        quote = connection.dialect.identifier_preparer.quote
        columns = ", ".join(map(quote, self._names))
        return f"COPY {quote(self._statement.table.name)} ({columns}) FROM STDIN"


class PreparedWrite(_Statement):
    """An update, insert or delete of many rows at once."""

    def __init__(
        self, statement: UpdateBase | TextClause, names: Sequence[str] | None = None
    ) -> None:
        """`names` are the columns to set, for a statement that does not name them."""
        super().__init__(statement, names)

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run it for each row, and return the number of affected rows."""
        if not rows:
            return 0
        compiled = self._compiled(connection)
        pipeline = _pipeline_of(connection)
        cursor: Any = connection.connection.cursor()
        try:
            if len(rows) == 1:  # `executemany` has more overhead
                (given,) = compiled.given(rows)
                if pipeline is not None:
                    return pipeline.execute(*_wired(compiled.sql, given)).command_tuples or 0
                cursor.execute(compiled.sql, given)
                return int(cursor.rowcount)
            if pipeline is not None:
                pipeline.flush()
            if compiled.copy is not None:
                _copy(cursor, compiled.copy, self._names or (), rows)
            else:
                cursor.executemany(compiled.sql, compiled.given(rows))
            return int(cursor.rowcount)
        except Exception as error:
            raise _as_sqlalchemy(error, connection) from error
        finally:
            cursor.close()

    def later(
        self,
        connection: Connection,
        rows: Sequence[Mapping[str, Any]],
        explain: Callable[[Exception], Exception] = _as_it_is,
    ) -> None:
        """Run it for each row, but not necessarily before this returns; it costs no round trip.

        It runs before the unit's next statement that has a result, at the latest with the
        commit. The number of affected rows is unknown. If it fails after the unit has
        returned, the unit fails nevertheless. `explain` converts SQLAlchemy's error into the
        one that is raised.
        """
        pipeline = _pipeline_of(connection)
        if pipeline is None or len(rows) > _FEW:
            try:
                self.run(connection, rows)
            except sa.exc.DBAPIError as error:
                raise explain(error) from error
            return
        compiled = self._compiled(connection)
        try:
            for given in compiled.given(rows):
                pipeline.add_for_unit(
                    *_wired(compiled.sql, given),
                    lambda error: explain(_as_sqlalchemy(error, connection)),
                )
        except Exception as error:
            raise _as_sqlalchemy(error, connection) from error


class PreparedRead(_Statement):
    """A select with named parameters; the one named `many` is a list, for an `IN`."""

    def __init__(self, statement: Select[Any], many: str | None = None) -> None:
        super().__init__(statement, None)
        self._many = many
        self._columns = [str(column.key) for column in statement.selected_columns]
        self._json = [str(c.key) for c in statement.selected_columns if isinstance(c.type, sa.JSON)]

    def all(self, connection: Connection, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows, as tuples."""
        compiled = self._compiled(connection)
        sql, given = self._filled(compiled, {**compiled.constants, **values})
        pipeline = _pipeline_of(connection)
        cursor: Any = connection.connection.cursor()
        try:
            if pipeline is not None:
                return pipeline.rows(pipeline.execute(*_wired(sql, given)))
            cursor.execute(sql, given)
            found: list[tuple[Any, ...]] = cursor.fetchall()
        except Exception as error:
            raise _as_sqlalchemy(error, connection) from error
        finally:
            cursor.close()
        return found

    def by_id(self, connection: Connection, **values: Any) -> dict[str, Row]:
        """Return the rows as dictionaries, by their column `id`.

        JSON columns are parsed; rows with the same text share the parsed value.
        """
        names, place = self._columns, self._columns.index("id")
        found = {
            row[place]: dict(zip(names, row, strict=True)) for row in self.all(connection, **values)
        }
        for name in self._json:
            parsed: dict[str, Any] = {}  # rows of one result often have the same text
            for row in found.values():
                text = row[name]
                if isinstance(text, str):  # SQLite; PostgreSQL's driver has parsed it
                    if text not in parsed:
                        parsed[text] = read_json(text)
                    row[name] = parsed[text]
        return found

    def scalar(self, connection: Connection, **values: Any) -> Any:
        """Return the first value of the first row; None: there is no row."""
        found = self.all(connection, **values)
        return found[0][0] if found else None

    def _filled(self, compiled: _Compiled, values: Row) -> tuple[str, Any]:
        """Return the statement with a parameter for each value of the list, and all values."""
        many = self._many
        if many is None:
            return compiled.sql, compiled.values(values)
        given = list(values.pop(many))
        length = next(n for n in _LISTS if n >= len(given))
        # Padded with its last value, which changes no result, to keep the statements few.
        given += given[-1:] * (length - len(given)) if given else [None] * length
        marker = f"__[POSTCOMPILE_{many}]"
        if compiled.order is None:
            names = [f"{many}_{n}" for n in range(length)]
            places = ", ".join(f"%({name})s" for name in names)
            return compiled.sql.replace(marker, places), values | dict(
                zip(names, given, strict=True)
            )
        ordered: list[Any] = []
        for name in compiled.order:
            ordered += given if name == many else [values[name]]
        return compiled.sql.replace(marker, ", ".join("?" * length)), ordered


def _copy(
    cursor: Any, statement: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert rows by `COPY`, which costs the server a third of as many single inserts."""
    with cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row([row[name] for name in names])


def _pipeline_of(connection: Connection) -> Pipeline | None:
    found: Pipeline | None = connection.info.get(PIPELINE)
    return found


def _wired(sql: str, given: Mapping[str, Any]) -> tuple[bytes, list[Any]]:
    """Return a statement with numbered parameters (`$1`), as libpq takes it, and its values."""
    numbered, names = _numbered(sql)
    return numbered, [given[name] for name in names]


@lru_cache(maxsize=1024)
def _numbered(sql: str) -> tuple[bytes, tuple[str, ...]]:
    numbers: dict[str, int] = {}

    def place(found: re.Match[str]) -> str:
        name = found[1]
        return "%" if name is None else f"${numbers.setdefault(name, len(numbers) + 1)}"

    numbered = _PLACE.sub(place, sql)
    return numbered.encode(), tuple(numbers)


def _constant(bind: Any, connection: Connection) -> Any:
    """Return a fixed value of a statement, converted for the driver."""
    processed = bind.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
    value = processed(bind.value) if processed else bind.value
    return (
        str(value) if isinstance(value, str) else value
    )  # drivers do not take an enum's member as text


def _picker(order: tuple[str, ...] | None) -> Callable[[Mapping[str, Any]], Any]:
    """Return the function from a row to the driver's parameters: a dictionary, or a tuple."""
    if order is None:
        return dict
    if len(order) < 2:
        return lambda row: tuple(row[name] for name in order)
    return itemgetter(*order)


def _as_sqlalchemy(error: Exception, connection: Connection) -> Exception:
    """Return SQLAlchemy's error for one of the driver, without statement and values."""
    driver: Any = connection.dialect.loaded_dbapi
    if not isinstance(error, driver.Error):
        return error
    wrapped: Exception = sa.exc.DBAPIError.instance(
        None, None, error, driver.Error, hide_parameters=True, dialect=connection.dialect
    )
    return wrapped
