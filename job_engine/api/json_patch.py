"""JSON Patch (RFC 6902): edits of the content type `application/json-patch+json`.

A patch is applied in the store's writer, for which all other writes wait. So the number of
operations and the bytes that `copy` makes are limited.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from job_engine.api.errors import ProblemsError
from job_engine.errors import ConflictError, InvalidResourceError

MAX_OPERATIONS: Final = 200
MAX_COPIED_BYTES: Final = 2**20
_NEEDS: Final = {
    "add": "value",
    "replace": "value",
    "test": "value",
    "move": "from",
    "copy": "from",
    "remove": "path",
}
"""Key that each operation needs beside `path`."""
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_ROOT: Final = ""


class PatchTestError(ConflictError):
    """A `test` of the patch found another value; nothing was changed."""


@dataclass(frozen=True)
class Step:
    """One operation. A path is a JSON Pointer's parts; the first one, "", is the document."""

    number: int
    name: str
    path: Sequence[str]
    source: Sequence[str]
    value: Any


def parse_patch(patch: Any) -> Sequence[Step]:
    """Parse a patch. Raises `InvalidResourceError` for an invalid one."""
    if not isinstance(patch, list):
        raise _invalid("a JSON Patch is a list of operations")
    if len(patch) > MAX_OPERATIONS:
        raise _invalid(f"it has more than {MAX_OPERATIONS} operations")
    return [_step(number, item) for number, item in enumerate(patch)]


def apply_patch(document: dict[str, Any], steps: Sequence[Step]) -> dict[str, Any]:
    """Return the patched document; `document` is not changed.

    Raises `InvalidResourceError` for a path that does not exist, and `PatchTestError`.
    """
    root: dict[str, Any] = {_ROOT: copy.deepcopy(document)}
    room = MAX_COPIED_BYTES
    for step in steps:
        if step.name == "copy":
            room -= len(json.dumps(_get(root, step.source, step)))
            if room < 0:
                raise _invalid(f"it copies more than {MAX_COPIED_BYTES} bytes", step)
        _run(root, step)
    patched = root.get(_ROOT)
    if not isinstance(patched, dict):
        raise _invalid("what is left is no JSON object")
    return patched


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal: 1 equals 1.0, but neither equals true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _step(number: int, item: Any) -> Step:
    name = item.get("op") if isinstance(item, dict) else None
    if not isinstance(name, str) or name not in _NEEDS:
        raise _invalid(f"{number}/op: must be one of {', '.join(_NEEDS)}")
    for key in ("path", _NEEDS[name]):
        if key not in item:
            raise _invalid(f"{number}/{key}: is required")
    path = _pointer(item["path"], f"{number}/path")
    source = _pointer(item["from"], f"{number}/from") if _NEEDS[name] == "from" else ()
    if name == "move" and len(path) > len(source) and tuple(path[: len(source)]) == tuple(source):
        raise _invalid(f"{number}/path: is inside of what is moved")
    return Step(number, name, path, source, item.get("value"))


def _pointer(text: Any, where: str) -> Sequence[str]:
    """Split a JSON Pointer (RFC 6901)."""
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise _invalid(f"{where}: must be a JSON Pointer, as /tags/0")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/"))


def _run(root: dict[str, Any], step: Step) -> None:
    match step.name:
        case "test":
            if not same(_get(root, step.path, step), step.value):
                raise PatchTestError
        case "remove":
            _remove(root, step.path, step)
        case "add":
            _add(root, step, copy.deepcopy(step.value))
        case "replace":
            _replace(root, step)
        case "copy":
            _add(root, step, copy.deepcopy(_get(root, step.source, step)))
        case _:
            _add(root, step, _remove(root, step.source, step))


def _get(root: dict[str, Any], path: Sequence[str], step: Step) -> Any:
    found: Any = root
    for part in path:
        found = found[_key(found, part, step)]
    return found


def _remove(root: dict[str, Any], path: Sequence[str], step: Step) -> Any:
    parent = _get(root, path[:-1], step)
    key = _key(parent, path[-1], step)  # raises for a parent without `pop`
    return parent.pop(key)


def _replace(root: dict[str, Any], step: Step) -> None:
    parent = _get(root, step.path[:-1], step)
    parent[_key(parent, step.path[-1], step)] = copy.deepcopy(step.value)


def _add(root: dict[str, Any], step: Step, value: Any) -> None:
    parent, last = _get(root, step.path[:-1], step), step.path[-1]
    if isinstance(parent, list):
        at = len(parent) if last in ("-", str(len(parent))) else _key(parent, last, step)
        parent.insert(at, value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise _nowhere(step)


def _key(found: Any, part: str, step: Step) -> Any:
    """Return the existing key or index that a part of a path names; raise if there is none."""
    if isinstance(found, dict) and part in found:
        return part
    if isinstance(found, list) and _INDEX.fullmatch(part) and int(part) < len(found):
        return int(part)
    raise _nowhere(step)


def _nowhere(step: Step) -> InvalidResourceError:
    return _invalid("leads to nothing", step)


def _invalid(problem: str, step: Step | None = None) -> InvalidResourceError:
    where = "" if step is None else f"{step.number}/{step.name}: "
    return ProblemsError("the JSON Patch cannot be applied:", [f"{where}{problem}"])
