"""Credentials: API keys (docs/cimi.md §4.5)."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import StringConstraints
from sqlalchemy import Connection

from job_engine.api.audit import record
from job_engine.api.auth.revocation import revoke_key
from job_engine.api.auth.secrets import generate_key
from job_engine.api.call import Call, Reply
from job_engine.api.errors import RequestError
from job_engine.api.identity import NUVLABOX, SERVICES
from job_engine.api.schema import Common, Given, Schema, Timestamp, invalid
from job_engine.api.types.base import Collection, created, normal_acl
from job_engine.api.types.stored import StoredType, roles_of, template_of
from job_engine.errors import NotFoundError
from job_engine.model.acl import ADMIN, ANON, PRINCIPAL, USER
from job_engine.model.timestamps import format_ms, parse_ms
from job_engine.store.base import Document
from job_engine.store.resources import Resource, load_resource

_HREF = "credential-template/generate-api-key"
_Principal = Annotated[str, StringConstraints(pattern=r"^[a-z-]+/[a-z0-9-]+$")]


class Claims(Schema):
    """The identity and claims that a key logs in with."""

    identity: _Principal
    roles: list[_Principal]


class CredentialSchema(Common):
    """An API key; its digest is no part of it."""

    method: str
    claims: Claims
    expiry: Annotated[Timestamp | None, Given] = None


class CredentialType(StoredType):
    """The collection `credential`."""

    name: ClassVar[str] = "credential"
    collection: ClassVar[Collection] = Collection(query=(USER,), add=(USER,))
    schema: ClassVar[type[Schema]] = CredentialSchema
    fixed: ClassVar[frozenset[str]] = frozenset({"claims", "method", "subtype", "expiry"})

    def add(self, call: Call) -> Reply:
        """Create an API key; only this answer has its secret."""
        body = call.json_object()
        template = template_of(body, frozenset({"ttl", "roles"}))
        if template["href"] != _HREF:
            raise RequestError(f"requested href not found: {template['href']}")
        if not call.who.is_user and NUVLABOX not in call.who:
            raise RequestError(f"requested href cannot be accessed: {_HREF}")
        identity, roles = _claims(template, call)
        secret = generate_key()
        common = {k: v for k, v in body.items() if k != "template"}
        resource = key_resource(
            identity=identity,
            roles=roles,
            digest=call.services.keys.hash(secret),
            expiry_ms=_expiry(template, call),
            common={**common, "created-by": call.who.creator},
        )
        self.check_schema(resource.document)
        recorder = record(call, "add", [resource.id])

        def make(connection: Connection) -> Resource:
            recorder(connection)
            return _bounded(connection, call, resource)

        call.services.store.resources.add_made(make)
        return created(resource.id, **{"secret-key": secret})

    def delete(self, call: Call, resource_id: str) -> Reply:
        """Revoke a key, and end the sessions that were opened with it."""
        reply = super().delete(call, resource_id)
        call.services.sessions.changed()
        return reply

    def on_delete(self, call: Call, connection: Connection, resource_id: str) -> None:
        """End the sessions that depend on the key."""
        revoke_key(connection, resource_id)


def _claims(template: Document, call: Call) -> tuple[str, list[str]]:
    """Return the identity and the claims that a key logs in with."""
    who = call.who
    if "roles" not in template:
        # Not `internal`, as Nuvla's server calls itself: no ACL can name that.
        kept = [c for c in who.claims if PRINCIPAL.fullmatch(c) and not c.startswith("session/")]
        return who.active_claim, sorted(kept)
    roles = roles_of(template, call)
    own = f"service/{uuid.uuid4()}"
    if roles and SERVICES.issuperset(roles):
        # A service's key is neither a user nor the admin who creates it.
        return own, sorted({own, ANON, *roles})
    if who.is_admin and ADMIN not in roles:
        # Otherwise two platforms with keys of one admin would own each other's jobs.
        return own, sorted({own, USER, ANON, *roles})
    # A caller who acts as a group must not pass its rights to a key with fewer roles.
    acts_as_group = who.active_claim.startswith("group/")
    identity = (who.user_id or "") if acts_as_group else who.active_claim
    if not PRINCIPAL.fullmatch(identity):
        identity = own
    return identity, sorted({identity, USER, ANON, *roles})


def _bounded(connection: Connection, call: Call, key: Resource) -> Resource:
    """Return a key that expires no later than the key whose session creates it.

    Otherwise a key that is valid for an hour could create a permanent one. Raises
    `RequestError` if the session has ended in the meantime.
    """
    if call.who.session is None:
        return key
    try:
        session = load_resource(connection, call.who.session, lock=True).document
        made_with = (
            load_resource(connection, session["credential"]) if "credential" in session else None
        )
    except NotFoundError:
        raise RequestError(f"requested href cannot be accessed: {_HREF}") from None
    latest = None if made_with is None else made_with.document.get("expiry")
    expiry = key.document.get("expiry")
    if latest is None or (expiry is not None and parse_ms(expiry) <= parse_ms(latest)):
        return key
    return replace(key, document={**key.document, "expiry": latest})


def key_resource(
    *,
    identity: str,
    roles: list[str],
    digest: str,
    expiry_ms: int | None = None,
    common: dict[str, Any] | None = None,
) -> Resource:
    """Return an API key as it is stored."""
    document: Document = {
        **(common or {}),
        "id": f"credential/{uuid.uuid4()}",
        "subtype": "api-key",
        "method": "generate-api-key",
        "claims": {"identity": identity, "roles": roles},
    }
    acl = document.get("acl", {"owners": [ADMIN], "edit-acl": [identity]})
    document["acl"] = normal_acl(acl)
    if expiry_ms is not None:
        document["expiry"] = format_ms(expiry_ms)
    return Resource(document, digest)


def _expiry(template: Document, call: Call) -> int | None:
    ttl = template.get("ttl", 0)
    if not isinstance(ttl, int) or isinstance(ttl, bool) or not 0 <= ttl <= 10**9:
        raise invalid(["template/ttl: must be a number of seconds, 0 for ever"])
    return call.services.store.clock() + ttl * 1000 if ttl else None
