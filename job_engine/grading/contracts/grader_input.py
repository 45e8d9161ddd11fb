"""Input files for the graders of contracts: a submission's metadata and files.

Metadata from the job's payload takes precedence; the rest is filled in. It is the same in
every run of a job, so times are relative to `created_at`, never to the clock.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from job_engine.errors import SubmissionError
from job_engine.grading.archive import Unpacked
from job_engine.grading.assignment import Assignment
from job_engine.grading.contracts.expand import (
    CASES_HARNESS,
    CASES_SETTINGS,
    CHECK50_HARNESS,
    CHECK50_SETTINGS,
    CLASSROOM_HARNESS,
    CLASSROOM_SETTINGS,
    ENGINE_MOUNT,
    SUBMITTY_SETTINGS,
)
from job_engine.grading.contracts.source import merge, modules, script
from job_engine.grading.contracts.vpl import BUILD_SCRIPT, VPL_PROGRAM, Vpl
from job_engine.grading.results.stream import DEFAULT_PATH
from job_engine.grading.submission import GradePayload

METADATA: Final = "submission_metadata.json"
_OPEN_FOR: Final = timedelta(days=7)
"""Time from the creation of a submission to its due date, if none is set."""
_MAX_FILES_BYTES: Final = 2 * 2**20
"""Size of a submission's files, with their names, up to which `data.json` contains them."""


@dataclass(frozen=True, kw_only=True)
class GraderInput:
    """A submission, from which the input files of graders are made."""

    payload: GradePayload
    assignment: Assignment
    created: datetime
    """When the job was created; with an offset."""
    workspace: Unpacked | None = None
    """The submission's files; None: a repository, which is cloned only later."""

    @property
    def due(self) -> datetime | None:
        """When everything is due; with an offset.

        The later one of the submission's and the assignment's: a submission may have an
        extension, and must not reveal tests that are still hidden from others.
        """
        dates = [due for due in (self.payload.due, self.assignment.due) if due is not None]
        return max(map(_aware, dates), default=None)


def engine_files(grader_input: GraderInput) -> dict[str, bytes]:
    """Return the files, by name, that the contract's grader needs beside the submission."""
    match grader_input.assignment.contract:
        case "gradescope":
            return {METADATA: _json(submission_metadata(grader_input))}
        case "prairielearn":
            return {"data.json": _json(question_data(grader_input))}
        case "cases":
            return cases_files(grader_input.assignment)
        case "check50":
            return check50_files(grader_input.assignment)
        case "submitty":
            return submitty_files(grader_input.assignment)
        case "vpl":
            return vpl_files(grader_input.assignment)
        case "classroom":
            return classroom_files(grader_input.assignment)
        case _:
            return {}


def cases_files(assignment: Assignment) -> dict[str, bytes]:
    """Return the harness of plain cases and its settings."""
    assert assignment.cases is not None  # they go with the contract
    mounts = assignment.mounts
    settings = {
        "cases": assignment.cases.model_dump(mode="json", exclude_none=True),
        "run": f"{mounts.program}/run",
        "tests": mounts.tests,
        "results": f"{mounts.results}/{assignment.results.path or DEFAULT_PATH}",
    }
    return {**modules(CASES_HARNESS), CASES_SETTINGS: _json(settings)}


def vpl_files(assignment: Assignment) -> dict[str, bytes]:
    """Return the harness of a VPL activity, which is that of plain cases, and its settings."""
    mounts = assignment.mounts
    cases = assignment.cases
    settings = {
        **(assignment.vpl or Vpl()).model_dump(mode="json"),
        **({"cases": cases.model_dump(mode="json", exclude_none=True)} if cases else {}),
        "bundle": mounts.tests,
        "build": f"{ENGINE_MOUNT}/{BUILD_SCRIPT}",
        "run": f"{mounts.submission}/{VPL_PROGRAM}",
        "tests": mounts.tests,
        "results": f"{mounts.results}/{assignment.results.path or DEFAULT_PATH}",
    }
    build = script(BUILD_SCRIPT).encode()
    return {**modules(CASES_HARNESS), BUILD_SCRIPT: build, CASES_SETTINGS: _json(settings)}


def submitty_files(assignment: Assignment) -> dict[str, bytes]:
    """Return the harness of Submitty's tests, a module of that of plain cases, and its settings."""
    assert assignment.submitty is not None  # it goes with the contract
    settings = {
        **assignment.submitty.model_dump(mode="json"),
        "bundle": assignment.mounts.tests,
        "results": f"{assignment.mounts.results}/{assignment.results.path or DEFAULT_PATH}",
    }
    return {**modules(CASES_HARNESS), SUBMITTY_SETTINGS: _json(settings)}


def check50_files(assignment: Assignment) -> dict[str, bytes]:
    """Return what runs check50, and its settings."""
    results = f"{assignment.mounts.results}/{assignment.results.path or DEFAULT_PATH}"
    settings = {"bundle": assignment.mounts.tests, "results": results}
    return {
        CHECK50_HARNESS: script(CHECK50_HARNESS).encode(),
        CHECK50_SETTINGS: _json(settings),
    }


def classroom_files(assignment: Assignment) -> dict[str, bytes]:
    """Return the harness of GitHub Classroom's tests, a module likewise, and its settings."""
    assert assignment.classroom is not None  # it goes with the contract
    mounts = assignment.mounts
    settings = {
        **assignment.classroom.model_dump(mode="json"),
        "bundle": mounts.tests,
        "submission": mounts.submission,
        "results": f"{mounts.results}/{assignment.results.path or DEFAULT_PATH}",
    }
    packages = modules(CLASSROOM_HARNESS) | modules(CASES_HARNESS)
    return {**packages, CLASSROOM_SETTINGS: _json(settings)}


def pack_files(files: Mapping[str, bytes], max_bytes: int) -> io.BytesIO:
    """Return files as a tar stream; raises `SubmissionError` for more than `max_bytes`."""
    if (size := sum(map(len, files.values()))) > max_bytes:
        raise SubmissionError(
            f"The job's metadata make {size:,} bytes for its grader, which gets at most "
            f"{max_bytes:,}. Send less."
        )
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    stream.seek(0)
    return stream


def submission_metadata(grader_input: GraderInput) -> dict[str, Any]:
    """Return Gradescope's `submission_metadata.json`, with the keys that other tools read too."""
    metadata = dict(grader_input.payload.metadata)
    created = _moment(metadata.get("created_at")) or grader_input.created
    users = metadata.pop("users", None)
    dates = _dates(grader_input, created)
    defaults = {
        "id": _numeric_id(f"{grader_input.payload.submission.model_dump_json()}{_stamp(created)}"),
        "created_at": _stamp(created),
        "submission_method": "GitHub" if grader_input.payload.submission.git else "upload",
        "assignment": {
            "id": _numeric_id(grader_input.assignment.name),
            "course_id": 1,
            "title": grader_input.assignment.title or grader_input.assignment.name,
            **dates,
            "group_submission": False,
            "group_size": None,
            "total_points": f"{grader_input.assignment.results.max_score or 0:.1f}",
            "outline": [],
        },
        "previous_submissions": [],
    }
    merged = merge(defaults, {**metadata, "created_at": _stamp(created)})
    for key in dates:
        # In one format, whatever the input: graders parse dates strictly.
        if (moment := _moment(merged["assignment"].get(key))) is not None:
            merged["assignment"][key] = _stamp(moment)
    if not isinstance(users, list) or not users:
        users = [{}]
    user_dates = {key: merged["assignment"][key] for key in dates if key in merged["assignment"]}
    merged["users"] = [
        merge(
            _user(grader_input.payload.student, index, user_dates),
            user if isinstance(user, Mapping) else {},
        )
        for index, user in enumerate(users)
    ]
    return merged


def question_data(grader_input: GraderInput) -> dict[str, Any]:
    """Return PrairieLearn's `data.json`."""
    metadata = dict(grader_input.payload.metadata)
    seed = metadata.get("variant_seed", 1)
    if isinstance(seed, str):
        # PrairieLearn stores it in base 36.
        metadata["variant_seed"] = int(seed, 36) if seed.isalnum() and seed.isascii() else 1
    return merge(
        {
            "params": {},
            "correct_answers": {},
            "submitted_answers": {"_files": _files(grader_input.workspace)},
            "format_errors": {},
            "partial_scores": {},
            "score": 0,
            "feedback": {},
            "variant_seed": 1,
            "options": {},
            "raw_submitted_answers": {},
            "gradable": True,
        },
        metadata,
    )


def _files(workspace: Unpacked | None) -> list[dict[str, str]]:
    """Return the files as PrairieLearn stores them in an answer."""
    if workspace is None or workspace.size_bytes + _bytes_of(workspace.files) > _MAX_FILES_BYTES:
        return []
    workspace.stream.seek(0)
    with tarfile.open(fileobj=workspace.stream, mode="r:") as tar:
        read = [(info.name, tar.extractfile(info)) for info in tar if info.isreg()]
        files = [
            {"name": name, "contents": base64.b64encode(file.read()).decode()}
            for name, file in read
            if file is not None
        ]
    workspace.stream.seek(0)
    return files


def _bytes_of(names: tuple[str, ...]) -> int:
    """Return what names take as JSON, at most: six bytes a character, and what is around them."""
    return sum(6 * len(name) + 64 for name in names)


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None


def _dates(grader_input: GraderInput, created: datetime) -> dict[str, Any]:
    due = _aware(grader_input.payload.due or grader_input.assignment.due or created + _OPEN_FOR)
    return {
        "release_date": _stamp(min(_aware(created), due)),
        "due_date": _stamp(due),
        "late_due_date": None,
    }


def _user(student: str | None, index: int, dates: Mapping[str, Any]) -> dict[str, Any]:
    name = student or "student"
    name = name if not index else f"{name}-{index + 1}"
    return {
        "id": _numeric_id(name),
        "email": name if "@" in name else f"{name}@localhost",
        "name": name,
        "sid": name,
        "assignment": dict(dates),
    }


def _numeric_id(text: str) -> int:
    """Return an id derived from a text; Gradescope's are numbers."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def _stamp(moment: datetime) -> str:
    """ISO 8601 with microseconds and an offset, whether or not they are zero."""
    return _aware(moment).isoformat(timespec="microseconds")


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _json(value: Any) -> bytes:
    # On one line: indented, what is nested deeply takes hundreds of times its size.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
