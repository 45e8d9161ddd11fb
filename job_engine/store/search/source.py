"""What can be searched: the rows of a collection, their attributes, who may see them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    RowMapping,
    Table,
    Text,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    true,
)

from job_engine.model import JobState
from job_engine.model.acl import STAFF, Right
from job_engine.model.verdict import MARK, VERDICT_ACTION
from job_engine.store.access.audiences import within
from job_engine.store.access.grants import allowed
from job_engine.store.audit import assemble_line
from job_engine.store.base import Document
from job_engine.store.blobs import assemble_blob
from job_engine.store.jobs.documents import ENTRIES_PATH, FIELDS, Field, Kind, assemble
from job_engine.store.resources import assemble_resource
from job_engine.store.search.json_paths import array_of, contains, lacks, member
from job_engine.store.tables import SEARCHED_ACTION, audit, blobs, job_counts, jobs, resources


@dataclass(frozen=True)
class Reserved:
    """Attributes that, in some rows, are told to few who see everything else of them."""

    names: frozenset[str]
    rows: ColumnElement[bool]
    right: Right
    """Who has one of these may search by them in any row."""


@dataclass(frozen=True)
class Source:
    """A collection in the database."""

    type_name: str
    table: Table
    fields: Mapping[str, Field]
    """Attributes that are columns, by their name; every other one is in the JSON."""
    assemble: Callable[[RowMapping], Document]
    visible: Callable[[Collection[str], Right], ColumnElement[bool]]
    """Who with these claims has this right."""
    base: ColumnElement[bool]
    """What makes a row of the table one of this collection."""
    age: tuple[ColumnElement[Any], ...]
    """What sorts rows by when they were made, no two alike."""
    document: Column[Any] | None = None
    arrays: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    """Attributes of the JSON that are shown otherwise than stored, as JSON arrays."""
    computed: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    """Attributes that are texts made of columns."""
    date_texts: frozenset[str] = frozenset()
    """Attributes of the JSON that are timestamps, as the server writes them."""
    counted: bool = False
    """Whether their number is kept, and `job_counts.py` can read it."""
    spread: Mapping[str, tuple[str, ColumnElement[bool]]] = field(default_factory=dict)
    """Attributes whose index has another one before what is sorted by, and a condition that
    names every value of that: with it, the index sorts too."""
    again: Mapping[str, ColumnElement[str]] = field(default_factory=dict)
    """Attributes that are compared a second time, as what an index of searches alone has."""
    reserved: Reserved | None = None

    def column(self, name: str) -> ColumnElement[Any] | None:
        """Return the column of an attribute; None for one that is in the JSON."""
        if name == "resource-type":
            return literal(self.type_name)
        if name in self.computed:
            return self.computed[name]
        found = self.fields.get(name)
        return None if found is None else self.table.c[found.column]

    def array(self, key: str) -> ColumnElement[Any] | None:
        """Return an attribute of the JSON as an array; None where there is no JSON."""
        if key in self.arrays:
            return self.arrays[key]
        return None if self.document is None else member(self.document, key)

    def kind(self, name: str) -> Kind:
        """Return how an attribute with a column is compared."""
        found = self.fields.get(name)
        return Kind.TEXT if found is None else found.kind


def _by_name(*fields: Field) -> dict[str, Field]:
    return {item.name: item for item in fields}


_shown_tags: Final = case(
    (
        lacks(jobs.c.document, "tags") & jobs.c.entry.is_not(None),
        array_of(literal(ENTRIES_PATH) + jobs.c.entry),
    ),
    else_=member(jobs.c.document, "tags"),
)

# What hides a part of a verdict when it is read (`grading/results/student_view.py`) cannot do so
# in SQL: a search by it, whatever it finds, would tell what is hidden.
_VERDICTS: Final = Reserved(
    frozenset({"output", "status-message"}),
    (jobs.c.action == VERDICT_ACTION) | func.coalesce(contains(jobs.c.output, MARK), false()),
    STAFF,
)

JOBS: Final = Source(
    "job",
    jobs,
    _by_name(*FIELDS, Field("target-resource/href", "target_href")),
    assemble,
    lambda claims, right: within(jobs.c.audience, claims, right),
    true(),
    (jobs.c.created_ms, jobs.c.seq),
    document=jobs.c.document,
    arrays={"tags": _shown_tags},
    counted=True,
    spread={"action": ("state", jobs.c.state.in_(list(JobState)))},
    again={"action": SEARCHED_ACTION},
    reserved=_VERDICTS,
)

JOB_COUNTS: Final = Source(
    "job",
    job_counts,
    _by_name(Field("action", "action"), Field("state", "state")),
    lambda _row: {},
    lambda claims, right: within(job_counts.c.audience, claims, right),
    true(),
    (),
)
"""The kept numbers of jobs, which the same filters apply to as to the jobs."""

BLOBS: Final = Source(
    "blob",
    blobs,
    _by_name(
        Field("created", "created_ms", Kind.DATE),
        Field("updated", "created_ms", Kind.DATE),
        Field("created-by", "owner"),
        Field("size", "size", Kind.INTEGER),
        Field("media-type", "media_type"),
        Field("name", "name"),
    ),
    assemble_blob,
    # Owners see all of their own rows, and nobody else sees any.
    lambda claims, _right: blobs.c.owner.in_(sorted(claims)),
    true(),
    (blobs.c.created_ms, blobs.c.digest),
    computed={
        "id": literal("blob/") + blobs.c.digest,
        "digest": literal("sha256:") + blobs.c.digest,
    },
)

EVENTS: Final = Source(
    "event",
    audit,
    _by_name(
        Field("created", "at_ms", Kind.DATE),
        Field("updated", "at_ms", Kind.DATE),
        Field("timestamp", "at_ms", Kind.DATE),
        Field("name", "name"),
        Field("content/resource/href", "resource"),
        Field("authn-info/user-id", "user_id"),
    ),
    assemble_line,
    # Who sees a resource sees what was done to it, and everybody what they did themselves.
    lambda claims, _right: or_(
        allowed(audit.c.resource, claims, Right.VIEW_DATA),
        exists().where(jobs.c.id == audit.c.resource, JOBS.visible(claims, Right.VIEW_DATA)),
        audit.c.user_id.in_(sorted(claims)),
    ),
    true(),
    (audit.c.id,),
    document=audit.c.document,
    computed={"id": literal("event/") + cast(audit.c.id, Text)},
)

_STORED_FIELDS: Final = _by_name(
    Field("id", "id"),
    Field("created", "created_ms", Kind.DATE),
    Field("updated", "updated_ms", Kind.DATE),
)


def resources_of(type_name: str) -> Source:
    """Return the documents of one type in the generic table."""
    return Source(
        type_name,
        resources,
        _STORED_FIELDS,
        assemble_resource,
        lambda claims, right: allowed(resources.c.id, claims, right),
        resources.c.type == type_name,
        (resources.c.created_ms, resources.c.id),
        document=resources.c.document,
        date_texts=frozenset({"expiry"}),
    )
