"""What a caller may do with a document, and what of it they see: decided here alone.

The rights come from the document's ACL, and in queries from the same ACL's rows. Executors
see more than that, but only of what they run (`store/access/executor_scope.py`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import or_

from job_engine.api.call import Call
from job_engine.api.identity import EXECUTOR, Identity
from job_engine.grading.results import view_for_students
from job_engine.model.acl import ALL_RIGHTS, METADATA, STAFF, VIEW, Right, rights_of
from job_engine.store.access.executor_scope import EXECUTOR_SCOPES, ExecutorScope
from job_engine.store.base import Document
from job_engine.store.search.source import Source


def rights(who: Identity, document: Document) -> Right:
    """Return what a document's ACL lets a caller do."""
    return ALL_RIGHTS if who.is_admin else rights_of(document.get("acl", {}), who.claims)


def rights_held(call: Call, document: Document) -> Right:
    """Return what a caller may do with a stored document, all considered."""
    given = rights(call.who, document)
    if given & VIEW or not runs_errand(call, str(document["id"])):
        return given
    return given | Right.VIEW_DATA | Right.VIEW_META


def runs_errand(call: Call, resource_id: str) -> bool:
    """Whether an executor needs a resource for what it runs."""
    scope = _executor_scope(call.who, resource_id.partition("/")[0])
    return scope is not None and call.services.store.database.read(
        lambda c: scope.includes(c, call.who.creator, resource_id)
    )


def seen_by(who: Identity, source: Source) -> Source:
    """Return a collection as a caller may search it."""
    scope = _executor_scope(who, source.type_name)
    if scope is None or source.type_name == "job":  # which executors know by its id
        return source
    needed = scope.needed(who.creator)
    return replace(source, visible=lambda claims, right: or_(source.visible(claims, right), needed))


def rights_found(who: Identity, document: Document) -> Right:
    """Return what a caller may do with a document that their search found.

    What the search let through is theirs to see, where no ACL says so too.
    """
    type_name = str(document["id"]).partition("/")[0]
    given = rights(who, document)
    if not given and (type_name == "event" or _executor_scope(who, type_name) is not None):
        return Right.VIEW_DATA | Right.VIEW_META
    return given


def _executor_scope(who: Identity, type_name: str) -> ExecutorScope | None:
    return EXECUTOR_SCOPES.get(type_name) if EXECUTOR in who.claims and not who.is_admin else None


def project(document: Document, held: Right, now_ms: int) -> Document:
    """Return what somebody with these rights sees now; metadata, data and acl are levels.

    Of a verdict, whoever is no staff to its job sees what students do.
    """
    if not held & STAFF and document["resource-type"] == "job":
        document = _for_students(document, now_ms)
    if Right.VIEW_ACL in held:
        return document
    if Right.VIEW_DATA in held:
        return {k: v for k, v in document.items() if k != "acl"}
    return {k: v for k, v in document.items() if k in METADATA}


def _for_students(document: Document, now_ms: int) -> Document:
    output = document.get("output")
    if output is None:
        return document
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    seen = view_for_students(document["action"], output, now)
    if seen is None:
        return document
    shown = {key: value for key, value in document.items() if key != "output"}
    if seen.output is not None:
        shown["output"] = seen.output
    if seen.message is not None:
        shown["status-message"] = seen.message
    return shown


def select(document: Document, selected: frozenset[str] | None) -> Document:
    """Return the selected attributes, and `id` in any case."""
    if selected is None:
        return document
    return {k: v for k, v in document.items() if k in selected or k == "id"}


def keep_editable(body: Document, held: Right) -> Document:
    """Return what of an edit counts; the rest is dropped without a word, as CIMI does."""
    if Right.EDIT_ACL in held:
        return body
    if Right.EDIT_DATA in held:
        return {k: v for k, v in body.items() if k != "acl"}
    return {k: v for k, v in body.items() if k in METADATA}
