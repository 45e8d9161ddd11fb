"""Drives an unmodified `nuvla-api` by orders on standard input, in that release's environment.

It imports nothing of this project: an order and its answer are a line of JSON each. An
order names a method of the client, or of one of the package's resource helpers
(`user.login_password`), with its arguments; `{"$get": id, …}` as an argument is a resource
to be read first. `new` makes the client, and `attribute` reads one of its attributes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import requests
from nuvla.api import Api
from nuvla.api.api import NuvlaError
from nuvla.api.models import CimiCollection, CimiResource, CimiResponse
from nuvla.api.resources.base import ResourceBase
from nuvla.api.resources.user import User
from nuvla.api.util.date import parse_nuvla_date
from nuvla.api.util.filter import filter_and, filter_or


class Jobs(ResourceBase):  # type: ignore[misc]
    """The package's own helper, for jobs."""

    resource = "job"


class Program:
    """One client, and what is asked of it."""

    def __init__(self) -> None:
        self.api: Any = None
        self.functions: dict[str, Any] = {
            "filter_and": filter_and,
            "filter_or": filter_or,
            "parse_nuvla_date": lambda text: parse_nuvla_date(text).isoformat(),
        }

    def obey(self, order: dict[str, Any]) -> Any:
        """Do what an order says, and return what it gave."""
        name = order["do"]
        args = [self.argument(value) for value in order.get("args", [])]
        kwargs = order.get("kwargs", {})
        if name == "new":
            self.api = Api(*args, **kwargs)
            return None
        if name == "attribute":
            return self.read(self.api, args[0])
        if name in self.functions:
            return self.functions[name](*args, **kwargs)
        target = self.api
        if "." in name:
            helper, _, name = name.partition(".")
            target = {"jobs": Jobs, "user": User}[helper](self.api)
        return getattr(target, name)(*args, **kwargs)

    def argument(self, value: Any) -> Any:
        """Return an argument, read from the API where it asks for that."""
        if isinstance(value, dict) and "$get" in value:
            return self.api.get(value["$get"], **value.get("with", {}))
        return value

    def read(self, target: Any, path: str) -> Any:
        """Return an attribute, or one of an attribute's."""
        for name in path.split("."):
            target = getattr(target, name)
        return target


def shown(value: Any) -> Any:
    """Make JSON of what a client hands out."""
    if isinstance(value, CimiCollection):
        return {
            "id": value.id,
            "count": value.count,
            "resources": [shown(resource) for resource in value],
            "operations": sorted(value.operations),
            "data": value.data,
        }
    if isinstance(value, CimiResource):
        return {
            "id": value.id,
            "resource_type": value.resource_type,
            "operations": value.operations,
            "data": value.data,
        }
    if isinstance(value, CimiResponse):
        return {"data": value.data}
    if isinstance(value, requests.Response):
        return {"status": value.status_code, "body": value.json()}
    if isinstance(value, Api):  # 4.x's helper hands out itself where 3.x's tells the session
        return None
    return value


def failed(error: Exception) -> dict[str, Any]:
    """Make JSON of what a client raised."""
    error_data: dict[str, Any] = {
        "type": type(error).__name__,
        "text": str(error),
        "is_key_error": False,
    }
    if isinstance(error, KeyError):
        error_data["is_key_error"] = True
    if isinstance(error, NuvlaError):
        error_data["reason"] = error.reason
        error_data["status"] = None if error.response is None else error.response.status_code
    return error_data


def main() -> None:
    """Answer orders until there are no more."""
    program = Program()
    for line in sys.stdin:
        try:
            answer = {"value": shown(program.obey(json.loads(line)))}
        except Exception as error:  # noqa: BLE001 - whatever it is, the test decides about it
            answer = {"error": failed(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
