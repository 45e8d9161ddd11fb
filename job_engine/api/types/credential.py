"""Credentials: API keys (specs/cimi-api.md §4.5)."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, ClassVar

from pydantic import StringConstraints

from job_engine.api.call import Call, Reply
from job_engine.api.errors import RequestError
from job_engine.api.schema import Common, Given, Schema, Timestamp, invalid
from job_engine.api.secrets import digest_key, generate_key
from job_engine.api.types.base import Collection, created
from job_engine.api.types.stored import StoredType, normal_acl, roles_of, template_of
from job_engine.model.acl import ADMIN, ANON, PRINCIPAL, USER
from job_engine.model.timestamps import format_ms
from job_engine.store.base import Document
from job_engine.store.resources import Resource

_HREF = "credential-template/generate-api-key"
_Principal = Annotated[str, StringConstraints(pattern=r"^[a-z-]+/[a-z0-9-]+$")]


class Claims(Schema):
    """Who a key logs in as."""

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
        """Make an API key; its secret is in this answer, and nowhere else."""
        body = call.json_object()
        template = template_of(body, frozenset({"ttl", "roles"}))
        if template["href"] != _HREF:
            raise RequestError(f"requested href not found: {template['href']}")
        if not call.who.is_user:
            raise RequestError(f"requested href cannot be accessed: {_HREF}")
        identity, roles = _claims(template, call)
        secret = generate_key()
        resource = key_resource(
            identity=identity,
            roles=roles,
            secret=secret,
            expiry_ms=_expiry(template, call),
            common={k: v for k, v in body.items() if k != "template"},
        )
        resource.document["created-by"] = call.who.creator
        self.check_schema(resource.document)
        call.services.store.resources.add(resource)
        return created(resource.id, **{"secret-key": secret})

    def delete(self, call: Call, resource_id: str) -> Reply:
        """Revoke a key, and end the sessions that were opened with it."""
        reply = super().delete(call, resource_id)
        call.services.sessions.end_where("credential", resource_id)
        return reply


def _claims(template: Document, call: Call) -> tuple[str, list[str]]:
    """Return who a key logs in as, and with which claims."""
    who = call.who
    if "roles" not in template:
        return who.active_claim, sorted(c for c in who.claims if not c.startswith("session/"))
    # Someone who acts as a group must not hand its rights to a key that is to have fewer.
    acts_as_group = who.active_claim.startswith("group/")
    identity = (who.user_id or "") if acts_as_group else who.active_claim
    if not PRINCIPAL.fullmatch(identity):
        identity = f"service/{uuid.uuid4()}"
    return identity, sorted({identity, USER, ANON, *roles_of(template, call)})


def key_resource(
    *,
    identity: str,
    roles: list[str],
    secret: str,
    expiry_ms: int | None = None,
    common: dict[str, Any] | None = None,
) -> Resource:
    """Make what is stored of an API key."""
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
    return Resource(document, digest_key(secret))


def _expiry(template: Document, call: Call) -> int | None:
    ttl = template.get("ttl", 0)
    if not isinstance(ttl, int) or isinstance(ttl, bool) or not 0 <= ttl <= 10**9:
        raise invalid(["template/ttl: must be a number of seconds, 0 for ever"])
    return call.services.store.clock() + ttl * 1000 if ttl else None
