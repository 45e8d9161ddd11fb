"""Searching documents: filter, order, page, count and aggregations, for every table alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Table,
    func,
    select,
    true,
)

from job_engine.model.acl import Right
from job_engine.store.access import allowed
from job_engine.store.base import Document
from job_engine.store.blobs import assemble_blob
from job_engine.store.documents import FIELDS, Field, Kind, assemble
from job_engine.store.filter import Filter
from job_engine.store.resources import assemble_resource
from job_engine.store.tables import blobs, jobs, resources

R = TypeVar("R")


@dataclass(frozen=True)
class Source(Generic[R]):
    """A collection in the database: its rows, its attributes, and who may see them."""

    type_name: str
    table: Table
    fields: Mapping[str, Field]
    assemble: Callable[[RowMapping], Document]
    visible: Callable[[Collection[str]], ColumnElement[bool]]
    base: ColumnElement[bool]
    newest_first: tuple[ColumnElement[Any], ...]

    def condition(self, filter_: Filter | None, now_ms: int) -> ColumnElement[bool]:
        """Return the condition of a filter on this collection."""
        return self.base


@dataclass(frozen=True)
class Query:
    """What is asked for. `claims` are those of the caller; None sees everything."""

    filter: Filter | None = None
    offset: int = 0
    limit: int = 10_000
    orderby: Sequence[tuple[str, bool]] = ()
    aggregations: Sequence[str] = ()
    claims: Collection[str] | None = None


@dataclass(frozen=True)
class Page:
    """What was found; `count` is before paging."""

    count: int
    documents: Sequence[Document]
    aggregations: dict[str, Any] | None = None


def run(connection: Connection, source: Source[Any], query: Query, now_ms: int) -> Page:
    """Answer a query."""
    condition = source.condition(query.filter, now_ms)
    if query.claims is not None:
        condition = condition & source.visible(query.claims)
    count = connection.execute(
        select(func.count()).select_from(source.table).where(condition)
    ).scalar_one()
    documents: list[Document] = []
    if query.limit and query.offset < count:
        statement = select(source.table).where(condition).offset(query.offset).limit(query.limit)
        rows = connection.execute(statement.order_by(*source.newest_first)).mappings()
        documents = [source.assemble(row) for row in rows]
    return Page(count, documents)


JOBS: Final[Source[Any]] = Source(
    "job",
    jobs,
    {field.name: field for field in FIELDS},
    assemble,
    lambda claims: allowed(jobs.c.id, claims, Right.VIEW_META),
    true(),
    (jobs.c.seq.desc(),),
)

_RESOURCE_FIELDS: Final = {
    field.name: field
    for field in (
        Field("id", "id"),
        Field("created", "created_ms", Kind.DATE),
        Field("updated", "updated_ms", Kind.DATE),
    )
}


def resources_of(type_name: str) -> Source[Any]:
    """Return the documents of one type in the generic table."""
    return Source(
        type_name,
        resources,
        _RESOURCE_FIELDS,
        assemble_resource,
        lambda claims: allowed(resources.c.id, claims, Right.VIEW_META),
        resources.c.type == type_name,
        (resources.c.created_ms.desc(), resources.c.id),
    )


BLOBS: Final[Source[Any]] = Source(
    "blob",
    blobs,
    {
        field.name: field
        for field in (
            Field("created", "created_ms", Kind.DATE),
            Field("updated", "created_ms", Kind.DATE),
            Field("created-by", "owner"),
            Field("size", "size", Kind.INTEGER),
            Field("media-type", "media_type"),
            Field("name", "name"),
        )
    },
    assemble_blob,
    lambda claims: blobs.c.owner.in_(sorted(claims)),
    true(),
    (blobs.c.created_ms.desc(), blobs.c.digest),
)
