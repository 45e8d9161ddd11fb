"""Users: people who log in with a password."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import StringConstraints
from sqlalchemy import Connection

from job_engine.api.access import rights
from job_engine.api.audit import record
from job_engine.api.auth.revocation import end_sessions, revoke_groups, revoke_user
from job_engine.api.call import Call, Reply, status_map
from job_engine.api.changes import is_patch
from job_engine.api.errors import MethodNotAllowedError
from job_engine.api.identity import Identity
from job_engine.api.operations import Operations, common_operations, links
from job_engine.api.schema import Common, Schema, invalid
from job_engine.api.types.base import Collection, Operation, check, created, normal_acl, refuse
from job_engine.api.types.stored import StoredType, roles_of, template_of, text_of
from job_engine.errors import ConflictError, NotFoundError
from job_engine.model.acl import ADMIN, USER, Right
from job_engine.store.base import Document
from job_engine.store.resources import Resource

USERNAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
MIN_PASSWORD: Final = 8
MAX_PASSWORD: Final = 1000

_CHANGE_PASSWORD: Final = "change-password"
_Role = Annotated[str, StringConstraints(pattern=r"^group/[a-z0-9-]+$")]


class UserSchema(Common):
    """A user; the password's hash is no part of it."""

    username: str
    state: Literal["ACTIVE", "SUSPENDED"]
    roles: list[_Role]


class UserType(StoredType):
    """The collection `user`."""

    name: ClassVar[str] = "user"
    collection: ClassVar[Collection] = Collection(query=(USER,))
    schema: ClassVar[type[Schema]] = UserSchema
    fixed: ClassVar[frozenset[str]] = frozenset({"username"})

    def add(self, call: Call) -> Reply:
        """Make a user: `{"template": {"href": "user-template/username-password", …}}`."""
        self.require(call, self.collection.add)
        body = call.json_object()
        template = template_of(body, frozenset({"username", "password", "roles"}))
        if template["href"] != "user-template/username-password":
            raise NotFoundError(f"{template['href']} not found")
        resource = new_user(
            call,
            text_of(template, "username"),
            text_of(template, "password"),
            roles_of(template, call),
        )
        common: Document = {k: body[k] for k in ("name", "description", "tags") if k in body}
        common["created-by"] = call.who.creator
        resource = Resource({**resource.document, **common}, resource.secret, resource.key)
        self.check_schema(resource.document)
        call.services.store.resources.add(resource, record(call, "add", [resource.id]))
        return created(resource.id)

    def offered(self) -> Callable[[Document, Right, Identity], Operations]:
        """Besides edit and delete, a user may change their password."""
        return _operations

    def operations(self) -> Mapping[str, Operation]:
        """Return change-password."""
        return {_CHANGE_PASSWORD: self._change_password}

    def edit(self, call: Call, resource_id: str) -> Reply:
        """Edit a user; their sessions end, so that a new password, role or state counts at once.

        API keys with a removed role end too: their rights were fixed when they were created.
        """
        body = {} if is_patch(call) else call.json_object()
        if call.who.is_admin and "password" in body:
            # Hashed before the write, because all writes wait for the store's writer.
            hashed = _Hashed(hash_password(call, body["password"]))
            call = replace(call, body={**body, "password": hashed})
        reply = super().edit(call, resource_id)
        call.services.sessions.changed()
        return reply

    def edited(self, call: Call, before: Resource, document: Document) -> Resource:
        """Return the edited user: users change their names, admins everything."""
        hashed = document.pop("password", None)
        if not call.who.is_admin:
            hashed = None
            for key in ("roles", "state", "acl"):
                document[key] = before.document[key]
        after = super().edited(call, before, document)
        if hashed is None:
            return after
        if not isinstance(hashed, _Hashed):
            raise invalid(["password: a JSON Patch cannot change it"])
        return replace(after, secret=str(hashed))

    def on_edit(
        self, call: Call, connection: Connection, before: Resource, after: Resource
    ) -> None:
        """End the sessions and keys that depend on what was changed."""
        lost = set(before.document["roles"]) - set(after.document["roles"])
        if lost:
            revoke_groups(connection, after.id, lost)
        same = all(before.document[key] == after.document[key] for key in ("roles", "state"))
        if not same or before.secret != after.secret:
            end_sessions(connection, after.id)

    def delete(self, call: Call, resource_id: str) -> Reply:
        """Delete a user, with their sessions and keys."""
        reply = super().delete(call, resource_id)
        call.services.sessions.changed()
        return reply

    def on_delete(self, call: Call, connection: Connection, resource_id: str) -> None:
        """End the sessions and keys of the user."""
        revoke_user(connection, resource_id)

    def _change_password(self, call: Call, resource_id: str) -> Reply:
        """Take `current-password` and `new-password`; every session of the user ends."""
        if call.method != "POST":
            raise MethodNotAllowedError(call.method, call.path, ["POST"])
        user = call.services.store.resources.load(resource_id)
        check(rights(call.who, user.document), Right.MANAGE, resource_id)
        body = call.json_object()
        current, new = body.get("current-password", ""), body.get("new-password")
        if not isinstance(current, str):
            raise invalid(["current-password: must be a string"])
        check_password(new, "new-password")
        limiter = call.services.limiter
        limiter.check(resource_id, call.address)
        if not call.services.passwords.verify(user.secret, current):
            limiter.failed(resource_id, call.address)
            raise refuse(resource_id)
        self._replace_password(call, user, hash_password(call, new))
        return status_map(200, "the password was changed", resource_id)

    def _replace_password(self, call: Call, user: Resource, hashed: str) -> None:
        def change(before: Resource) -> Resource:
            if before.secret != user.secret:
                raise ConflictError(f"{user.id} was changed meanwhile; try again")
            document = {**before.document, "updated-by": call.who.creator}
            return replace(before, document=document, secret=hashed)

        def also(connection: Connection, _before: Resource, _after: Resource) -> None:
            end_sessions(connection, user.id)
            record(call, _CHANGE_PASSWORD, [user.id])(connection)

        call.services.store.resources.edit(user.id, change, also)
        call.services.sessions.changed()


class _Hashed(str):
    """A password as it is stored: no body can say that it is one."""


def _operations(document: Document, held: Right, who: Identity) -> Operations:
    names = [_CHANGE_PASSWORD] if Right.MANAGE in held else []
    return [*common_operations(document, held, who), *links(document["id"], names)]


def new_user(call: Call, username: str, password: str, roles: list[str]) -> Resource:
    """Return a new user. Raises `InvalidResourceError` for an invalid name or password."""
    if not USERNAME.fullmatch(username):
        raise invalid(["template/username: letters, digits and ._@- only, at most 100"])
    return user_resource(username, hash_password(call, password), roles)


def user_resource(username: str, secret: str, roles: list[str]) -> Resource:
    """Return a user as it is stored."""
    user_id = f"user/{uuid.uuid4()}"
    mine = [user_id]
    acl = {"owners": [ADMIN], "view-data": mine, "edit-meta": mine, "manage": mine}
    document = {
        "id": user_id,
        "username": username,
        "name": username,
        "state": "ACTIVE",
        "roles": roles,
        "acl": normal_acl(acl),
    }
    return Resource(document, secret, key=username)


def hash_password(call: Call, password: Any) -> str:
    """Return what to store for a password.

    Raises `InvalidResourceError` for one that is too short or too long.
    """
    check_password(password)
    return call.services.passwords.hash(password)


def check_password(password: Any, attribute: str = "password") -> None:
    """Raise `InvalidResourceError` for a password that is too short or too long."""
    if not isinstance(password, str) or not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise invalid([f"{attribute}: must have {MIN_PASSWORD} to {MAX_PASSWORD} characters"])
