"""JSON Schemas of documents, collections and answers."""

from __future__ import annotations

from typing import Any, Final

from job_engine.api.schema import Common
from job_engine.api.types.base import ResourceType

Json = dict[str, Any]

REF: Final = "#/components/schemas/{model}"
STRING: Final[Json] = {"type": "string"}
_STRINGS: Final[Json] = {"type": "array", "items": STRING}
LINKS: Final[Json] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"rel": STRING, "href": STRING},
        "required": ["rel", "href"],
    },
}

COMMON: Final[dict[str, Json]] = {
    "error": {
        "type": "object",
        "description": "What went wrong. `status` is the HTTP status once more.",
        "properties": {
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "message": STRING,
            "resource-id": STRING,
            "errors": {
                "type": "array",
                "description": "Of a document that will not do: every attribute, by its path, "
                "and what was expected of it.",
                "items": {
                    "type": "object",
                    "properties": {"attribute": STRING, "message": STRING},
                    "required": ["attribute", "message"],
                    "additionalProperties": False,
                },
            },
            "not-ready": _STRINGS,
        },
        "required": ["status", "message"],
        "additionalProperties": False,
    },
    "status": {
        "type": "object",
        "description": "What became of a resource.",
        "properties": {
            "status": {"type": "integer"},
            "message": STRING,
            "resource-id": STRING,
        },
        "required": ["status", "message", "resource-id"],
        "additionalProperties": False,
    },
    "created": {
        "type": "object",
        "description": "What was created. A secret is shown here, and never again.",
        "properties": {
            "status": {"const": 201},
            "message": STRING,
            "resource-id": STRING,
            "secret-key": STRING,
            "secret": STRING,
            "digest": STRING,
            "size": {"type": "integer"},
        },
        "required": ["status", "message", "resource-id"],
    },
    "created-many": {
        "type": "object",
        "properties": {
            "status": {"const": 201},
            "message": STRING,
            "resource-ids": {**_STRINGS, "minItems": 1},
        },
        "required": ["status", "message", "resource-ids"],
        "additionalProperties": False,
    },
    "bulk-deleted": {
        "type": "object",
        "description": "What a bulk delete did, as clients of CIMI know it.",
        "properties": {
            "took": {"type": "integer", "description": "Milliseconds."},
            "total": {"type": "integer", "minimum": 0},
            "deleted": {"type": "integer", "minimum": 0},
            "timed_out": {"type": "boolean"},
            "failures": {"type": "array", "items": {}},
        },
        "required": ["total", "deleted", "timed_out", "failures"],
    },
    "log": {
        "type": "object",
        "properties": {
            "lines": _STRINGS,
            "next": {"type": "integer", "description": "The `after` of the next page."},
        },
        "required": ["lines", "next"],
        "additionalProperties": False,
    },
    "search": {
        "type": "object",
        "properties": {
            "first": {"type": "integer"},
            "last": {"type": "integer"},
            "filter": STRING,
            "orderby": STRING,
            "select": STRING,
            "aggregation": STRING,
        },
    },
}


def ref(name: str) -> Json:
    """Return the reference to a component."""
    return {"$ref": REF.format(model=name)}


def of_type(kind: ResourceType) -> dict[str, Json]:
    """Return the components of a type: documents, bodies of an add, and pages."""
    schema = kind.schema.model_json_schema(ref_template=REF)
    nested: dict[str, Json] = schema.pop("$defs", {})
    properties = {name: _without_null(value) for name, value in schema["properties"].items()}
    # A type that names no schema of its own may have any attributes.
    open_ = kind.schema is Common or bool(schema.get("additionalProperties", True))
    described = {
        "type": "object",
        "description": schema.get("description", ""),
        "properties": properties,
        "additionalProperties": open_,
    }
    return {
        **{name: _without_nulls(value) for name, value in nested.items()},
        # Callers with fewer rights, or a `select`, get fewer attributes.
        kind.name: {**described, "required": ["id"]},
        f"{kind.name}-edit": described,
        f"{kind.name}-new": {**described, "required": list(kind.asked)},
        f"{kind.name}-collection": _collection(kind),
    }


def template_of(name: str) -> Json:
    """Return the schema of an add from a template."""
    return {
        "type": "object",
        "properties": {
            "template": {
                "type": "object",
                "description": f"One of `/api/{name}-template`, by its `href`, and its attributes.",
                "properties": {"href": {"type": "string", "pattern": f"^{name}-template/"}},
                "required": ["href"],
            },
            "name": STRING,
            "description": STRING,
            "tags": _STRINGS,
            "parent": STRING,
            "acl": {"type": "object"},
        },
        "required": ["template"],
        "additionalProperties": False,
    }


def _collection(kind: ResourceType) -> Json:
    return {
        "type": "object",
        "properties": {
            "count": {"type": "integer", "minimum": 0},
            "acl": {"type": "object", "additionalProperties": _STRINGS},
            "resource-type": {"const": f"{kind.name}-collection"},
            "id": {"const": kind.name},
            "resources": {"type": "array", "items": ref(kind.name)},
            "aggregations": {"type": "object"},
            "operations": LINKS,
        },
        "required": ["count", "acl", "resource-type", "id", "resources"],
        "additionalProperties": False,
    }


def _without_nulls(schema: Json) -> Json:
    properties = schema.get("properties", {})
    cleaned = {name: _without_null(value) for name, value in properties.items()}
    return {**schema, "properties": cleaned} if properties else schema


def _without_null(schema: Json) -> Json:
    """Return the schema of an attribute that may be missing, and is never null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    rest = {k: v for k, v in schema.items() if k not in ("anyOf", "default", "title")}
    if len(options) == 1:
        return {**rest, **options[0]}
    return {**rest, "anyOf": options} if options else rest
