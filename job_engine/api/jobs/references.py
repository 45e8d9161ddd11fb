"""Checks what new jobs refer to: their creator must have a right to the uploads and parent.

Executors read the uploads that their jobs name, so without this check a caller who knows a
digest could have another user's submission graded as their own. By convention a payload
names an upload in an attribute `blob`, at any depth, as `sha256:<hex>` or `blob/<hex>`.

Jobs share the turns of their `parent` (fair share). A parent that is a stored resource has to
be visible to the creator, who could use up its turns otherwise. Any other name, such as a
course of a platform, is accepted: the operator decides who may create jobs. A `parent-job` has
to be visible too, because users who follow a bulk job count its children.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from job_engine.api.access import rights
from job_engine.api.call import Call
from job_engine.api.schema import invalid
from job_engine.errors import NotFoundError
from job_engine.model.acl import STAFF, VIEW, Right
from job_engine.store.base import Document

ATTRIBUTE: Final = "blob"
_DIGEST: Final = re.compile(r"(?:sha256:|blob/)([0-9a-f]{64})")


def check_blobs(call: Call, payload: str | None) -> None:
    """Raise `InvalidResourceError` for an upload that is not the caller's.

    The answer is the same for another user's upload and for a missing one, so that it does not
    reveal whether such bytes exist.
    """
    owners = None if call.who.is_admin else call.who.claims
    # Each once: a payload of a megabyte has room for ten thousand mentions.
    for digest, name in {digest: name for name, digest in _named(payload)}.items():
        try:
            call.services.store.blobs.get(digest, owners)
        except NotFoundError:
            raise invalid(
                [f"payload: there is no upload {name} of yours; send it to /api/blob first"]
            ) from None


def handed_in(call: Call, document: Document, held: Right) -> Document:
    """Return the upload that was submitted with a job.

    `held` are the caller's rights on the job. Its staff may read an upload of whoever created
    or manages the job, other callers only their own, and admins any. Raises `NotFoundError`,
    which does not reveal whether another user has such bytes.
    """
    owners = None if call.who.is_admin else set(call.who.claims)
    if owners is not None and held & STAFF:
        # A platform may have uploaded while it acted as a group, which then manages the job.
        owners.add(document["created-by"])
        if not held & Right.EDIT_ACL:  # else they could have named any manager
            owners |= set(document["acl"].get("manage", ()))
    digest = _submitted(document.get("payload"))
    try:
        if digest is None:
            raise NotFoundError
        # By owner, because an edit of the payload may name the upload of another user.
        return call.services.store.blobs.get(digest, owners)
    except NotFoundError:
        raise NotFoundError(f"{document['id']} has no upload that you may read") from None


def _submitted(payload: str | None) -> str | None:
    """Return the digest of the submitted archive; None where there is none, or no single one."""
    named = {digest for _, digest in _named(payload)}
    if payload is None or not named:
        return None
    try:
        # Of a `grade` job, whose metadata may name further uploads.
        archive = _DIGEST.fullmatch(json.loads(payload)["submission"]["archive"][ATTRIBUTE])
    except (KeyError, TypeError):
        archive = None
    if archive is not None:
        return archive[1]
    return named.pop() if len(named) == 1 else None


class Parents:
    """Checks the parents of the jobs that one request creates, each once."""

    def __init__(self, call: Call, granted: Collection[str] = ()) -> None:
        self._call = call
        self._good = set(granted)
        """Those that need no further look; `granted` are so from the start."""

    def check(self, job: Document) -> None:
        """Raise `InvalidResourceError` for a parent of either kind that the caller cannot see."""
        for attribute in ("parent", "parent-job"):
            self._check(attribute, job.get(attribute))

    def _check(self, attribute: str, parent: str | None) -> None:
        if parent is None or parent in self._good or self._call.who.is_admin:
            return
        store = self._call.services.store
        try:
            get = store.jobs.get if parent.startswith("job/") else store.resources.get
            seen = bool(rights(self._call.who, get(parent)) & VIEW)
        except NotFoundError:
            seen = True
        if not seen:
            raise invalid([f"{attribute}: there is no {parent} that you may see"])
        self._good.add(parent)


def _named(payload: str | None) -> Iterator[tuple[str, str]]:
    # JSON may write the attribute's letters as escapes; most payloads have neither.
    if payload is None or (ATTRIBUTE not in payload and "\\u" not in payload):
        return
    try:
        waiting: list[Any] = [json.loads(payload)]
    except (ValueError, RecursionError):
        return  # not JSON; the action's schema decides whether that is allowed
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            named = value.get(ATTRIBUTE)
            if isinstance(named, str) and (match := _DIGEST.fullmatch(named)):
                yield named, match[1]
