"""Recognising bundles of other systems, and making bundles of this engine from them.

The files are not changed: they are placed under `tests/`, and an `assignment.yaml` beside
them names their contract.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import yaml

from job_engine.errors import AssignmentError
from job_engine.grading.archive import ArchiveLimits, Collector, Unpacked, pack_directory, unpack
from job_engine.grading.assignment import FILE_NAME, TESTS_DIRECTORY
from job_engine.grading.contracts import classroom_spec, elsewhere, lab, package, polygon
from job_engine.grading.yaml_lines import load

_LIMITS: Final = ArchiveLimits(
    max_entries=50_000,
    max_bytes=512 * 2**20,
    max_file_bytes=512 * 2**20,
    # Bundles are staff's: they may well hold a large file of zeros.
    ratio_free_bytes=512 * 2**20,
)
_NOT_NAME: Final = re.compile(r"[^a-z0-9._-]+")
SOLUTIONS: Final = "solutions"
"""Directory of reference solutions, which are never part of a bundle."""
MODEL: Final = "model"
"""Directory in it of the model answer."""
EXPECTED: Final = "expected.yaml"
"""File in it that says what others must get."""
_NOISE: Final = "__MACOSX"
_CHUNK: Final = 256 * 1024


@contextmanager
def bundle_of(source: Path, name: str | None = None) -> Iterator[Unpacked]:
    """Give the bundle that a directory or an archive makes; `name` stands over its own.

    Raises `AssignmentError` for what is neither ours nor of a contract that is known, and
    `ArchiveError` for what cannot be packed.
    """
    with _content(source) as content:
        document = _settings_beside(source)
        if (own := _member(content, FILE_NAME)) is not None:
            document = {**_mapping(own), **document}
        kind = _kind_of(content.files, document.get("contract"))
        if own is not None and (kind is None or _is_ours(document, content.files)):
            if name is not None:
                raise AssignmentError(f"Its {FILE_NAME} gives the name; change it there.")
            with _repack(content, own, below="", left_out={_NOISE, SOLUTIONS}) as made:
                yield made
            return
        if kind is None:
            raise AssignmentError(elsewhere.unknown(source, content.files, KINDS))
        told = kind.told(source, content)
        document = {"name": _name_of(source), "title": source.stem, **_over(told, document)}
        document |= {"contract": kind.contract} | ({"name": name} if name is not None else {})
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()
        further = _course_files(source, document) if kind.contract == "prairielearn" else {}
        left_out = {_NOISE, SOLUTIONS} if _are_ours(content.files) else {_NOISE}
        if kind.takes is not None:
            wanted = kind.takes(document)
            left_out |= {top for top in _tops(content.files) if top not in wanted}
        where = kind.renamed(_reader(content)) if kind.renamed is not None else {}
        with _repack(
            content,
            text,
            below=f"{TESTS_DIRECTORY}/",
            left_out=left_out,
            further=further,
            renamed=where,
        ) as made:
            yield made


def _content(source: Path) -> Unpacked:
    if source.is_dir():
        return pack_directory(source, _LIMITS)
    if not source.is_file():
        raise AssignmentError(f"{source} is no directory and no archive.")
    with source.open("rb") as file:
        return unpack(file, limits=_LIMITS, strip=True)


def _kind_of(files: tuple[str, ...], contract: object) -> Kind | None:
    """Return the kind whose files are there, of the contract that is given if one is."""
    kinds = [kind for kind in KINDS if contract in (None, kind.contract)]
    present = set(files)
    found = (kind for kind in kinds if all(_is_there(name, present) for name in kind.needed))
    only = kinds[0] if kinds and contract not in (None, "cases") else None
    return next(found, only)


def _is_there(name: str, files: Set[str]) -> bool:
    return name in files or (name.endswith("/") and any(file.startswith(name) for file in files))


def _is_ours(document: Mapping[str, Any], files: tuple[str, ...]) -> bool:
    """Whether `assignment.yaml` says all, whatever else is there: of phases, or of our cases."""
    results = document.get("results")
    if document.get("contract") is None:
        return "phases" in document and isinstance(results, Mapping) and "format" in results
    return document["contract"] == "cases" and _is_there(f"{TESTS_DIRECTORY}/", set(files))


def _tops(files: tuple[str, ...]) -> set[str]:
    return {file.partition("/")[0] for file in files}


def _over(told: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was told, with what the course says itself over it, key by key of a section."""
    merged = {**told, **document}
    for key in told.keys() & document.keys():
        if isinstance(told[key], Mapping) and isinstance(document[key], Mapping):
            merged[key] = {**told[key], **document[key]}
    return merged


def _are_ours(files: tuple[str, ...]) -> bool:
    """Whether `solutions/` are reference solutions; graders of other systems read theirs."""
    ours = (f"{SOLUTIONS}/{MODEL}/", f"{SOLUTIONS}/{EXPECTED}")
    return any(file.startswith(ours) for file in files)


def _question(source: Path, content: Unpacked) -> dict[str, Any]:
    """Return what a question's `info.json` says of it."""
    try:
        info = json.loads(_member(content, "info.json") or b"")
        options = info.get("externalGradingOptions")
        title = str(info.get("title", source.stem))
    except (ValueError, AttributeError) as error:
        raise AssignmentError(f"{source / 'info.json'} cannot be read: {error}") from None
    if not isinstance(options, dict):
        raise AssignmentError(
            f"{source / 'info.json'} has no externalGradingOptions: only questions that are "
            "graded externally can be taken."
        )
    return {"title": title, "prairielearn": options}


def _course_files(source: Path, document: Mapping[str, Any]) -> dict[str, Path]:
    """Return the files of the course's `serverFilesCourse` that a question asks for."""
    options = document.get("prairielearn")
    wanted = options.get("serverFilesCourse", []) if isinstance(options, Mapping) else []
    if not wanted or (source / "serverFilesCourse").is_dir():
        return {}
    course = next(
        (above for above in source.resolve().parents if (above / "infoCourse.json").is_file()), None
    )
    if course is None:
        raise AssignmentError(
            f"{source} asks for serverFilesCourse, and lies below no directory with "
            "infoCourse.json; copy those files to serverFilesCourse/ in it."
        )
    root = course / "serverFilesCourse"
    found: dict[str, Path] = {}
    for name in map(str, wanted):
        place = (root / name).resolve()
        if not place.is_relative_to(root.resolve()) or not place.exists():
            raise AssignmentError(f"serverFilesCourse: {name!r} is not in {root}.")
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.is_file() and not file.is_symlink():
                found[f"serverFilesCourse/{file.relative_to(root.resolve())}"] = file
    return found


def _nothing(_source: Path, _content: Unpacked) -> dict[str, Any]:
    return {}


def _lab(_source: Path, content: Unpacked) -> dict[str, Any]:
    return lab.document(content.files, _reader(content))


def _package_files(_document: Mapping[str, Any]) -> set[str]:
    return {"problem.yaml", "data", "output_validator", "output_validators"}


def _classroom(_source: Path, content: Unpacked) -> dict[str, Any]:
    for name, read in classroom_spec.READERS.items():
        if (data := _member(content, name)) is not None:
            return read(data)
    return {}


def _package(_source: Path, content: Unpacked) -> dict[str, Any]:
    return package.document(content.files, _reader(content))


def _reader(content: Unpacked) -> package.Read:
    return lambda name: _member(content, name) or b""


def _polygon(_source: Path, content: Unpacked) -> dict[str, Any]:
    return polygon.document(content.files, _reader(content))


def _polygon_files(_document: Mapping[str, Any]) -> set[str]:
    return {polygon.FILE, "tests", "files"}


@dataclass(frozen=True)
class Kind:
    """What courses have of one contract, and what it says of itself."""

    contract: str
    label: str
    needed: tuple[str, ...]
    """Files at its root that tell it; one that ends with a slash is a directory."""
    told: Callable[[Path, Unpacked], dict[str, Any]] = _nothing
    """Reads what `assignment.yaml` need not say."""
    takes: Callable[[Mapping[str, Any]], Set[str]] | None = None
    """What at its root is taken, by the finished document; None: all of it."""
    renamed: Callable[[package.Read], Mapping[str, str]] | None = None
    """Tells where some of its files lie in the bundle; None: where they lie in it."""


KINDS: Final = (
    Kind("gradescope", "gradescope", ("run_autograder",)),
    Kind("prairielearn", "prairielearn", ("info.json",), _question),
    Kind("autolab", "autolab", (lab.TAR,), _lab, lab.wanted),
    Kind("cases", "a problem package", ("problem.yaml", "data/"), _package, _package_files),
    Kind("cases", "Polygon", (polygon.FILE,), _polygon, _polygon_files, polygon.renamed),
    *(
        Kind("classroom", "GitHub Classroom", (name,), _classroom)
        for name in classroom_spec.READERS
    ),
)


def _settings_beside(source: Path) -> dict[str, Any]:
    """Return what `<name>.yaml` beside an archive says of it."""
    beside = source.with_suffix(".yaml")
    if source.is_dir() or not beside.is_file():
        return {}
    return _mapping(beside.read_bytes())


def _mapping(text: bytes) -> dict[str, Any]:
    value, lines = load(text, FILE_NAME)
    if not isinstance(value, Mapping):
        raise lines.error((), "expected keys and values at the top level")
    return dict(value)


def _member(content: Unpacked, name: str) -> bytes | None:
    if name not in content.files:
        return None
    content.stream.seek(0)
    with tarfile.open(fileobj=content.stream, mode="r:") as tar:
        file = tar.extractfile(name)
        data = file.read() if file is not None else None
    content.stream.seek(0)
    return data


def _repack(
    content: Unpacked,
    document: bytes,
    *,
    below: str,
    left_out: Set[str],
    further: Mapping[str, Path] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Unpacked:
    """Return a bundle of the document, and of the files put `below` a directory."""
    collector = Collector(_LIMITS, _LIMITS.max_bytes)
    try:
        collector.file(FILE_NAME, executable=False, chunks=[document])
        content.stream.seek(0)
        with tarfile.open(fileobj=content.stream, mode="r:") as tar:
            for info in tar:
                top = info.name.partition("/")[0]
                if info.name != FILE_NAME and top not in left_out:
                    _add(collector, tar, info, below, renamed or {})
        for name, path in (further or {}).items():
            executable = bool(path.stat().st_mode & 0o100)
            collector.file(f"{below}{name}", executable=executable, chunks=[path.read_bytes()])
        return collector.finish()
    finally:
        collector.close()


def _add(
    collector: Collector,
    tar: tarfile.TarFile,
    info: tarfile.TarInfo,
    below: str,
    renamed: Mapping[str, str],
) -> None:
    name = f"{below}{renamed.get(info.name, info.name)}"
    if info.isdir():
        collector.directory(name)
    elif info.issym():
        collector.link(name, info.linkname)
    elif (file := tar.extractfile(info)) is not None:
        collector.file(name, executable=bool(info.mode & 0o100), chunks=_chunks(file))


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _name_of(source: Path) -> str:
    stem = source.resolve().name if source.is_dir() else source.stem
    name = _NOT_NAME.sub("-", stem.lower()).strip("-._")[:64]
    return name or "assignment"
