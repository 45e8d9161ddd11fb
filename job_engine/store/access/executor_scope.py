"""What an executor needs for the jobs that it runs, as conditions on rows.

Its key sees nothing else. A job's payload is text to us: whatever text of it is a digest,
or the name of an assignment, is taken for a reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, exists, func, literal, or_, select

from job_engine.store.tables import blobs, inline, jobs, resources

_assignment_digest: Final = resources.c.document["digest"].as_string()
_assignment_name: Final = resources.c.document["name"].as_string()


@dataclass(frozen=True)
class ExecutorScope:
    """What executors see of a type, beside what its ACLs let them see."""

    needed: Callable[[str], ColumnElement[bool]]
    """Says that somebody needs a row."""
    named: Callable[[str], ColumnElement[bool]]
    """Says that a row is that of an id."""

    def includes(self, connection: Connection, executor: str, resource_id: str) -> bool:
        """Whether somebody needs a resource."""
        query = select(1).where(self.named(resource_id), self.needed(executor)).limit(1)
        return connection.execute(query).first() is not None


def runs(executor: str) -> ColumnElement[bool]:
    """Say that a job runs under a claim of somebody's."""
    return and_(jobs.c.state == inline("RUNNING"), jobs.c.claimed_by == executor)


def needs_assignment(executor: str) -> ColumnElement[bool]:
    """Say that a row of `resources`, an assignment, is named by a job that somebody runs."""
    # JSON may spell a name in escapes; then which name it is cannot be told here.
    named = or_(_mentions(_assignment_name), jobs.c.payload.contains("\\u", autoescape=True))
    return exists().where(runs(executor), or_(_mentions(_assignment_digest), named))


def needs_blob(executor: str) -> ColumnElement[bool]:
    """Say that a blob is named by a job that somebody runs, or by such a job's assignment."""
    bundle = exists().where(
        resources.c.type == inline("assignment"),
        _assignment_digest == literal("sha256:") + blobs.c.digest,
        needs_assignment(executor).correlate(resources),
    )
    return or_(exists().where(runs(executor), _mentions(blobs.c.digest)), bundle)


def _mentions(text: ColumnElement[Any]) -> ColumnElement[bool]:
    # The one way to look for a column's text within a text that every database has.
    return func.replace(jobs.c.payload, text, "") != jobs.c.payload


EXECUTOR_SCOPES: Final[Mapping[str, ExecutorScope]] = {
    "job": ExecutorScope(runs, lambda id_: jobs.c.id == id_),
    "assignment": ExecutorScope(needs_assignment, lambda id_: resources.c.id == id_),
    "blob": ExecutorScope(needs_blob, lambda id_: blobs.c.digest == id_.partition("/")[2]),
}
