"""Documents that are part of a release, searched by the same SQL as stored ones.

They are in an in-memory SQLite database with the tables of documents and rights, so filters,
orders and aggregations mean the same as for stored documents.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.pool import StaticPool

from job_engine.store.base import Document, T, read_json, write_json
from job_engine.store.resources import Resource, insert_resources
from job_engine.store.tables import access, resources


class FixedDocuments:
    """Documents with ids and normalised ACLs; they count as created at epoch 0."""

    def __init__(self, documents: Callable[[], Sequence[Document]]) -> None:
        """`documents` is called at the first search."""
        self._documents = documents
        self._lock = threading.Lock()

    def read(self, unit: Callable[[Connection], T]) -> T:
        """Like `Database.read`; one call at a time."""
        with self._lock, self._engine.connect() as connection:
            return unit(connection)

    @cached_property
    def _engine(self) -> Engine:
        engine = sa.create_engine(
            "sqlite://",
            poolclass=StaticPool,
            connect_args={"check_same_thread": False},
            json_serializer=write_json,
            json_deserializer=read_json,
        )
        with engine.begin() as connection:
            for table in (resources, access):
                table.create(connection)
            insert_resources(connection, [Resource(made) for made in self._documents()], 0)
        return engine
