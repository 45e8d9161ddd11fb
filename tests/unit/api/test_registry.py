"""A further resource type is one small class: what docs/resource-types.md shows works."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from job_engine.api.app import create_app
from job_engine.api.registry import make_registry
from job_engine.api.types.base import ResourceType
from job_engine.errors import ConfigurationError
from job_engine.settings import ApiSettings
from tests.unit.api.support import ADMIN, JANE, JOE, TEACHER

PAGE = Path(__file__).parents[3] / "docs" / "resource-types.md"


def course_type() -> type[ResourceType]:
    """The type of the page's example."""
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "course"}
    exec(compile(example, str(PAGE), "exec", dont_inherit=True), names)
    kind = names["CourseType"]
    assert issubclass(kind, ResourceType)
    found: type[ResourceType] = kind
    return found


def test_the_pages_example_is_a_resource_like_any_other(tmp_path: Path) -> None:
    settings = ApiSettings(data_dir=tmp_path, trusted_peers=["127.0.0.1"])
    app = create_app(settings, types=[course_type()])

    async def run() -> None:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://api") as client,
        ):
            await _use_courses(client)

    asyncio.run(run())


async def _use_courses(client: httpx.AsyncClient) -> None:
    async def ask(who: str, method: str, path: str, body: Any = None) -> Any:
        headers = {"nuvla-authn-info": who}
        reply = await client.request(method, f"/api/{path}", json=body, headers=headers)
        return reply.json() | {"http": reply.status_code}

    entry_point = await ask("", "GET", "cloud-entry-point")
    assert entry_point["collections"]["course"] == {"href": "course"}
    body = {"name": "Algorithms", "term": "2026"}
    assert (await ask(JANE, "POST", "course", body))["http"] == 403
    assert (await ask(TEACHER, "POST", "course", {**body, "odd": 1}))["http"] == 400
    acl = {"owners": ["user/t"], "view-data": ["user/jane"]}
    course = (await ask(TEACHER, "POST", "course", {**body, "acl": acl}))["resource-id"]
    assert (await ask(JANE, "GET", course))["term"] == "2026"
    assert (await ask(JOE, "GET", course))["http"] == 403
    assert (await ask(JANE, "PUT", course, {"term": "2027"}))["http"] == 403
    assert (await ask(TEACHER, "PUT", course, {"term": "2027"}))["term"] == "2027"
    for who, count in ((JANE, 1), (JOE, 0)):
        assert (await ask(who, "GET", "course?filter=term='2027'"))["count"] == count
    found = await ask(JANE, "GET", f"event?filter=content/resource/href='{course}'")
    assert {event["name"] for event in found["resources"]} == {"course.add", "course.edit"}
    assert (await ask(ADMIN, "DELETE", course))["http"] == 200


def test_types_are_found_where_they_are() -> None:
    registry = make_registry()
    assert {"job", "user", "session", "credential", "group", "event", "blob"} <= registry.keys()
    assert all(kind.name == name for name, kind in registry.items())


def test_two_types_of_one_name_stop_the_start() -> None:
    class Another(ResourceType):
        name = "job"

    with pytest.raises(ConfigurationError, match="'job'"):
        make_registry([Another])
