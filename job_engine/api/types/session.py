"""Sessions: logging in and out, and acting as a group (docs/cimi.md §4.3, §4.4)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final

from pydantic import Field
from sqlalchemy import Connection

from job_engine.api.access import rights
from job_engine.api.audit import record
from job_engine.api.auth.sessions import Grounds
from job_engine.api.call import Call, Reply
from job_engine.api.collections import window
from job_engine.api.errors import MethodNotAllowedError
from job_engine.api.identity import Identity
from job_engine.api.operations import Operations, links
from job_engine.api.schema import (
    Common,
    Given,
    Href,
    NonBlank,
    Reference,
    Schema,
    Timestamp,
    invalid,
    validate,
)
from job_engine.api.services import COOKIE
from job_engine.api.types.base import Collection, Operation, check, created
from job_engine.api.types.logins import LOGINS, open_to, peers_of, switched
from job_engine.api.types.stored import StoredType, template_of
from job_engine.errors import ForbiddenError, NotFoundError
from job_engine.model.acl import ANON, Right
from job_engine.model.timestamps import parse_ms
from job_engine.store.base import Document
from job_engine.store.resources import Resource
from job_engine.store.search.query import Page

_OPERATIONS: Final = ("get-peers", "get-groups", "switch-group")
_FIELDS: Final = frozenset[str]().union(*(login.fields for login in LOGINS.values()))


class SessionSchema(Common):
    """A login of a user or an API key."""

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


class _LoginAttributes(Schema):
    """Attributes that a login may set; bounded, because every user may log in often."""

    name: Annotated[NonBlank | None, Given, Field(max_length=200)] = None
    description: Annotated[str | None, Given, Field(max_length=2_000)] = None
    tags: Annotated[
        list[Annotated[NonBlank, Field(max_length=200)]] | None, Given, Field(max_length=50)
    ] = None


class SessionType(StoredType):
    """The collection `session`."""

    name: ClassVar[str] = "session"
    collection: ClassVar[Collection] = Collection(query=(ANON,), add=(ANON,))
    schema: ClassVar[type[Schema]] = SessionSchema
    refused: ClassVar[frozenset[str]] = frozenset({"edit"})

    def query(self, call: Call) -> Reply:
        """Return the caller's own session, whatever the filter says."""
        found: list[Document] = []
        if call.who.session is not None:
            try:
                # Not as a GET: `If-None-Match` is about the collection, which has no tag.
                found = [self.get(replace(call, method="PUT"), call.who.session).body]
            except (NotFoundError, ForbiddenError):
                found = []
        offset, limit = window(call.params.first, call.params.last)
        return self.collection_reply(call, Page(len(found), found[offset : offset + limit]))

    def offered(self) -> Callable[[Document, Right, Identity], Operations]:
        """Return the operations of a session: delete and switch-group, but not edit."""
        return _operations

    def add(self, call: Call) -> Reply:
        """Log in: answers 201 and the cookie, or 403."""
        body: Document = call.json_object() if call.body is not None else _from_form(call)
        template = body.get("template")
        href = template.get("href") if isinstance(template, dict) else None
        login = LOGINS.get(str(href))
        template = template_of(body, _FIELDS if login is None else login.fields)
        if login is None:
            raise NotFoundError(f"{href} not found")
        session_id = f"session/{uuid.uuid4()}"
        common: Document = {k: body[k] for k in ("name", "description", "tags") if k in body}
        validate(_LoginAttributes, common)
        establish = login.verify(call, template)
        common |= {"created-by": call.who.creator, "client-ip": call.address}

        def grounds(connection: Connection) -> Grounds:
            found = establish(connection)
            return replace(found, details={**common, **found.details})

        also = record(call, "add", [session_id], method=login.method, address=call.address)
        document = call.services.sessions.create(session_id, grounds, also)
        reply = created(session_id)
        return replace(reply, headers={**reply.headers, **_cookie(call, document)})

    def edit(self, call: Call, resource_id: str) -> Reply:
        """A session cannot be edited."""
        raise MethodNotAllowedError(call.method, call.path)

    def delete(self, call: Call, resource_id: str) -> Reply:
        """Log out: the session ends at once."""
        reply = super().delete(call, resource_id)
        call.services.sessions.changed()
        expires = _http_date(call.services.store.clock())
        cookie = f"{COOKIE}=INVALID; Path=/; Max-Age=0; Expires={expires}"
        return Reply(reply.body, headers={"Set-Cookie": cookie})

    # --- operations ------------------------------------------------------------

    def operations(self) -> Mapping[str, Operation]:
        """Return get-peers, get-groups and switch-group."""
        return {
            "get-peers": self._get_peers,
            "get-groups": self._get_groups,
            "switch-group": self._switch_group,
        }

    def _get_peers(self, call: Call, resource_id: str) -> Reply:
        """Answer with the names of users who share a group with the session's user, by id."""
        return Reply(peers_of(call, self._managed(call, resource_id)))

    def _get_groups(self, call: Call, resource_id: str) -> Reply:
        """Answer with the groups that the session may act as."""
        session = self._managed(call, resource_id)
        groups = call.services.store.database.read(lambda c: open_to(c, session))
        keys = ("id", "name", "description")
        return Reply([{k: g[k] for k in keys if k in g} for g in groups])

    def _switch_group(self, call: Call, resource_id: str) -> Reply:
        """Act as `claim`, a group of the session's user or the user: with its rights alone.

        `extended`, which asks for subgroups, is accepted; groups have no subgroups here.
        """
        if call.method != "POST":
            raise MethodNotAllowedError(call.method, call.path, ["POST"])
        self._managed(call, resource_id)
        claim = call.json_object().get("claim")
        if not isinstance(claim, str):
            raise invalid(["claim: is required, as group/job-teacher"])

        def also(connection: Connection, before: Resource, after: Resource) -> None:
            record(call, "switch-group", [resource_id], claim=claim)(connection)

        # Removing a membership deletes the session, so if it still exists, it may act as the group.
        session = call.services.store.resources.load(resource_id)
        after = call.services.store.database.read(lambda c: switched(c, session, claim))
        document = call.services.store.resources.edit(resource_id, lambda _: after, also)
        call.services.sessions.changed()
        held = rights(call.who, document)
        seen = {**document, "operations": _operations(document, held, call.who)}
        return Reply(seen, headers=_cookie(call, document))

    def _managed(self, call: Call, resource_id: str) -> Document:
        document = call.services.store.resources.get(resource_id)
        check(rights(call.who, document), Right.MANAGE, resource_id)
        return document


def _operations(document: Document, held: Right, _who: Identity) -> Operations:
    names = ["delete"] if Right.DELETE in held else []
    return links(document["id"], [*names, *(_OPERATIONS if Right.MANAGE in held else ())])


def _from_form(call: Call) -> Document:
    return {"template": {key: values[0] for key, values in call.form.items()}}


def _cookie(call: Call, session: Document) -> dict[str, str]:
    token = call.services.tokens.issue(session["id"])
    # Without https a client would not send a `Secure` cookie back.
    secure = "Secure; " if call.secure else ""
    expires = _http_date(parse_ms(session["expiry"]))
    return {
        "Set-Cookie": f"{COOKIE}={token}; {secure}Path=/; HttpOnly; SameSite=Lax; Expires={expires}"
    }


def _http_date(at_ms: int) -> str:
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at:%a}, {at.day} {at:%b %Y %H:%M:%S} GMT"
