"""Sessions: logging in and out (specs/cimi-api.md §4.3, §4.4)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, ClassVar

from job_engine.api.call import Call, Reply
from job_engine.api.collections import window
from job_engine.api.errors import MethodNotAllowedError
from job_engine.api.identity import Identity
from job_engine.api.operations import Operations, links
from job_engine.api.schema import Common, Given, Href, Reference, Schema, Timestamp
from job_engine.api.secrets import verify_key
from job_engine.api.services import COOKIE
from job_engine.api.types.base import Collection, created, deleted, refuse
from job_engine.api.types.stored import StoredType, may_delete, template_of, text_of
from job_engine.errors import NotFoundError
from job_engine.model.acl import ANON, USER, Right
from job_engine.model.timestamps import parse_ms
from job_engine.store.base import Document
from job_engine.store.query import Page
from job_engine.store.resources import Resource

_TEMPLATES = {
    "session-template/password": frozenset({"username", "password"}),
    "session-template/api-key": frozenset({"key", "secret"}),
}


class SessionSchema(Common):
    """Somebody who is logged in."""

    method: str
    template: Reference
    user: str
    active_claim: str
    roles: str
    """Claims, separated by blanks."""
    expiry: Timestamp
    identifier: str
    client_ip: str
    credential: Annotated[Href | None, Given] = None


class SessionType(StoredType):
    """The collection `session`."""

    name: ClassVar[str] = "session"
    collection: ClassVar[Collection] = Collection(query=(ANON,), add=(ANON,))
    schema: ClassVar[type[Schema]] = SessionSchema

    def query(self, call: Call) -> Reply:
        """Return the caller's own session, whatever the filter says."""
        found: list[Document] = []
        if call.who.session is not None:
            try:
                found = [self.get(call, call.who.session).body]
            except NotFoundError:
                found = []
        offset, limit = window(call.params.first, call.params.last)
        return self.collection_reply(call, Page(len(found), found[offset : offset + limit]))

    def offered(self) -> Callable[[Document, Right, Identity], Operations]:
        """A session can only be deleted."""
        return _operations

    def add(self, call: Call) -> Reply:
        """Log in: answers 201 and the cookie, or 403."""
        body: Document = call.json_object() if call.body is not None else _from_form(call)
        href = (
            body.get("template", {}).get("href") if isinstance(body.get("template"), dict) else None
        )
        template = template_of(body, _TEMPLATES.get(str(href), frozenset(_all_keys())))
        session_id = f"session/{uuid.uuid4()}"
        if template["href"] == "session-template/password":
            document = _login_password(call, template, session_id)
        elif template["href"] == "session-template/api-key":
            document = _login_key(call, template, session_id)
        else:
            raise NotFoundError(f"{template['href']} not found")
        reply = created(session_id)
        cookie = _cookie(call, session_id, parse_ms(document["expiry"]))
        return Reply(reply.body, reply.status, {**reply.headers, "Set-Cookie": cookie})

    def edit(self, call: Call, resource_id: str) -> Reply:
        """A session cannot be edited."""
        raise MethodNotAllowedError(call.method, call.path)

    def delete(self, call: Call, resource_id: str) -> Reply:
        """Log out: the session ends at once."""
        call.services.store.resources.delete(resource_id, partial(may_delete, call))
        call.services.sessions.end(resource_id)
        expires = _http_date(call.services.store.clock())
        cookie = f"{COOKIE}=INVALID; Path=/; Max-Age=0; Expires={expires}"
        return Reply(deleted(resource_id).body, headers={"Set-Cookie": cookie})


def _operations(document: Document, held: Right, _who: Identity) -> Operations:
    return links(document["id"], ["delete"] if Right.DELETE in held else [])


def _all_keys() -> set[str]:
    return set().union(*_TEMPLATES.values())


def _from_form(call: Call) -> Document:
    return {"template": {key: values[0] for key, values in call.form.items()}}


def _login_password(call: Call, template: Document, session_id: str) -> Document:
    username = text_of(template, "username")
    limiter = call.services.limiter
    limiter.check(username, call.address)
    user = call.services.store.resources.find("user", username)
    active = user is not None and user.document["state"] == "ACTIVE"
    stored = user.secret if user is not None and active else None
    if not call.services.passwords.verify(stored, text_of(template, "password")) or user is None:
        limiter.failed(username, call.address)
        raise refuse(username)
    limiter.succeeded(username, call.address)
    return _create(
        call,
        session_id,
        user.id,
        [user.id, USER, ANON, *user.document["roles"]],
        "password",
        {"identifier": username},
    )


def _login_key(call: Call, template: Document, session_id: str) -> Document:
    key = text_of(template, "key")
    credential_id = key if key.startswith("credential/") else f"credential/{key}"
    limiter = call.services.limiter
    limiter.check(credential_id, call.address)
    credential = _valid_key(call, credential_id, text_of(template, "secret"))
    if credential is None:
        limiter.failed(credential_id, call.address)
        raise refuse(credential_id)
    limiter.succeeded(credential_id, call.address)
    claims = credential.document["claims"]
    return _create(
        call,
        session_id,
        claims["identity"],
        claims["roles"] or [claims["identity"], USER, ANON],
        "api-key",
        {"identifier": claims["identity"], "credential": credential_id},
        parse_ms(expiry) if (expiry := credential.document.get("expiry")) else None,
    )


def _valid_key(call: Call, credential_id: str, secret: str) -> Resource | None:
    try:
        credential = call.services.store.resources.load(credential_id)
    except NotFoundError:
        return None
    expiry = credential.document.get("expiry")
    if expiry is not None and parse_ms(expiry) <= call.services.store.clock():
        return None
    if credential.document.get("subtype") != "api-key":
        return None
    if not verify_key(credential.secret, secret):
        return None
    return credential if _may_log_in(call, credential.document["claims"]["identity"]) else None


def _may_log_in(call: Call, identity: str) -> bool:
    """Whether a key's holder is no user of ours, or one who is not suspended."""
    if not identity.startswith("user/"):
        return True
    try:
        user = call.services.store.resources.get(identity)
    except NotFoundError:  # known to a proxy that we trust; deleting a user deletes the keys
        return True
    return bool(user["state"] == "ACTIVE")


def _create(
    call: Call,
    session_id: str,
    user_id: str,
    claims: list[str],
    method: str,
    details: dict[str, Any],
    ends_ms: int | None = None,
) -> Document:
    common = {}
    if isinstance(call.body, dict):
        common = {k: call.body[k] for k in ("name", "description", "tags") if k in call.body}
    return call.services.sessions.create(
        session_id,
        user_id=user_id,
        claims=claims,
        method=method,
        details={**common, **details, "created-by": call.who.creator, "client-ip": call.address},
        ends_ms=ends_ms,
    )


def _cookie(call: Call, session_id: str, expires_ms: int) -> str:
    token = call.services.tokens.issue(session_id)
    # Without https a client that minds `Secure` would never send it back.
    secure = "Secure; " if call.secure else ""
    expires = _http_date(expires_ms)
    return f"{COOKIE}={token}; {secure}Path=/; HttpOnly; SameSite=Lax; Expires={expires}"


def _http_date(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at:%a}, {at.day} {at:%b %Y %H:%M:%S} GMT"
