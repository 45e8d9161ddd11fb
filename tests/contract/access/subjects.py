"""One resource of every type, in which each role has its part, and what is tried on it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from httpx import Response

from job_engine.api.types.credential import key_resource
from job_engine.api.types.group import group_document
from job_engine.api.types.user import user_resource
from job_engine.model.acl import normalise
from job_engine.store.resources import Resource
from tests.contract.access.expectations import RIGHTS
from tests.unit.api.support import ADMIN, Client

PASSWORD: Final = "long enough"


def person(name: str, *groups: str) -> str:
    """The header of somebody who logged in."""
    return " ".join([*[f"user/{name}"] * 3, "group/nuvla-user", "group/nuvla-anon", *groups])


def service(name: str, role: str) -> str:
    """The header of a service with a key of its own."""
    return " ".join([*[f"service/{name}"] * 3, f"group/job-{role}", "group/nuvla-anon"])


WHO: Final[Mapping[str, str]] = {
    "anonymous": "",
    "user": person("stranger"),
    "submitter": person("submitter", "group/job-submitter"),
    "teacher": person("teacher", "group/job-teacher"),
    "student": person("student", "group/job-student"),
    **{right: person(right) for right in RIGHTS},
    "owner": person("owner"),
    "member": person("member", "group/club"),
    "admin": ADMIN,
    "executor": service("idle", "executor"),
    "runner": service("runner", "executor"),
    "distributor": service("pusher", "distributor"),
}
ACL: Final = {
    "owners": ["user/owner"],
    **{right: [f"user/{right}"] for right in RIGHTS},
    "view-acl": ["user/view-acl", "group/club"],
}


@dataclass(frozen=True)
class Subject:
    """How a type is tried."""

    make: Callable[[World], str]
    data: str
    """An attribute that only who sees its data sees."""
    edit: Mapping[str, Any] = field(default_factory=dict)
    """An edit of its data."""
    body: Callable[[World], Any] = lambda _: {}
    """What an add sends."""
    calls: Mapping[str, Callable[[World, str, str], Response]] = field(default_factory=dict)
    """Its further operations, as somebody, on a resource."""


class World:
    """A server, and what is in it."""

    def __init__(self, api: Client) -> None:
        self.api = api
        self._standing: dict[str, str] = {}
        self._hash = api.services.passwords.hash(PASSWORD)

    def one(self, type_name: str) -> str:
        """Return the resource of a type that stands for all, until it is spent."""
        if type_name not in self._standing:
            self._standing[type_name] = SUBJECTS[type_name].make(self)
        return self._standing[type_name]

    def spend(self, type_name: str) -> None:
        """Try what comes on another resource: this one is no longer as it was made."""
        self._standing.pop(type_name, None)

    def stored(self, resource: Resource) -> str:
        """Store a resource in which every role has its part."""
        document = {**resource.document, "acl": normalise(ACL)}
        self.api.services.store.resources.add(replace(resource, document=document))
        return resource.id

    def job(self) -> str:
        """A job that the runner runs."""
        return self.api.run_job(WHO["runner"], acl=ACL)

    def user(self) -> str:
        """A user."""
        return self.stored(user_resource(uuid.uuid4().hex, self._hash, ["group/job-submitter"]))

    def session(self) -> str:
        """A session of a new user's."""
        user, session = self.user(), f"session/{uuid.uuid4()}"
        document = {
            "id": session,
            "method": "password",
            "user": user,
            "active-claim": user,
            "roles": f"{user} {session}",
            "expiry": "2100-01-01T00:00:00.000Z",
        }
        return self.stored(Resource(document))

    def credential(self) -> str:
        """An API key."""
        roles = ["user/owner", "group/nuvla-user"]
        return self.stored(key_resource(identity="user/owner", roles=roles, digest="x"))

    def group(self) -> str:
        """A group."""
        return self.stored(Resource(group_document(f"group/g-{uuid.uuid4()}", ["user/x"])))

    def blob(self, who: str = "owner") -> str:
        """An upload, which a job of the runner's names."""
        headers = {"content-type": "application/octet-stream"}
        content = uuid.uuid4().bytes
        reply = self.api(WHO[who], "POST", "blob", content=content, headers=headers)
        blob = str(reply.json()["resource-id"])
        self.api.run_job(WHO["runner"], payload=json.dumps({"bundle": blob}))
        return blob

    def assignment(self) -> str:
        """An assignment, which a job of the runner's names."""
        name = uuid.uuid4().hex
        digest = f"sha256:{self.blob().partition('/')[2]}"
        assignment = self.stored(
            Resource(
                {
                    "id": f"assignment/{uuid.uuid4()}",
                    "name": name,
                    "version": 1,
                    "digest": digest,
                    "created-by": "user/owner",
                },
                key=name,
            )
        )
        self.api.run_job(WHO["runner"], payload=json.dumps({"assignment": name}))
        return assignment

    def delivery(self) -> str:
        """A message that a webhook would not take."""
        document = {
            "id": f"webhook-delivery/{uuid.uuid4()}",
            "job": f"job/{uuid.uuid4()}",
            "type": "job.success",
            "url": "https://hooks.example.org/",
            "secret": f"webhook-secret/{uuid.uuid4()}",
            "state": "FAILED",
            "attempts": 1,
            "body": "{}",
            "created-by": "user/owner",
        }
        return self.stored(Resource(document))

    def webhook_secret(self) -> str:
        """What messages are signed with."""
        document = {"id": f"webhook-secret/{uuid.uuid4()}", "created-by": "user/owner"}
        return self.stored(Resource(document, "secret"))

    def event(self) -> str:
        """The event of a job's creation."""
        found = self.api(ADMIN, "GET", f"event?filter=content/resource/href='{self.job()}'")
        return str(found.json()["resources"][0]["id"])


def _post(name: str, body: Any = None) -> Callable[[World, str, str], Response]:
    return lambda world, who, id_: world.api(who, "POST", f"{id_}/{name}", body)


def _resubmit(world: World, who: str, job: str) -> Response:
    world.api(ADMIN, "POST", f"{job}/cancel")  # 403, where that was done before
    return world.api(who, "POST", f"{job}/resubmit")


def _key_login(_world: World) -> Any:
    return {
        "template": {"href": "session-template/api-key", "key": uuid.uuid4().hex, "secret": "y"}
    }


def _new_user(_world: World) -> Any:
    template = {
        "href": "user-template/username-password",
        "username": uuid.uuid4().hex,
        "password": PASSWORD,
    }
    return {"template": template}


def _new_group(_world: World) -> Any:
    identifier = uuid.uuid4().hex
    return {"template": {"href": "group-template/generic", "group-identifier": identifier}}


def _new_assignment(world: World) -> Any:
    digest = f"sha256:{world.blob('teacher').partition('/')[2]}"
    return {"name": uuid.uuid4().hex, "digest": digest}


_NEW_KEY: Final = {"template": {"href": "credential-template/generate-api-key"}}
_NEW_PASSWORD: Final = {"current-password": PASSWORD, "new-password": "a new one"}

SUBJECTS: Final[Mapping[str, Subject]] = {
    "assignment": Subject(
        World.assignment, "digest", {"document": {"image": "other"}}, body=_new_assignment
    ),
    "blob": Subject(
        World.blob,
        "size",
        calls={"content": lambda world, who, id_: world.api(who, "GET", f"{id_}/content")},
    ),
    "credential": Subject(
        World.credential,
        "claims",
        {"claims": {"identity": "user/x", "roles": []}},
        body=lambda _: _NEW_KEY,
    ),
    "credential-template": Subject(lambda _: "credential-template/generate-api-key", "method"),
    "event": Subject(World.event, "content", {"success": False}),
    "group": Subject(World.group, "users", {"users": ["user/y"]}, body=_new_group),
    "group-template": Subject(lambda _: "group-template/generic", "method"),
    "job": Subject(
        World.job,
        "state",
        {"payload": '"changed"'},
        body=lambda _: {"action": "noop"},
        calls={
            "cancel": _post("cancel"),
            "timeout": _post("timeout"),
            "get-context": _post("get-context"),
            "resubmit": _resubmit,
            "log": lambda world, who, id_: world.api(who, "GET", f"{id_}/log"),
        },
    ),
    "session": Subject(
        World.session,
        "user",
        {"user": "user/x"},
        body=_key_login,
        calls={
            "get-peers": _post("get-peers"),
            "get-groups": _post("get-groups"),
            "switch-group": _post("switch-group", {"claim": "group/job-submitter"}),
        },
    ),
    "session-template": Subject(lambda _: "session-template/password", "method"),
    "user": Subject(
        World.user,
        "username",
        {"roles": []},
        body=_new_user,
        calls={"change-password": _post("change-password", _NEW_PASSWORD)},
    ),
    "user-template": Subject(lambda _: "user-template/username-password", "method"),
    "webhook-delivery": Subject(
        World.delivery, "state", {"state": "PENDING"}, calls={"replay": _post("replay")}
    ),
    "webhook-secret": Subject(
        World.webhook_secret,
        "created-by",
        {"created-by": "user/x"},
        body=lambda _: {"name": "mine"},
    ),
}
