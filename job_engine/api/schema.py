"""Schemas of documents: closed, strict, with kebab-case names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from job_engine.api.errors import ProblemsError
from job_engine.errors import InvalidResourceError
from job_engine.model.timestamps import parse_ms


def _timestamp(text: str) -> str:
    parse_ms(text)
    return text


def distinct(items: list[str]) -> list[str]:
    """Return a list without duplicates. Raises `ValueError` for one that has them."""
    if len(set(items)) != len(items):
        raise ValueError("must not have duplicates")
    return items


def _no_null(value: Any) -> Any:
    if value is None:
        raise ValueError("must not be null; leave it out, or delete it with ?select=")
    return value


_NON_BLANK: Final = r"\S"
_HREF: Final = r"^[a-z]([a-z-]*[a-z])?(/[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?)?$"
_JOB_HREF: Final = r"^job/[a-z0-9]+(-[a-z0-9]+)*$"
_SHAPES: Final[Mapping[str, str]] = {
    _NON_BLANK: "must not be empty or blank",
    _HREF: "must be a reference: a type in small letters, or type/id, as course/1",
    _JOB_HREF: "must be the id of a job, as job/5b6a4c58-0b0c-4d35-8c3b-4d1c6cbd2b0a",
}
"""Error message for a text that does not match a pattern, by pattern."""

NonBlank = Annotated[str, StringConstraints(pattern=_NON_BLANK)]
Href = Annotated[str, StringConstraints(pattern=_HREF)]
JobHref = Annotated[str, StringConstraints(pattern=_JOB_HREF)]
Timestamp = Annotated[str, AfterValidator(_timestamp)]
Tags = Annotated[list[str], AfterValidator(distinct)]
Given = BeforeValidator(_no_null)
"""Marks an optional attribute for which JSON null is an error, not the same as absent."""


class Schema(BaseModel):
    """Strict: 50.0 is no integer. Closed: an unknown attribute is an error."""

    model_config = ConfigDict(
        strict=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-")
    )


class Common(Schema):
    """The common attributes of documents; the server sets some of them."""

    id: Href
    resource_type: NonBlank
    created: Timestamp
    updated: Timestamp
    acl: dict[str, Any]
    created_by: Annotated[NonBlank | None, Given] = None
    updated_by: Annotated[NonBlank | None, Given] = None
    name: Annotated[NonBlank | None, Given] = None
    description: Annotated[str | None, Given] = None
    tags: Annotated[Tags | None, Given] = None
    parent: Annotated[Href | None, Given] = None
    resource_metadata: Annotated[Href | None, Given] = None
    subtype: Annotated[NonBlank | None, Given] = None
    operations: Annotated[list[dict[str, Any]] | None, Given] = None


class Reference(BaseModel):
    """An object with an `href`; further keys are allowed."""

    model_config = ConfigDict(strict=True, extra="allow")

    href: Href


_References = Annotated[list[Reference], Field(min_length=1)]


class Callback(Schema):
    """A webhook of a job, and the states that it reports (docs/webhooks.md)."""

    url: NonBlank
    secret: Annotated[str, StringConstraints(pattern=r"^webhook-secret/[0-9a-f-]{36}$")]
    states: Annotated[
        list[Literal["RUNNING", "SUCCESS", "FAILED", "CANCELED"]] | None,
        Given,
        Field(min_length=1),
    ] = None


class JobSchema(Common):
    """A job (docs/cimi.md §3.1)."""

    state: Literal["QUEUED", "RUNNING", "FAILED", "CANCELED", "SUCCESS"]
    action: NonBlank
    execution_mode: Literal["push", "pull", "mixed"]
    version: Annotated[int, Field(ge=0, le=2**31 - 1)]
    progress: Annotated[int, Field(ge=0, le=100)]
    target_resource: Annotated[Reference | None, Given] = None
    affected_resources: Annotated[_References | None, Given] = None
    priority: Annotated[int | None, Given, Field(ge=0, le=999)] = None
    return_code: Annotated[int | None, Given, Field(ge=0, le=2**53)] = None
    status_message: Annotated[str | None, Given] = None
    time_of_status_change: Annotated[Timestamp | None, Given] = None
    started: Annotated[Timestamp | None, Given] = None
    duration: Annotated[int | None, Given, Field(ge=0, le=2**53)] = None
    expiry: Annotated[Timestamp | None, Given] = None
    not_before: Annotated[Timestamp | None, Given] = None
    max_attempts: Annotated[int | None, Given, Field(ge=1, le=1000)] = None
    callbacks: Annotated[list[Callback] | None, Given, Field(min_length=1, max_length=10)] = None
    resubmitted_from: Annotated[JobHref | None, Given] = None
    parent_job: Annotated[JobHref | None, Given] = None
    nested_jobs: Annotated[list[JobHref] | None, Given] = None
    output: Annotated[NonBlank | None, Given] = None
    payload: Annotated[NonBlank | None, Given] = None


class JobDocument(JobSchema):
    """A job as it is read, with attributes that are computed while it waits, never stored."""

    queue_position: Annotated[int | None, Given, Field(ge=1)] = None
    estimated_wait: Annotated[int | None, Given, Field(ge=0)] = None


def validate(schema: type[Schema], document: dict[str, Any], resource_id: str | None = None) -> Any:
    """Check a document. Raises `InvalidResourceError` with a line for each invalid attribute."""
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise invalid(_lines(error), resource_id) from error


def invalid(lines: Iterable[str], resource_id: str | None = None) -> InvalidResourceError:
    """Return the error for a document that does not satisfy its schema.

    Each line names an attribute by its path, and says what was expected: `a/b: is required`.
    """
    subject = f"resource {resource_id}" if resource_id else "resource"
    return ProblemsError(f"{subject} does not satisfy defined schema:", list(lines))


PLACEHOLDER_TIMES: Final = dict.fromkeys(("created", "updated"), "2000-01-01T00:00:00.000Z")
"""Attributes that the store sets, for validating a document before it is stored."""
MOST_PROBLEMS: Final = 100
"""Problems of one document that an error lists."""


def _lines(error: ValidationError) -> Iterable[str]:
    problems = error.errors(include_url=False, include_input=False)
    for item in problems[:MOST_PROBLEMS]:
        where = "/".join(str(part) for part in item["loc"]) or "body"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown attribute"
        elif item["type"] == "missing":
            message = "is required"
        elif item["type"] == "string_pattern_mismatch":
            message = _SHAPES.get(item["ctx"]["pattern"], message)
        yield f"{where}: {message}"
