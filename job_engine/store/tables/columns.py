"""What all tables are made of: types of columns, constants, and partial indexes."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    Text,
    literal_column,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata: Final = MetaData()

BIG = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER is a rowid there
# Of 64 bits everywhere; SQLite's always are.
INT = Integer().with_variant(BigInteger(), "postgresql")
# Compared and ordered by code point, whatever language a server speaks.
TEXT = Text().with_variant(Text(collation="C"), "postgresql")
DOCUMENT = JSON().with_variant(JSONB(), "postgresql")


def inline(value: str) -> Any:
    """Write `value`, one of our own constants, into the statement itself.

    SQLite only uses a partial index where the statement repeats its condition, and it
    cannot look into bound values.
    """
    return literal_column(f"'{value}'", Text)


def partial_index(
    name: str, *columns: Any, where: ColumnElement[bool], unique: bool = False
) -> None:
    """Add an index of the rows that `where` holds for, on either database."""
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)
