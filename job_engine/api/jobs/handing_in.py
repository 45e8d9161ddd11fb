"""Jobs that students create: a `grade` job of their own work, with its ACL.

Other creators of jobs manage their jobs, and so see hidden tests. A student may only read the
job; the staff of the assignment manages it. Students cannot set anything that would give them
an advantage: priority, share, limits, ACL, the student's name, or an operator's credential for
repositories.
"""

from __future__ import annotations

import json
from typing import Any, Final

from job_engine.api.access import rights
from job_engine.api.call import Call
from job_engine.api.errors import RequestForbiddenError
from job_engine.api.identity import STUDENT, SUBMITTER, Identity
from job_engine.api.schema import invalid
from job_engine.model.acl import ADMIN, STAFF, VIEW, rights_by_principal
from job_engine.model.verdict import VERDICT_ACTION
from job_engine.store.base import Document
from job_engine.store.tables import resources

_JOB: Final = frozenset({"action", "payload", "name", "description"})
_PAYLOAD: Final = frozenset({"assignment", "submission"})
_KEPT: Final = ("view-acl", "manage", "delete", "edit-meta")
"""Rights of the assignment's staff on the job; none of them may edit its outcome."""


def is_student(who: Identity) -> bool:
    """Return whether a caller may create jobs only as a student, by `hand_in`."""
    return STUDENT in who.claims and SUBMITTER not in who


def hand_in(call: Call, body: Document) -> Document:
    """Return the document of the job that a student requests, with its ACL.

    Raises `InvalidResourceError` for an attribute that students cannot set, or an assignment
    that is not shared with them, and `RequestForbiddenError` for another action.
    """
    if body.get("action") != VERDICT_ACTION:
        raise RequestForbiddenError(f"students create jobs of the action {VERDICT_ACTION!r} only")
    payload = _object(body.get("payload"))
    problems = [f"{name}: not for students to say" for name in sorted(body.keys() - _JOB)]
    problems += [
        f"payload/{name}: not for students to say" for name in sorted(payload.keys() - _PAYLOAD)
    ]
    if _names_credential(payload.get("submission")):
        problems.append("payload/submission/git/credential: not for students to name")
    if problems:
        raise invalid(problems)
    digest, staff = _shared(call, payload.get("assignment"))
    # Not the active claim, which may be a group of all students.
    acl = {"owners": [ADMIN], "view-data": [call.who.creator], **dict.fromkeys(_KEPT, staff)}
    # Escaped as ASCII: an escape in the payload may stand for a character that cannot be stored.
    text = json.dumps({**payload, "assignment": digest, "student": call.who.creator})
    return {**body, "payload": text, "acl": acl}


def _object(payload: Any) -> dict[str, Any]:
    try:
        value = json.loads(payload) if isinstance(payload, str) else payload
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise invalid(["payload: must be an object with `assignment` and `submission`"])
    return value


def _names_credential(submission: Any) -> bool:
    git = submission.get("git") if isinstance(submission, dict) else None
    return isinstance(git, dict) and git.get("credential") is not None


def _shared(call: Call, assignment: Any) -> tuple[str, list[str]]:
    """Return the digest of an assignment that the caller may see, and its staff.

    `assignment` is a digest or a name. The job gets the digest, because by the time it runs
    the name may mean a newer version, which is not shared with the student.
    """
    if not isinstance(assignment, str) or not assignment.isprintable():
        raise invalid(["payload/assignment: must be the name or the digest of one"])
    document = resources.c.document
    by_digest = assignment.startswith("sha256:")
    known = document["digest" if by_digest else "name"].as_string() == assignment
    found = [
        resource.document
        for resource in call.services.store.resources.where(
            (resources.c.type == "assignment") & known
        )
    ]
    if not by_digest:
        # A name means the newest version, even if only an older one is shared.
        found = sorted(found, key=lambda version: int(version["version"]))[-1:]
    seen = [version for version in found if rights(call.who, version) & VIEW]
    if not seen:
        raise invalid(
            [
                f"payload/assignment: there is no {assignment} that is shared with you; "
                "its teacher does so by the right view-meta"
            ]
        )
    given = [rights_by_principal(version["acl"]) for version in seen]
    staff = sorted({who for acl in given for who, held in acl.items() if held & STAFF})
    return str(seen[-1]["digest"]), staff
