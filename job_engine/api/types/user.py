"""Users: people who log in with a password."""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import StringConstraints

from job_engine.api.call import Call, Reply
from job_engine.api.schema import Common, Schema, invalid
from job_engine.api.types.base import Collection, created
from job_engine.api.types.stored import StoredType, normal_acl, roles_of, template_of, text_of
from job_engine.errors import NotFoundError
from job_engine.model.acl import ADMIN, USER
from job_engine.store.base import Document
from job_engine.store.resources import Resource

USERNAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
MIN_PASSWORD: Final = 8
MAX_PASSWORD: Final = 1000

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
        resource = Resource({**resource.document, **common}, resource.secret, resource.key)
        self.check_schema(resource.document)
        call.services.store.resources.add(resource)
        return created(resource.id)

    def edited(self, call: Call, before: Resource, document: Document) -> Resource:
        """Let a user change what they are called, and an admin all of it."""
        password = document.pop("password", None)
        if not call.who.is_admin:
            for key in ("roles", "state", "acl"):
                document[key] = before.document[key]
        after = super().edited(call, before, document)
        if password is None:
            return after
        check_password(password)
        secret = call.services.passwords.hash(password)
        return Resource(after.document, secret, after.key, after.expires_ms)

    def edit(self, call: Call, resource_id: str) -> Reply:
        """Edit a user; sessions end, so that a new password, role or state counts at once.

        With a role go the API keys that have it: their rights were fixed when they were made.
        """
        before = call.services.store.resources.get(resource_id)
        reply = super().edit(call, resource_id)
        lost = set(before["roles"]) - set(call.services.store.resources.get(resource_id)["roles"])
        if lost:
            call.services.sessions.revoke_keys(resource_id, lost)
        if not {"password", "roles", "state"}.isdisjoint(call.json_object()):
            call.services.sessions.end_where("user", resource_id)
        return reply

    def delete(self, call: Call, resource_id: str) -> Reply:
        """Delete a user, with their sessions and keys."""
        reply = super().delete(call, resource_id)
        call.services.sessions.end_where("user", resource_id)
        call.services.sessions.revoke_keys(resource_id)
        return reply


def new_user(call: Call, username: str, password: str, roles: list[str]) -> Resource:
    """Make a user. Raises `InvalidResourceError` for a name or password that will not do."""
    if not USERNAME.fullmatch(username):
        raise invalid(["template/username: letters, digits and ._@- only, at most 100"])
    check_password(password)
    return user_resource(username, call.services.passwords.hash(password), roles)


def user_resource(username: str, secret: str, roles: list[str]) -> Resource:
    """Make what is stored of a user."""
    user_id = f"user/{uuid.uuid4()}"
    document = {
        "id": user_id,
        "username": username,
        "name": username,
        "state": "ACTIVE",
        "roles": roles,
        "acl": normal_acl({"owners": [ADMIN], "view-data": [user_id], "edit-meta": [user_id]}),
    }
    return Resource(document, secret, key=username)


def check_password(password: Any) -> None:
    """Raise `InvalidResourceError` for a password that is too short or too long."""
    if not isinstance(password, str) or not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise invalid([f"password: must have {MIN_PASSWORD} to {MAX_PASSWORD} characters"])
