"""Which operations a document offers to a caller (docs/cimi.md §1.13, §3.6)."""

from __future__ import annotations

from job_engine.api.identity import STUDENT, SUBMITTER, Identity
from job_engine.model import JobState
from job_engine.model.acl import EDIT, Right
from job_engine.store.base import Document

Operations = list[dict[str, str]]


def job_operations(document: Document, held: Right, who: Identity) -> Operations:
    """Return a job's operations, in the contract's order."""
    state = JobState(document["state"])
    manages = Right.MANAGE in held
    offered = [
        ("edit", bool(held & EDIT)),
        ("delete", Right.DELETE in held),
        ("cancel", (manages and not state.is_final) or takes_back(document, held, who)),
        ("timeout", manages and who.is_admin and state is JobState.RUNNING),
        (
            "get-context",
            who.is_admin or (manages and who.active_claim.startswith("nuvlabox/")),
        ),
        # The new job reveals everything that the old one was created with, including its ACL.
        (
            "resubmit",
            state.is_final and manages and Right.VIEW_ACL in held and SUBMITTER in who,
        ),
    ]
    return links(document["id"], [name for name, allowed in offered if allowed])


def takes_back(document: Document, held: Right, who: Identity) -> bool:
    """Return whether a student may cancel a job: their own, until it has started.

    As it runs they see what becomes of it, and could undo what they do not like.
    """
    return (
        STUDENT in who.claims
        and document.get("created-by") == who.creator
        and document["state"] == JobState.QUEUED
        and "started" not in document
        and Right.VIEW_DATA in held
    )


def common_operations(document: Document, held: Right, who: Identity) -> Operations:
    """Return the operations of a document that can be edited and deleted."""
    names = [
        name
        for name, allowed in (("edit", held & EDIT), ("delete", held & Right.DELETE))
        if allowed
    ]
    return links(document["id"], names)


def links(resource_id: str, names: list[str]) -> Operations:
    """Return operations as links; edit and delete are at the resource itself."""
    return [
        {
            "rel": name,
            "href": resource_id if name in ("edit", "delete") else f"{resource_id}/{name}",
        }
        for name in names
    ]
