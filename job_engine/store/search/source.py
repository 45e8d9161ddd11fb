"""Sources: the collections that can be searched, their attributes, and who sees which rows."""

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
from job_engine.model.verdict import RECEIPT_KEY, VERDICT_ACTION
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
    """Attributes that in some rows only those with a certain right may search by."""

    names: frozenset[str]
    rows: ColumnElement[bool]
    right: Right
    """Rights of which one allows searching by them in any row."""


@dataclass(frozen=True)
class Source:
    """A collection in the database, as the search sees it."""

    type_name: str
    table: Table
    fields: Mapping[str, Field]
    """Attributes that are stored in columns, by name; all others are in the JSON."""
    assemble: Callable[[RowMapping], Document]
    visible: Callable[[Collection[str], Right], ColumnElement[bool]]
    """Returns the condition that claims have a right on a row."""
    base: ColumnElement[bool]
    """The condition for a row of the table to belong to the collection."""
    age: tuple[ColumnElement[Any], ...]
    """Columns that sort rows by creation; unique together."""
    document: Column[Any] | None = None
    arrays: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    """Attributes of the JSON that are read in another form than stored, as JSON arrays."""
    computed: Mapping[str, ColumnElement[Any]] = field(default_factory=dict)
    """Attributes that are texts computed from columns."""
    date_texts: frozenset[str] = frozenset()
    """Attributes of the JSON that are timestamps in the server's format."""
    counted: bool = False
    """Whether the number of documents is kept, so that `job_counts.py` can count them."""
    spread: Mapping[str, tuple[str, ColumnElement[bool]]] = field(default_factory=dict)
    """Attributes whose index has another column between them and the sort columns, with a
    condition that lists all values of that column, so that the index can sort."""
    again: Mapping[str, ColumnElement[str]] = field(default_factory=dict)
    """Attributes that are also compared as an expression that only indexes for searches have."""
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

# Parts of a verdict are hidden when it is read (`grading/results/student_view.py`). SQL cannot
# hide them, so a search by these attributes would reveal them.
_VERDICTS: Final = Reserved(
    frozenset({"output", "status-message"}),
    (jobs.c.action == VERDICT_ACTION)
    | func.coalesce(contains(jobs.c.output, RECEIPT_KEY), false()),
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
    # Only owners see their rows.
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
    # Events of resources that the caller sees, and the caller's own.
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
