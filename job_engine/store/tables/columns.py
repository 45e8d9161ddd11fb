"""What all tables share: types of columns, inlined constants, and partial indexes."""

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

BIG = BigInteger().with_variant(Integer, "sqlite")  # in SQLite only INTEGER can be the rowid
# 64 bits in both databases; integers of SQLite always have them.
INT = Integer().with_variant(BigInteger(), "postgresql")
# Compared by code points, whatever the server's collation.
TEXT = Text().with_variant(Text(collation="C"), "postgresql")
DOCUMENT = JSON().with_variant(JSONB(), "postgresql")


def inline(value: str) -> Any:
    """Return `value`, a constant of the engine, as a literal of the statement.

    SQLite uses a partial index only if the statement contains its condition, without bound
    values.
    """
    return literal_column(f"'{value}'", Text)


def partial_index(
    name: str, *columns: Any, where: ColumnElement[bool], unique: bool = False
) -> None:
    """Add an index of the rows that satisfy `where`, in both databases."""
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)
