"""Templates: fixed documents that say how to add users, sessions and credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict

from job_engine.api.access import select
from job_engine.api.call import Call, Reply
from job_engine.api.collections import run_query
from job_engine.api.identity import Identity
from job_engine.api.operations import Operations
from job_engine.api.schema import Common, Schema
from job_engine.api.types.base import Collection, ResourceType
from job_engine.errors import NotFoundError
from job_engine.model.acl import ADMIN, ANON, Right, normalise
from job_engine.model.timestamps import format_ms
from job_engine.store.base import Document
from job_engine.store.fixed import FixedDocuments
from job_engine.store.search.source import resources_of


class TemplateSchema(Common):
    """The common attributes of templates; each has further ones to be filled in."""

    model_config = ConfigDict(extra="allow")

    method: str
    instance: str


class TemplateType(ResourceType):
    """A collection of fixed documents, which are part of the release."""

    collection: ClassVar[Collection] = Collection(query=(ANON,), add=None)
    schema: ClassVar[type[Schema]] = TemplateSchema
    templates: ClassVar[Mapping[str, Mapping[str, Any]]]

    def __init__(self) -> None:
        self._fixed = FixedDocuments(lambda: [self._document(name) for name in self.templates])

    def query(self, call: Call) -> Reply:
        """Search among the templates."""
        source = resources_of(self.name)
        return self.collection_reply(call, run_query(call, source, _none, read=self._fixed.read))

    def get(self, call: Call, resource_id: str) -> Reply:
        """Return one template."""
        name = resource_id.partition("/")[2]
        if name not in self.templates:
            raise NotFoundError(f"{resource_id} not found")
        return Reply(select(self._document(name), call.params.select))

    def _document(self, name: str) -> Document:
        return {
            "id": f"{self.name}/{name}",
            "resource-type": self.name,
            "created": format_ms(0),
            "updated": format_ms(0),
            "method": name,
            "instance": name,
            "acl": normalise({"owners": [ADMIN], "view-acl": [ANON]}),
            **self.templates[name],
        }


def _none(_document: Document, _held: Right, _who: Identity) -> Operations:
    """Return no operations: nobody edits or deletes a template."""
    return []


class SessionTemplateType(TemplateType):
    """How to log in."""

    name: ClassVar[str] = "session-template"
    templates: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "password": {
            "name": "Password",
            "description": "Log in with a user name and a password.",
            "group": "Login with username and password",
            "username": "username",
            "password": "password",
        },
        "api-key": {
            "name": "API key",
            "description": "Log in with an API key and its secret.",
            "group": "Login with API key",
            "key": "key",
            "secret": "secret",
        },
    }


class CredentialTemplateType(TemplateType):
    """How to make a credential."""

    name: ClassVar[str] = "credential-template"
    templates: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "generate-api-key": {
            "name": "API key",
            "description": "Make an API key with the rights of its creator, or with fewer. "
            "`ttl`: seconds it is good for, 0 for ever. `roles`: its groups; only an admin may "
            "name groups that they are not in.",
            "subtype": "api-key",
            "ttl": 0,
        },
    }


class GroupTemplateType(TemplateType):
    """How to make a group."""

    name: ClassVar[str] = "group-template"
    templates: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "generic": {
            "name": "Group",
            "description": "Make the group `group/<group-identifier>`; admins only. `users`: the "
            "ids of its members.",
            "group-identifier": "group-identifier",
        },
    }


class UserTemplateType(TemplateType):
    """How to make a user."""

    name: ClassVar[str] = "user-template"
    templates: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "username-password": {
            "name": "User name and password",
            "description": "Make a user; admins only. `roles`: the groups they are in.",
            "username": "username",
            "password": "password",
        },
    }
