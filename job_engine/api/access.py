"""Authorisation: what a caller may do with a document, and which parts of it they see.

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
    """Return a caller's rights on a stored document, including what an executor needs to run."""
    given = rights(call.who, document)
    if given & VIEW or not is_in_executor_scope(call, str(document["id"])):
        return given
    return given | Right.VIEW_DATA | Right.VIEW_META


def is_in_executor_scope(call: Call, resource_id: str) -> bool:
    """Return whether the caller is an executor that needs a resource for a job it runs."""
    scope = _executor_scope(call.who, resource_id.partition("/")[0])
    return scope is not None and call.services.store.database.read(
        lambda c: scope.includes(c, call.who.creator, resource_id)
    )


def seen_by(who: Identity, source: Source) -> Source:
    """Return a collection as a caller may search it."""
    scope = _executor_scope(who, source.type_name)
    if scope is None or source.type_name == "job":  # executors read jobs by id, not by search
        return source
    needed = scope.needed(who.creator)
    return replace(source, visible=lambda claims, right: or_(source.visible(claims, right), needed))


def rights_found(who: Identity, document: Document) -> Right:
    """Return a caller's rights on a document that their search returned.

    The search has checked that they may see it, also where its ACL alone would not say so.
    """
    type_name = str(document["id"]).partition("/")[0]
    given = rights(who, document)
    if not given and (type_name == "event" or _executor_scope(who, type_name) is not None):
        return Right.VIEW_DATA | Right.VIEW_META
    return given


def _executor_scope(who: Identity, type_name: str) -> ExecutorScope | None:
    return EXECUTOR_SCOPES.get(type_name) if EXECUTOR in who.claims and not who.is_admin else None


def project(document: Document, held: Right, now_ms: int) -> Document:
    """Return the attributes that a caller with these rights may see: metadata, data, or all.

    Of a job's verdict, callers who are not staff see what students see at `now_ms` (epoch
    milliseconds).
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
    """Return the attributes of an edit that these rights allow (docs/cimi.md §3.5)."""
    if Right.EDIT_ACL in held:
        return body
    if Right.EDIT_DATA in held:
        return {k: v for k, v in body.items() if k != "acl"}
    return {k: v for k, v in body.items() if k in METADATA}
