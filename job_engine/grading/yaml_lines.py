"""Strict YAML parsing that records the line of every key, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from job_engine.errors import AssignmentError

M = TypeVar("M", bound=BaseModel)
Path = tuple[str | int, ...]

_MAX_BYTES: Final = 256 * 1024


class _Loader(yaml.SafeLoader):
    """A loader that refuses aliases: a few lines of them can expand to gigabytes."""

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not taken", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


class Lines:
    """The line of each key of a document."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._lines: dict[Path, int] = {(): 1}

    def add(self, path: Path, line: int) -> None:
        """Record that `path` begins on `line` (from 1)."""
        self._lines[path] = line

    def __contains__(self, path: Path) -> bool:
        return path in self._lines

    def of(self, path: Path) -> int:
        """Return the line of `path`, or of the nearest part of it that the file has."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def error(self, path: Path, problem: str) -> AssignmentError:
        """Return an error that names file and line."""
        where = ".".join(str(step) for step in path)
        return AssignmentError(
            f"{self.file}, line {self.of(path)}: {f'{where}: ' if where else ''}{problem}"
        )


def load(text: bytes, file: str) -> tuple[Any, Lines]:
    """Parse one YAML document; raises `AssignmentError` naming the line."""
    if len(text) > _MAX_BYTES:
        raise AssignmentError(f"{file} is larger than {_MAX_BYTES // 1024} KiB.")
    lines = Lines(file)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, lines
            _record(node, (), lines)
            return loader.construct_document(node), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise AssignmentError(f"{file}, line {line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise AssignmentError(f"{file} is not valid YAML: {' '.join(reason.split())}") from None


def mapping(value: Any, lines: Lines) -> Mapping[str, Any]:
    """Return a parsed document that is a mapping; raises `AssignmentError` for any other."""
    if not isinstance(value, Mapping):
        raise lines.error((), "expected keys and values at the top level")
    return value


def validate(model: type[M], value: Any, lines: Lines) -> M:
    """Validate a parsed document; raises `AssignmentError` naming line and nearest key."""
    value = mapping(value, lines)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        # All problems at once, one a line.
        problems = [_problem(model, detail, value, lines) for detail in error.errors()]
        raise AssignmentError("\n".join(dict.fromkeys(problems))) from None


def _problem(model: type[BaseModel], detail: Any, value: Any, lines: Lines) -> str:
    path = _document_path(detail["loc"], value)
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(path[-1]), _keys_at(model, path[:-1]), n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        known = ", ".join(sorted(_keys_at(model, path[:-1])))
        return lines.error(
            path, f"unknown key{hint}" + ("" if near else f"; known: {known}")
        ).message
    message = str(detail["msg"]).removeprefix("Value error, ")
    key, colon, rest = message.partition(": ")
    named = (*path, *key.split("."))
    if colon and named in lines:
        # An error of several keys together is reported at the key that its message names.
        path, message = named, rest
    return lines.error(path, message[:1].lower() + message[1:]).message


def _document_path(loc: tuple[str | int, ...], value: Any) -> Path:
    """Return the path in the document, without pydantic's names of union branches."""
    path: list[str | int] = []
    for step in loc:
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step]
        else:
            continue
        path.append(step)
    return tuple(path)


def _keys_at(model: type[BaseModel], path: Path) -> set[str]:
    """Return the keys that the schema knows at `path`, following nested models."""
    steps = iter(path)
    for step in steps:
        field = model.model_fields.get(str(step))
        nested = next(_models(field.annotation), None) if field else None
        if nested is None:
            return set()
        model = nested
        if field is not None and "dict[" in str(field.annotation):
            next(steps, None)  # a key of a mapping, chosen by the author
    return set(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)


def _record(node: Node, path: Path, lines: Lines) -> None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise yaml.MarkedYAMLError(problem="keys must be text", problem_mark=key.start_mark)
            here = (*path, str(key.value))
            if here in lines:
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key.value}' stands twice", problem_mark=key.start_mark
                )
            lines.add(here, key.start_mark.line + 1)
            _record(value, here, lines)
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            lines.add((*path, index), value.start_mark.line + 1)
            _record(value, (*path, index), lines)
