"""Edits by JSON Patch (RFC 6902), of what their sender sees."""

from __future__ import annotations

import json
from typing import Any

import pytest
from httpx import Response

from job_engine.api.json_patch import MAX_COPIED_BYTES, apply_patch, parse_patch
from job_engine.errors import InvalidResourceError
from tests.unit.api.support import ADMIN, ADMIN_PASSWORD, JANE, LMS, Client, refused

DOCUMENT: dict[str, Any] = {"name": "a", "tags": ["x", "y"], "of": {"a/b": 1, "m~n": [True]}}


def patched(*operations: Any) -> Any:
    """What a patch makes of the document."""
    return apply_patch(DOCUMENT, parse_patch(list(operations)))


def patch(api: Client, who: str, resource_id: str, *operations: Any) -> Response:
    """Send a patch."""
    headers = {"content-type": "application/json-patch+json"}
    return api(who, "PUT", resource_id, content=json.dumps(operations), headers=headers)


@pytest.mark.parametrize(
    ("operation", "changed"),
    [
        ({"op": "add", "path": "/tags/1", "value": "z"}, {"tags": ["x", "z", "y"]}),
        ({"op": "add", "path": "/tags/-", "value": "z"}, {"tags": ["x", "y", "z"]}),
        ({"op": "add", "path": "/tags/2", "value": "z"}, {"tags": ["x", "y", "z"]}),
        ({"op": "add", "path": "/name", "value": None}, {"name": None}),
        ({"op": "remove", "path": "/of/a~1b"}, {"of": {"m~n": [True]}}),
        ({"op": "replace", "path": "/of/m~0n/0", "value": 2}, {"of": {"a/b": 1, "m~n": [2]}}),
        ({"op": "move", "from": "/tags/0", "path": "/tags/1"}, {"tags": ["y", "x"]}),
        ({"op": "copy", "from": "/tags", "path": "/more"}, {"more": ["x", "y"]}),
        ({"op": "test", "path": "/of/a~1b", "value": 1.0}, {}),
    ],
)
def test_operations(operation: Any, changed: Any) -> None:
    assert patched(operation) == {**DOCUMENT, **changed}


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        ({"op": "add", "path": "/a/b", "value": 1}, "0/add: leads to nothing"),
        ({"op": "add", "path": "/tags/3", "value": 1}, "0/add: leads to nothing"),
        ({"op": "add", "path": "/tags/01", "value": 1}, "0/add: leads to nothing"),
        ({"op": "add", "path": "/name/x", "value": 1}, "0/add: leads to nothing"),
        ({"op": "replace", "path": "/tags/-", "value": 1}, "0/replace: leads to nothing"),
        ({"op": "remove", "path": "/no"}, "0/remove: leads to nothing"),
        ({"op": "remove", "path": "/name/x"}, "0/remove: leads to nothing"),
        ({"op": "move", "from": "/name/x", "path": "/x"}, "0/move: leads to nothing"),
        ({"op": "remove", "path": ""}, "what is left is no JSON object"),
        ({"op": "move", "from": "/of", "path": "/of/x"}, "0/path: is inside of what is moved"),
        ({"op": "add", "path": "name", "value": 1}, "0/path: must be a JSON Pointer"),
        ({"op": "add", "path": "/name"}, "0/value: is required"),
        ({"op": "copy", "path": "/name"}, "0/from: is required"),
        ({"op": "merge", "path": "/name"}, "0/op: must be one of"),
        ("add", "0/op: must be one of"),
    ],
)
def test_invalid_patches_are_refused(operation: Any, problem: str) -> None:
    with pytest.raises(InvalidResourceError, match=problem):
        patched(operation)


def test_copies_have_a_limit() -> None:
    doubled = [{"op": "copy", "from": "/of", "path": f"/of/{n}"} for n in range(100)]
    with pytest.raises(InvalidResourceError, match=f"more than {MAX_COPIED_BYTES} bytes"):
        patched(*doubled)


def test_a_job_is_patched(api: Client) -> None:
    job = api.add_job(name="a", description="d", target_resource={"href": "a/b"})
    reply = patch(
        api,
        ADMIN,
        job,
        {"op": "test", "path": "/name", "value": "a"},
        {"op": "replace", "path": "/name", "value": "b"},
        {"op": "remove", "path": "/description"},
        {"op": "add", "path": "/tags", "value": ["week-3"]},
    )
    assert reply.status_code == 200, reply.text
    assert (reply.json()["name"], reply.json()["tags"]) == ("b", ["week-3"])
    assert "description" not in api.get(job)
    lost = patch(api, ADMIN, job, {"op": "test", "path": "/name", "value": "a"})
    refused(lost, 409, "found another value")
    nested = [{"op": "copy", "from": "/target-resource", "path": "/target-resource/x"}] * 110
    refused(patch(api, ADMIN, job, *nested), 400, "nested too deep")
    refused(patch(api, ADMIN, job, {"op": "remove", "path": "/action"}), 400, "is required")
    refused(api(ADMIN, "PUT", job, [{"op": "remove", "path": "/name"}]), 400, "JSON object")


def test_rights_hold_for_patches_too(api: Client) -> None:
    acl = {"owners": ["group/nuvla-admin"], "edit-meta": ["user/jane"]}
    job = api.add_job(name="a", payload="secret", acl=acl)
    name, payload = (
        {"op": "replace", "path": f"/{key}", "value": "b"} for key in ("name", "payload")
    )
    assert patch(api, JANE, job, name).json()["name"] == "b"
    refused(patch(api, JANE, job, payload), 400, "leads to nothing")
    refused(patch(api, JANE, job, {"op": "copy", "from": "/payload", "path": "/name"}), 400, "")
    added = {"op": "add", "path": "/payload", "value": "mine"}
    assert patch(api, JANE, job, added).status_code == 200
    assert api.get(job)["payload"] == "secret"
    refused(patch(api, LMS, job, name), 403, "invalid credentials")


def test_a_patch_is_no_way_to_store_a_password(api: Client) -> None:
    template = {"href": "user-template/username-password", "username": "patched"}
    body = {"template": {**template, "password": ADMIN_PASSWORD}}
    user = api(ADMIN, "POST", "user", body).json()["resource-id"]
    stored = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA"
    refused(patch(api, ADMIN, user, {"op": "add", "path": "/password", "value": stored}), 400, "")
    suspended = {"op": "replace", "path": "/state", "value": "SUSPENDED"}
    assert patch(api, ADMIN, user, suspended).json()["state"] == "SUSPENDED"
