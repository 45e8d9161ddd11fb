"""Every role by every operation by every type of resource, over HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
from httpx import Response

from job_engine.api.registry import make_registry
from job_engine.model.acl import normalise
from tests.contract.access.expectations import ENGINE, EXPECTED, ROLES
from tests.contract.access.subjects import ACL, SUBJECTS, WHO, World
from tests.unit.api.support import ADMIN

Try = Callable[[World, str, str], bool]
"""Whether an operation works for a role on a type."""


def test_every_type_and_operation_has_its_expectations() -> None:
    """A new type, or a new operation of one, is not there until it says who may use it."""
    registry = make_registry()
    assert EXPECTED.keys() == registry.keys() == SUBJECTS.keys()
    for name, kind in registry.items():
        further = EXPECTED[name].keys() - _TRIES.keys()
        assert kind.operations().keys() <= further, name
        assert further == SUBJECTS[name].calls.keys(), name
        assert _TRIES.keys() <= EXPECTED[name].keys(), name
    assert WHO.keys() == ROLES


@pytest.mark.parametrize(
    ("type_name", "operation"),
    [(name, operation) for name, table in EXPECTED.items() for operation in table],
)
def test_the_matrix_of_rights(world: World, type_name: str, operation: str) -> None:
    works = _TRIES.get(operation) or _further(operation)
    found = set()
    for role in sorted(ROLES):
        world.api.http.cookies.clear()  # of a session that was switched
        if works(world, type_name, role):
            found.add(role)
            if operation not in _READS:
                world.spend(type_name)
    if operation not in _READS:
        world.spend(type_name)
    assert found == EXPECTED[type_name][operation]


@pytest.mark.parametrize(("method", "name"), ENGINE)
def test_the_roles_of_the_engines_messages(world: World, method: str, name: str) -> None:
    world.api.http.cookies.clear()
    asked = _ENGINE_CALLS[method, name]
    found = {
        role
        for role in ROLES
        if world.api(
            WHO[role], method, f"engine/{name}", asked.get("body"), params=asked.get("params")
        ).status_code
        != 403
    }
    assert found == ENGINE[method, name]


def test_every_message_has_its_expectations(world: World) -> None:
    paths = world.api.http.get("/openapi.json").json()["paths"]
    messages = {
        (method.upper(), path.removeprefix("/api/engine/"))
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/api/engine/")
    }
    streams = {("GET", "events"), ("GET", "changes")}  # `tests/unit/api/test_engine.py` has those
    assert messages - streams == ENGINE.keys()


# --- the operations that every type has ---------------------------------------


def _find(world: World, type_name: str, role: str) -> bool:
    resource = world.one(type_name)
    reply = world.api(WHO[role], "PUT", type_name, data={"filter": f"id='{resource}'"})
    assert reply.status_code in (200, 403)
    found = reply.json().get("resources", [])
    return resource in {document["id"] for document in found}


def _seen(world: World, type_name: str, role: str) -> Mapping[str, Any] | None:
    reply = world.api(WHO[role], "GET", world.one(type_name))
    assert reply.status_code in (200, 403, 404)
    return dict(reply.json()) if reply.status_code == 200 else None


def _reads(attribute: Callable[[str], str]) -> Try:
    def works(world: World, type_name: str, role: str) -> bool:
        seen = _seen(world, type_name, role)
        return seen is not None and attribute(type_name) in seen

    return works


def _edits(body: Callable[[str], Mapping[str, Any]]) -> Try:
    def works(world: World, type_name: str, role: str) -> bool:
        resource = world.one(type_name)
        wanted = body(type_name)
        reply = world.api(WHO[role], "PUT", resource, dict(wanted))
        assert reply.status_code in (200, 403, 404, 405)
        after = world.api.get(resource)
        return bool(wanted) and all(after.get(key) == value for key, value in wanted.items())

    return works


def _deletes(send: Callable[[World, str, str, str], Response]) -> Try:
    def works(world: World, type_name: str, role: str) -> bool:
        resource = world.one(type_name)
        reply = send(world, type_name, role, resource)
        assert reply.status_code in (200, 403, 404, 405)
        return world.api(ADMIN, "GET", resource).status_code == 404

    return works


def _delete(world: World, _type_name: str, role: str, resource: str) -> Response:
    return world.api(WHO[role], "DELETE", resource)


def _bulk_delete(world: World, type_name: str, role: str, resource: str) -> Response:
    form = {"filter": f"id='{resource}'"}
    return world.api(WHO[role], "DELETE", type_name, data=form, headers={"bulk": "yes"})


def _add(world: World, type_name: str, role: str) -> bool:
    if type_name == "blob":
        headers = {"content-type": "application/octet-stream"}
        content = uuid.uuid4().bytes
        reply = world.api(WHO[role], "POST", "blob", content=content, headers=headers)
    else:
        reply = world.api(WHO[role], "POST", type_name, SUBJECTS[type_name].body(world))
    if type_name == "session":  # anybody may try; whose key it is, is another question
        return "invalid credentials for 'credential/" in reply.text
    return reply.status_code == 201


def _further(name: str) -> Try:
    def works(world: World, type_name: str, role: str) -> bool:
        resource = world.one(type_name)
        reply = SUBJECTS[type_name].calls[name](world, WHO[role], resource)
        assert reply.status_code in (200, 201, 403, 404)
        return reply.status_code < 300

    return works


def _described(_type_name: str) -> Mapping[str, Any]:
    return {"description": "changed"}


def _shared(_type_name: str) -> Mapping[str, Any]:
    return {"acl": normalise({**ACL, "manage": ["user/manage", "user/new"]})}


_TRIES: Final[Mapping[str, Try]] = {
    "find": _find,
    "read": _reads(lambda _: "id"),
    "read-data": _reads(lambda type_name: SUBJECTS[type_name].data),
    "read-acl": _reads(lambda _: "acl"),
    "edit-meta": _edits(_described),
    "edit-data": _edits(lambda type_name: SUBJECTS[type_name].edit),
    "edit-acl": _edits(_shared),
    "delete": _deletes(_delete),
    "bulk-delete": _deletes(_bulk_delete),
    "add": _add,
}

_READS: Final = frozenset({"find", "read", "read-data", "read-acl", "content", "log"})
"""What leaves a resource as it was."""
_ENTRIES: Final[Mapping[str, Any]] = {"entries": []}
_ENGINE_CALLS: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    ("POST", "claim"): {"body": {"executor": "e", "actions": [], "claims": []}},
    ("POST", "report"): {"body": {"executor": "e", "reports": []}},
    ("PUT", "actions"): {"body": {"actions": []}},
    ("POST", "token"): {"body": {"job": "job/x", "fence": [1, 1]}},
    ("POST", "cleanup"): {"body": {"older_than_s": 1e6}},
    ("GET", "feed"): {"params": {"action": "none", "window": 1}},
    ("POST", "pushed"): {"body": _ENTRIES},
    ("POST", "cleared"): {"body": _ENTRIES},
    ("GET", "entries"): {"params": {"action": "none"}},
    ("POST", "incarnation"): {"body": {}},
    ("POST", "schedule"): {"body": {"action": "none", "tick_ms": 1}},
    ("POST", "orphans"): {"body": {"live_actions": [], "grace_s": 1e6}},
    ("POST", "sweep"): {},
    ("GET", "shares"): {},
    ("PUT", "shares"): {"body": {"name": "course/x", "weight": 1}},
    ("GET", "actions"): {},
    ("GET", "foreign"): {"params": {"action": "none", "silent_s": 60}},
    ("POST", "foreign"): {"body": {"runs": []}},
    ("POST", "cancel-children"): {"body": {"job": "job/x"}},
    ("POST", "webhooks/take"): {"body": {"job": "job/x", "fence": [1, 1]}},
    ("POST", "webhooks/results"): {"body": {"job": "job/x", "fence": [1, 1], "results": []}},
}
