"""Entity tags: which version of a resource a client has read and wants to change.

A client that sends the `ETag` of what it read back as `If-Match` cannot overwrite what
somebody else wrote in between (RFC 9110 §8.8.3, §13.1.1); for any other nothing changes.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Final

from job_engine.api.access import project
from job_engine.api.call import Call
from job_engine.api.errors import PreconditionFailedError
from job_engine.model.acl import Right
from job_engine.store.base import Document

_TAGS: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_DIGEST_BYTES: Final = 16


def etag_of(seen: Document) -> str:
    """Return the tag of a stored document, reduced to what the caller sees (`project`).

    It is made of all that they may see, and of nothing else: it must not tell that, or to
    what, the rest has changed. What is computed for an answer, such as `operations` or a
    place in the queue, and what `select` leaves out, does not matter.
    """
    text = json.dumps(seen, sort_keys=True, separators=(",", ":"))
    return f'"{blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()}"'


def require_match(call: Call, document: Document, held: Right) -> None:
    """Raise `PreconditionFailedError` if `If-Match` names another version than the stored one.

    To be called where nobody can write between this look and the change. Weak tags match
    nothing, as RFC 9110 has it. Raises `PreconditionFailedError`.
    """
    wanted = call.headers.get("if-match")
    if wanted is None or wanted.strip() == "*":
        return
    strong = {tag for weak, tag in _TAGS.findall(wanted) if not weak}
    if etag_of(project(document, held, call.services.store.clock())) not in strong:
        raise PreconditionFailedError(resource_id=document["id"])
