"""The CIMI operations of every resource type (docs/cimi.md §1.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from job_engine.api.openapi.answers import answer, document, errors
from job_engine.api.openapi.schemas import STRING, Json, ref
from job_engine.api.types.base import ResourceType
from job_engine.api.types.entry_point import ENTRY_POINT

_ID: Final[Json] = {
    "name": "uuid",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$"},
}
_BULK: Final[Json] = {
    "name": "bulk",
    "in": "header",
    "description": "That it is there is what counts.",
    "schema": STRING,
}
_KEY: Final[Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same request with the same key creates once, for 24 hours.",
    "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
}
_IF_MATCH: Final[Json] = {
    "name": "If-Match",
    "in": "header",
    "description": "The `ETag` of what this is meant for: what has changed since is left alone.",
    "schema": STRING,
}
_IF_NONE_MATCH: Final[Json] = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The `ETag` of what is known: where it is still that, the answer is 304.",
    "schema": STRING,
}
_FILTER: Final = "Which documents, in CIMI's filter language: `state='FAILED' and tags='a'`."
_SELECT: Final[Json] = {
    "name": "select",
    "in": "query",
    "description": "Attributes to answer, separated by commas; `id` always is.",
    "schema": STRING,
}
_SEARCH: Final[list[Json]] = [
    {"name": name, "in": "query", "description": text, "schema": schema}
    for name, text, schema in (
        ("first", "Number of the first document, from 1.", {"type": "integer", "default": 1}),
        ("last", "Number of the last document, at most 10,000; 0: none.", {"type": "integer"}),
        ("filter", _FILTER, STRING),
        ("orderby", "Attributes, each with `:asc` or `:desc`.", STRING),
        ("aggregation", "What to compute over all that match: `terms:state`.", STRING),
    )
] + [_SELECT]
_AFTER: Final[Json] = {
    "name": "after",
    "in": "query",
    "description": "Line after which to go on.",
    "schema": {"type": "integer", "minimum": 0, "default": 0},
}


def paths(registry: Mapping[str, ResourceType]) -> Json:
    """Return the paths of every type, and of the cloud entry point."""
    found: Json = {f"/api/{ENTRY_POINT}": {"get": _entry_point()}}
    for name, kind in registry.items():
        templated = f"{name}-template" in registry
        found[f"/api/{name}"] = _on_collection(name, kind, templated=templated)
        found[f"/api/{name}/{{uuid}}"] = _on_resource(name, kind)
        for operation in kind.operations():
            found[f"/api/{name}/{{uuid}}/{operation}"] = _on_operation(name, operation)
    return {path: item for path, item in found.items() if item}


def _on_collection(name: str, kind: ResourceType, *, templated: bool) -> Json:
    page = {"200": answer(200, ref(f"{name}-collection"))}
    item: Json = {}
    if kind.knows("query"):
        item["get"] = _operation(
            name,
            f"search-{name}",
            "Search.",
            {**page, **errors((), body=False)},
            parameters=_SEARCH,
        )
        form = {"application/x-www-form-urlencoded": {"schema": ref("search")}}
        item["put"] = _operation(
            name,
            f"search-{name}-by-form",
            "Search, with the parameters in a form.",
            {**page, **errors((), body=True)},
            body=form,
        )
    if kind.knows("add"):
        item["post"] = _add(name, templated=templated)
    if kind.knows("bulk_delete"):
        item["delete"] = _operation(
            name,
            f"delete-many-{name}",
            "Delete what matches `filter`; needs the header `bulk`.",
            {"200": answer(200, ref("bulk-deleted")), **errors((), body=False)},
            parameters=[
                {**_BULK, "required": True},
                {"name": "filter", "in": "query", "description": _FILTER, "schema": STRING},
            ],
        )
    return item


def _add(name: str, *, templated: bool) -> Json:
    schema, made, statuses = ref(f"{name}-new"), ref("created"), [404, 409]
    parameters: list[Json] = []
    if name == "job":
        many = {
            "type": "object",
            "description": "With the header `bulk`: all of them, or none.",
            "properties": {"jobs": {"type": "array", "items": schema, "minItems": 1}},
            "required": ["jobs"],
        }
        schema, made = {"anyOf": [schema, many]}, {"anyOf": [made, ref("created-many")]}
        parameters = [_BULK, _KEY]
        statuses.append(422)
    content = {"application/json": {"schema": schema}}
    text = "Add one, from a template." if templated else "Add one."
    return _operation(
        name,
        f"add-{name}",
        text,
        {"201": answer(201, made), **errors(statuses, body=True)},
        parameters=parameters,
        body=content,
        required=True,
    )


def _on_resource(name: str, kind: ResourceType) -> Json:
    whole = {"200": document(name)}
    item: Json = {}
    if kind.knows("get"):
        item["get"] = _operation(
            name,
            f"get-{name}",
            "Read one.",
            {**whole, "304": answer(304, None), **errors((404,), body=False)},
            parameters=[_ID, _SELECT, _IF_NONE_MATCH],
        )
    if kind.knows("edit"):
        removed = {**_SELECT, "description": "Attributes to delete, before the body is merged."}
        item["put"] = _operation(
            name,
            f"edit-{name}",
            "Edit: the body is merged into the document. A JSON Patch (RFC 6902) is taken too, "
            "as application/json-patch+json.",
            {**whole, **errors((404, 409, 412), body=True)},
            parameters=[_ID, removed, _IF_MATCH],
            # A second content type is left to the summary: generators make no client of two.
            body={"application/json": {"schema": ref(f"{name}-edit")}},
            required=True,
        )
    if kind.knows("delete"):
        item["delete"] = _operation(
            name,
            f"delete-{name}",
            "Delete one.",
            {"200": answer(200, ref("status")), **errors((404, 409, 412), body=False)},
            parameters=[_ID, _IF_MATCH],
        )
    return item


def _on_operation(name: str, operation: str) -> Json:
    """Describe an operation; one that is not known here answers an object."""
    anything = {"200": answer(200, {"type": "object"})}
    unknown = (f"The operation `{operation}`.", anything)
    text, answers = _known_operations(document(name)).get(operation, unknown)
    parameters, statuses = [_ID], [404, 409]
    if operation in _FURTHER:
        parameter, status = _FURTHER[operation]
        parameters.append(parameter)
        statuses.append(status)
    body: Json | None = None
    if operation == "log":
        body = {"application/json": {"schema": ref("LogRequest")}}
    item = {
        "post": _operation(
            name,
            f"{operation}-{name}",
            text,
            {**answers, **errors(statuses, body=True)},
            parameters=parameters,
            body=body,
        )
    }
    if operation == "log":
        item["get"] = _operation(
            name,
            f"read-{operation}-{name}",
            "Read lines.",
            {"200": answer(200, ref("log")), **errors((404,), body=False)},
            parameters=[_ID, _AFTER],
        )
    return item


_FURTHER: Final[Mapping[str, tuple[Json, int]]] = {
    "cancel": (_IF_MATCH, 412),
    "timeout": (_IF_MATCH, 412),
    "resubmit": (_KEY, 422),
}
"""The body of operations that take one, and the status for an invalid one."""


def _known_operations(whole: Json) -> Mapping[str, tuple[str, dict[str, Json]]]:
    """Return the summary and responses of each; `whole` is the response with the document."""
    return {
        "cancel": ("End it: what waits does not run, what runs is stopped.", {"200": whole}),
        "timeout": ("End one that runs.", {"200": whole}),
        "resubmit": ("Send it again.", {"201": answer(201, ref("created"))}),
        "log": (
            "Add lines, with the token of a claim as `Authorization: Bearer`.",
            {"200": answer(200, ref("status"))},
        ),
        "switch-group": ("Act as one of the session's groups, or its user.", {"200": whole}),
        "get-groups": (
            "Read which groups the session may act as.",
            {"200": answer(200, {"type": "array", "items": {"type": "object"}})},
        ),
        "get-peers": (
            "Read who shares a group with the session's user: names by ids.",
            {"200": answer(200, {"type": "object", "additionalProperties": STRING})},
        ),
        "change-password": (
            "Replace `current-password` by `new-password`.",
            {"200": answer(200, ref("status"))},
        ),
    }


def _entry_point() -> Json:
    schema = {
        "type": "object",
        "properties": {
            "base-uri": STRING,
            "collections": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {"href": STRING},
                    "required": ["href"],
                },
            },
        },
        "required": ["id", "base-uri", "collections"],
    }
    answers = {"200": answer(200, schema), **errors((), body=False)}
    return _operation(ENTRY_POINT, ENTRY_POINT, "Which collections there are.", answers)


def _operation(
    tag: str,
    operation_id: str,
    summary: str,
    responses: Json,
    *,
    parameters: list[Json] | None = None,
    body: Json | None = None,
    required: bool = False,
) -> Json:
    described: dict[str, Any] = {
        "tags": [tag],
        "operationId": operation_id,
        "summary": summary,
        "parameters": parameters or [],
        "responses": responses,
    }
    if body is not None:
        described["requestBody"] = {"content": body, "required": required}
    return described
