"""Making a bundle from a directory or an archive, in our format or another autograder's.

A format is recognised by the files at its root; an `assignment.yaml` without phases adds to its
settings or overrides them.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from job_engine.errors import AssignmentError
from job_engine.grading.archive import ArchiveLimits, Collector, Unpacked, pack_directory, unpack
from job_engine.grading.assignment import FILE_NAME, TESTS_DIRECTORY
from job_engine.grading.contracts import (
    autolab,
    check50,
    classroom,
    polygon,
    prairielearn,
    problem_package,
    submitty,
    unrecognised,
    vpl,
)
from job_engine.grading.contracts.source import Read
from job_engine.grading.yaml_lines import load, mapping

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
"""File in it with the expected results of the other solutions."""
_MACOS_METADATA: Final = "__MACOSX"


@dataclass(frozen=True)
class BundleFormat:
    """A layout of files by which bundles of a contract are recognised."""

    contract: str
    label: str
    marks: tuple[str, ...]
    """Files at the root by which it is recognised; with a slash at its end, a directory."""
    document: Callable[[tuple[str, ...], Read], dict[str, Any]] | None = None
    """Reads keys of the assignment's document from the bundle's files."""
    bundled: Callable[[Mapping[str, Any]], Set[str]] | None = None
    """Returns the names at the root that are bundled, by the finished document; None: all."""
    renamed: Callable[[Read], Mapping[str, str]] | None = None
    """Returns new paths of files in the bundle; None: all keep theirs."""
    generated: Callable[[tuple[str, ...], Read], Mapping[str, bytes]] | None = None
    """Returns further files of the bundle, which are made of those that are there."""

    def matches(self, files: Set[str]) -> bool:
        """Return whether all marks are among a bundle's files."""
        return all(_has(files, mark) for mark in self.marks)


FORMATS: Final = (
    BundleFormat("gradescope", "gradescope", ("run_autograder",)),
    BundleFormat("prairielearn", "prairielearn", (prairielearn.FILE,), prairielearn.document),
    BundleFormat("autolab", "autolab", (autolab.TAR,), autolab.document, autolab.bundled),
    BundleFormat(
        "cases",
        "a problem package",
        (problem_package.FILE, f"{problem_package.DATA}/"),
        problem_package.document,
        lambda _: problem_package.BUNDLED,
    ),
    BundleFormat(
        "cases",
        "Polygon",
        (polygon.FILE,),
        polygon.document,
        lambda _: polygon.BUNDLED,
        polygon.renamed,
    ),
    *(
        BundleFormat("classroom", "GitHub Classroom", (name,), classroom.document)
        for name in classroom.FILES
    ),
    *(BundleFormat("check50", "check50", (name,), check50.document) for name in check50.FILES),
    *(BundleFormat("submitty", "Submitty", marks, submitty.document) for marks in submitty.MARKS),
    *(
        BundleFormat("vpl", "Moodle VPL", (name,), vpl.document, generated=vpl.generated)
        for name in (vpl.CASES, vpl.EVALUATE)
    ),
    # Last: repositories of any kind have workflows.
    BundleFormat("classroom", "GitHub Classroom", (classroom.ANY_WORKFLOW,), classroom.document),
)


@contextmanager
def bundle_of(source: Path, name: str | None = None) -> Iterator[Unpacked]:
    """Yield the bundle made of a directory or an archive; `name` overrides the derived one.

    Raises `AssignmentError` for a source that is neither ours nor of a known format, and
    `ArchiveError` for one that cannot be packed.
    """
    with _content(source) as content:
        document = _settings_beside(source)
        if (own := _member(content, FILE_NAME)) is not None:
            document = {**_mapping(own), **document}
        format_ = _format_of(content.files, document.get("contract"))
        if own is not None and (format_ is None or _is_ours(document, content.files)):
            if name is not None:
                raise AssignmentError(f"Its {FILE_NAME} gives the name; change it there.")
            with _repack(content, own, below="", left_out={_MACOS_METADATA, SOLUTIONS}) as bundle:
                yield bundle
            return
        if format_ is None:
            raise AssignmentError(unrecognised.message(source, content.files, FORMATS))
        with _converted(source, content, format_, document, name) as bundle:
            yield bundle


def _converted(
    source: Path,
    content: Unpacked,
    format_: BundleFormat,
    document: Mapping[str, Any],
    name: str | None,
) -> Unpacked:
    """Return the bundle of a foreign format, whose files are put below `tests/`."""

    def read(file: str) -> bytes:
        return _member(content, file) or b""

    derived = format_.document(content.files, read) if format_.document is not None else {}
    document = {"name": _name_of(source), "title": source.stem, **_override(derived, document)}
    document["contract"] = derived.get("contract", format_.contract)
    if name is not None:
        document["name"] = name
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()
    left_out = {_MACOS_METADATA}
    if _has_reference_solutions(content.files):
        left_out.add(SOLUTIONS)
    if format_.bundled is not None:
        left_out |= {file.partition("/")[0] for file in content.files} - format_.bundled(document)
    further: dict[str, Path | bytes] = {}
    if format_.contract == "prairielearn":
        further |= prairielearn.course_files(source, document)
    if format_.generated is not None:
        further |= format_.generated(content.files, read)
    return _repack(
        content,
        text,
        below=f"{TESTS_DIRECTORY}/",
        left_out=left_out,
        further=further,
        renamed=format_.renamed(read) if format_.renamed is not None else {},
    )


def _content(source: Path) -> Unpacked:
    if source.is_dir():
        return pack_directory(source, _LIMITS)
    if not source.is_file():
        raise AssignmentError(f"{source} is no directory and no archive.")
    with source.open("rb") as file:
        return unpack(file, limits=_LIMITS, strip=True)


def _format_of(files: tuple[str, ...], contract: object) -> BundleFormat | None:
    """Return the format that matches, of the given contract if there is one.

    A contract that is given needs no marks, except plain cases: those may be ours.
    """
    formats = [format_ for format_ in FORMATS if contract in (None, format_.contract)]
    present = set(files)
    default = formats[0] if formats and contract not in (None, "cases") else None
    return next((format_ for format_ in formats if format_.matches(present)), default)


def _has(files: Set[str], name: str) -> bool:
    return name in files or (name.endswith("/") and any(file.startswith(name) for file in files))


def _is_ours(document: Mapping[str, Any], files: tuple[str, ...]) -> bool:
    """Return whether `assignment.yaml` is complete: it has phases, or our own cases."""
    results = document.get("results")
    if document.get("contract") is None:
        return "phases" in document and isinstance(results, Mapping) and "format" in results
    return document["contract"] == "cases" and _has(set(files), f"{TESTS_DIRECTORY}/")


def _override(derived: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """Return `derived` updated with the course's own `document`, key by key of a section."""
    merged = {**derived, **document}
    for key in derived.keys() & document.keys():
        if isinstance(derived[key], Mapping) and isinstance(document[key], Mapping):
            merged[key] = {**derived[key], **document[key]}
    return merged


def _has_reference_solutions(files: tuple[str, ...]) -> bool:
    """Return whether `solutions/` is ours; other systems' graders may use the same name."""
    ours = (f"{SOLUTIONS}/{MODEL}/", f"{SOLUTIONS}/{EXPECTED}")
    return any(file.startswith(ours) for file in files)


def _settings_beside(source: Path) -> dict[str, Any]:
    """Return the settings in `<name>.yaml` beside an archive."""
    beside = source.with_suffix(".yaml")
    if source.is_dir() or not beside.is_file():
        return {}
    return _mapping(beside.read_bytes())


def _mapping(text: bytes) -> dict[str, Any]:
    return dict(mapping(*load(text, FILE_NAME)))


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
    further: Mapping[str, Path | bytes] | None = None,
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
                    name = (renamed or {}).get(info.name, info.name)
                    collector.copy(tar, info, f"{below}{name}")
        for name, made in (further or {}).items():
            executable = isinstance(made, Path) and bool(made.stat().st_mode & 0o100)
            data = made.read_bytes() if isinstance(made, Path) else made
            collector.file(f"{below}{name}", executable=executable, chunks=[data])
        return collector.finish()
    finally:
        collector.close()


def _name_of(source: Path) -> str:
    stem = source.resolve().name if source.is_dir() else source.stem
    name = _NOT_NAME.sub("-", stem.lower()).strip("-._")[:64]
    return name or "assignment"
