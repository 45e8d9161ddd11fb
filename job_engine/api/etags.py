"""Entity tags: which version of a resource a client has read.

A client that sends the `ETag` of what it read back as `If-Match` cannot overwrite what
somebody else wrote in between, and one that sends it as `If-None-Match` is not told again
what it knows (RFC 9110 §8.8.3, §13.1); for any other nothing changes.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Final

from job_engine.api.access import project
from job_engine.api.call import Call, Reply
from job_engine.api.errors import PreconditionFailedError
from job_engine.api.identity import SUBMITTER
from job_engine.model.acl import Right
from job_engine.store.base import Document

_TAGS: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_DIGEST_BYTES: Final = 16
REVALIDATE: Final = {"Cache-Control": "private, no-cache"}
"""For what is somebody's own and may change: caches that keep it ask before they use it."""


def etag_of(call: Call, seen: Document, held: Right) -> str:
    """Return the tag of a stored document, reduced to what the caller sees (`project`).

    It is made of all that they may see and do, and of nothing else: it must not reveal a change
    of the rest. What `select` leaves out does not matter, nor does a job's
    place in the queue, which nobody edits.
    """
    # What decides which `operations` an answer has.
    who = call.who
    acts_as_device = who.active_claim.startswith("nuvlabox/")
    content = [seen, int(held), who.is_admin, SUBMITTER in who, acts_as_device]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f'"{blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()}"'


def unless_known(call: Call, body: Document, tag: str) -> Reply:
    """Return the answer to a read: the body, or 304 where `If-None-Match` has its tag."""
    headers = {"ETag": tag, **REVALIDATE}
    known = call.method in ("GET", "HEAD") and knows(call, tag)
    return Reply(None, 304, headers) if known else Reply(body, headers=headers)


def knows(call: Call, tag: str) -> bool:
    """Return whether `If-None-Match` has a tag; weak ones count (RFC 9110 §13.1.2)."""
    known = call.headers.get("if-none-match")
    if known is None:
        return False
    return known.strip() == "*" or any(tag == listed for _, listed in _TAGS.findall(known))


def require_match(call: Call, document: Document, held: Right) -> None:
    """Raise `PreconditionFailedError` where the conditions of a write do not hold.

    That is if `If-Match` names another version than the stored one (weak tags match nothing),
    or `If-None-Match` names the stored one, or any (weak tags count): RFC 9110 §13.1. To be
    called where nobody can write between this look and the change.
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
