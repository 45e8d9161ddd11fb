"""Entity tags: which version of a resource a client has read (RFC 9110 §8.8.3, §13.1).

A client that sends the `ETag` of its last read as `If-Match` cannot overwrite a change made
since. Sent as `If-None-Match`, the tag saves it the body of an unchanged resource. Requests
without these headers are not affected.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Final

from job_engine.api.access import project
from job_engine.api.call import Call, Reply
from job_engine.api.errors import PreconditionFailedError
from job_engine.api.identity import STUDENT, SUBMITTER
from job_engine.model.acl import Right
from job_engine.store.base import Document

_TAGS: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_DIGEST_BYTES: Final = 16
REVALIDATE: Final = {"Cache-Control": "private, no-cache"}
"""For private resources that may change: a cache has to revalidate them before each use."""


def etag_of(call: Call, seen: Document, held: Right) -> str:
    """Return the tag of a document as the caller sees it (`seen`, from `project`).

    It depends on everything that the caller may see and do, and on nothing else, because it
    must not reveal a change of hidden attributes. `select` does not change it, nor does a
    job's place in the queue, which no edit can overwrite.
    """
    # These decide which `operations` the document has.
    who = call.who
    acts_as_device = who.active_claim.startswith("nuvlabox/")
    own = STUDENT in who.claims and seen.get("created-by") == who.creator
    content = [seen, int(held), who.is_admin, SUBMITTER in who, acts_as_device, own]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f'"{blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()}"'


def unless_known(call: Call, body: Document, tag: str) -> Reply:
    """Return the reply to a read: the body, or 304 if `If-None-Match` has the tag."""
    headers = {"ETag": tag, **REVALIDATE}
    known = call.method in ("GET", "HEAD") and knows(call, tag)
    return Reply(None, 304, headers) if known else Reply(body, headers=headers)


def knows(call: Call, tag: str) -> bool:
    """Return whether `If-None-Match` matches a tag, by weak comparison (RFC 9110 §13.1.2)."""
    known = call.headers.get("if-none-match")
    if known is None:
        return False
    return known.strip() == "*" or any(tag == listed for _, listed in _TAGS.findall(known))


def require_match(call: Call, document: Document, held: Right) -> None:
    """Raise `PreconditionFailedError` unless the preconditions of a write hold (RFC 9110 §13.1).

    `If-Match` has to match the stored version (by strong comparison), and `If-None-Match` must
    not match it (by weak comparison). Call it in the transaction of the change.
    """
    wanted = call.headers.get("if-match")
    if (wanted is None or wanted.strip() == "*") and "if-none-match" not in call.headers:
        return
    tag = etag_of(call, project(document, held, call.services.store.clock()), held)
    matches = wanted is None or wanted.strip() == "*" or tag in _strong(wanted)
    if not matches or knows(call, tag):
        raise PreconditionFailedError(resource_id=document["id"])


def _strong(listed: str) -> set[str]:
    return {tag for weak, tag in _TAGS.findall(listed) if not weak}
