"""Putting the OpenAPI document together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from job_engine.api.openapi import cimi
from job_engine.api.openapi.answers import answer, errors
from job_engine.api.openapi.schemas import COMMON, REF, Json, of_type, template_of
from job_engine.api.services import COOKIE
from job_engine.api.types.base import ResourceType
from job_engine.model.protocol.claims import LogRequest


def describe(app: FastAPI, registry: Mapping[str, ResourceType]) -> Json:
    """Return the OpenAPI document of the application."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    for item in document["paths"].values():
        for operation in item.values():
            operation["responses"] = _completed(operation)
    for path, item in cimi.paths(registry).items():
        # What a route of its own describes, such as an upload, it knows best.
        document["paths"][path] = {**item, **document["paths"].get(path, {})}
    components: dict[str, Any] = document.setdefault("components", {})
    schemas: Json = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _, messages = models_json_schema([(LogRequest, "validation")], ref_template=REF)
    schemas |= messages["$defs"] | COMMON
    for name, kind in registry.items():
        schemas |= of_type(kind)
        if f"{name}-template" in registry:
            schemas[f"{name}-new"] = template_of(name)
    components["securitySchemes"] = {
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }
    document["security"] = [{}, {"session": []}]
    return document


def _completed(operation: Json) -> Json:
    """Return a FastAPI operation with the errors that it may answer."""
    responses = {key: value for key, value in operation["responses"].items() if key != "422"}
    for status, response in responses.items():
        if status.isdecimal():
            response["headers"] = answer(int(status), None)["headers"]
    return {**errors((), body="requestBody" in operation), **responses}
