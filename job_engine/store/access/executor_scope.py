"""What an executor may read: the jobs that it runs, and what those refer to, as SQL conditions.

Its key sees nothing else. The store does not parse payloads: any digest or assignment name
that occurs in a payload counts as a reference.
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
    """What executors may read of one resource type, beside what ACLs allow."""

    needed: Callable[[str], ColumnElement[bool]]
    """Returns the condition that an executor needs a row."""
    named: Callable[[str], ColumnElement[bool]]
    """Returns the condition that a row has an id."""

    def includes(self, connection: Connection, executor: str, resource_id: str) -> bool:
        """Return whether an executor needs a resource."""
        query = select(1).where(self.named(resource_id), self.needed(executor)).limit(1)
        return connection.execute(query).first() is not None


def runs(executor: str) -> ColumnElement[bool]:
    """Return the condition that a job runs under a claim of an executor."""
    return and_(jobs.c.state == inline("RUNNING"), jobs.c.claimed_by == executor)


def needs_assignment(executor: str) -> ColumnElement[bool]:
    """Return the condition that an assignment is named by a job that an executor runs."""
    # JSON may write a name with escapes, which SQL cannot decode: then any name matches.
    named = or_(_mentions(_assignment_name), jobs.c.payload.contains("\\u", autoescape=True))
    return exists().where(runs(executor), or_(_mentions(_assignment_digest), named))


def needs_blob(executor: str) -> ColumnElement[bool]:
    """Return the condition that a blob is named by such a job, or by its assignment."""
    bundle = exists().where(
        resources.c.type == inline("assignment"),
        _assignment_digest == literal("sha256:") + blobs.c.digest,
        needs_assignment(executor).correlate(resources),
    )
    return or_(exists().where(runs(executor), _mentions(blobs.c.digest)), bundle)


def _mentions(text: ColumnElement[Any]) -> ColumnElement[bool]:
    # Every database has `replace`, unlike a search for another column's text.
    return func.replace(jobs.c.payload, text, "") != jobs.c.payload


EXECUTOR_SCOPES: Final[Mapping[str, ExecutorScope]] = {
    "job": ExecutorScope(runs, lambda id_: jobs.c.id == id_),
    "assignment": ExecutorScope(needs_assignment, lambda id_: resources.c.id == id_),
    "blob": ExecutorScope(needs_blob, lambda id_: blobs.c.digest == id_.partition("/")[2]),
}
