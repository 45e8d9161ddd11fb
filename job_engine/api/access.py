"""What a caller may do with a document, and what of it they see.

The rights come from the document's ACL; services have some beyond it, by their role.
"""

from __future__ import annotations

from typing import Final

from job_engine.api.identity import DISTRIBUTOR, EXECUTOR, Identity
from job_engine.model import JobState
from job_engine.model.acl import ALL_RIGHTS, METADATA, VIEW, Right, rights_of
from job_engine.store.base import Document

SERVICE_VIEWS: Final = {
    "job": frozenset({EXECUTOR, DISTRIBUTOR}),
    "assignment": frozenset({EXECUTOR}),
    "blob": frozenset({EXECUTOR}),
}
"""Which services see every document of a type."""


def views_all(who: Identity, type_name: str) -> bool:
    """Whether a caller sees every document of a type, whatever the ACLs say."""
    return who.is_admin or not who.claims.isdisjoint(SERVICE_VIEWS.get(type_name, ()))


def rights(who: Identity, document: Document) -> Right:
    """Return what a caller may do with a document."""
    if who.is_admin:
        return ALL_RIGHTS
    held = rights_of(document.get("acl", {}), who.claims)
    type_name = str(document["id"]).partition("/")[0]
    if views_all(who, type_name):
        held |= VIEW
    if type_name == "job" and EXECUTOR in who.claims and JobState(document["state"]).is_final:
        held |= Right.DELETE  # the clean-up is an action like any other
    return held


def project(document: Document, held: Right) -> Document:
    """Return what somebody with these rights sees; metadata, data and acl are levels."""
    if Right.VIEW_ACL in held:
        return document
    if Right.VIEW_DATA in held:
        return {k: v for k, v in document.items() if k != "acl"}
    return {k: v for k, v in document.items() if k in METADATA}


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
