"""`job-engine submit`, and `job add` for actions other than grading."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from job_engine.cli import text
from job_engine.cli.assignments import pinned
from job_engine.cli.connection import ApiUrl, AsJson, DataDir, connected
from job_engine.cli.exits import EXIT_CODES, INTERRUPTED, JOB_FAILED, LOST_POINTS, OK
from job_engine.cli.watch import Watcher
from job_engine.client import Api
from job_engine.errors import ConfigurationError
from job_engine.grading.archive import is_plain, pack_submission
from job_engine.grading.render import score_table
from job_engine.grading.results import Results
from job_engine.model import JobState

GIT_SCHEMES = ("http://", "https://", "ssh://", "git://", "git@")

Wait = Annotated[bool, typer.Option("--wait", "-w", help="Show it live, and end with its result.")]
Priority = Annotated[
    int | None,
    typer.Option("--priority", min=0, max=999, help="0 to 999; a lower one runs earlier."),
]


def submit(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A directory, an archive (zip, tar), a single file, or a git URL (https).",
        ),
    ],
    assignment: Annotated[
        str, typer.Option("--assignment", "-a", help="Its name, or its digest (sha256:…).")
    ],
    commit: Annotated[
        str | None, typer.Option("--commit", help="Of a git URL: the full commit to grade.")
    ] = None,
    ref: Annotated[
        str | None, typer.Option("--ref", help="Of a git URL: a branch or tag; default: HEAD.")
    ] = None,
    credential: Annotated[
        str | None,
        typer.Option("--credential", help="Operator's secret for a private repository, by name."),
    ] = None,
    student: Annotated[str | None, typer.Option("--student", help="Whose work it is.")] = None,
    due: Annotated[
        str | None, typer.Option("--due", help="When it was due, such as 2026-03-01T23:59+01:00.")
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            "--metadata", help="JSON file for the grader, such as a submission_metadata.json."
        ),
    ] = None,
    priority: Priority = None,
    wait: Wait = False,
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Submit something for grading; with --wait, show its score."""
    with connected(api_url, data_dir) as api:
        payload: dict[str, Any] = {
            "assignment": pinned(api, assignment),
            "submission": _submission(api, source, commit, ref, credential),
        }
        if student:
            payload["student"] = student
        if due:
            payload["due"] = due
        if metadata is not None:
            payload["metadata"] = _metadata(metadata)
        job = add_job(api, "grade", payload, priority)
        _announce(job, wait=wait, as_json=as_json)
        if wait:
            finish(api, job, as_json=as_json)


def _metadata(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--metadata {file}: no JSON can be read there: {error}") from None


submit.__doc__ = f"{submit.__doc__}\n\n{EXIT_CODES}"


def add(
    action: Annotated[str, typer.Argument(help="Name of the action, such as `noop`.")],
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="The action's payload.")
    ] = None,
    priority: Priority = None,
    wait: Wait = False,
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Create a job of any action."""
    with connected(api_url, data_dir) as api:
        job = add_job(api, action, _json(payload), priority)
        _announce(job, wait=wait, as_json=as_json)
        if wait:
            finish(api, job, as_json=as_json)


add.__doc__ = f"{add.__doc__}\n\n{EXIT_CODES}"


def add_job(api: Api, action: str, payload: Any, priority: int | None) -> str:
    """Create a job and return its id."""
    body: dict[str, Any] = {"action": action}
    if payload is not None:
        body["payload"] = json.dumps(payload)
    if priority is not None:
        body["priority"] = priority
    return str(api.add("job", body).data["resource-id"])


def finish(api: Api, job: str, *, as_json: bool) -> None:
    """Follow a job to its end, print its outcome, and exit with the code for it."""
    console = text.error_console() if as_json else text.console()
    with leaving_running(job):
        document = Watcher(console).follow(api, job)
    conclude(document, console, as_json=as_json)


@contextmanager
def leaving_running(job: str) -> Iterator[None]:
    """In the block, Ctrl-C ends the command but not the job, and prints how to cancel that."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{job} goes on. `job-engine job cancel {job}` ends it.")
        raise typer.Exit(INTERRUPTED) from None


def conclude(document: dict[str, Any], console: Console, *, as_json: bool) -> None:
    """Print the outcome of a final job, and exit with the code for it."""
    results = results_of(document)
    if as_json:
        text.print_json(document)
    elif results is not None:
        console.print()
        console.print(score_table(results))
    else:
        message = text.clean(document.get("status-message", ""))
        console.print(text.state(document["state"]), message)
    raise typer.Exit(exit_code(document))


def exit_code(document: dict[str, Any]) -> int:
    """Return the exit code of a command that waited for this final job."""
    if document["state"] != JobState.SUCCESS:
        return JOB_FAILED
    results = results_of(document)
    return OK if results is None or results.lost_nothing else LOST_POINTS


def results_of(document: dict[str, Any]) -> Results | None:
    """Return the results of a `grade` job; None for other jobs, and for those that failed."""
    if document["action"] != "grade" or "output" not in document:
        return None
    try:
        return Results.model_validate_json(document["output"])
    except ValidationError:
        return None


def _submission(
    api: Api, source: str, commit: str | None, ref: str | None, credential: str | None
) -> dict[str, Any]:
    if source.startswith(GIT_SCHEMES):
        given = {"url": source, "commit": commit, "ref": ref, "credential": credential}
        return {"git": {name: value for name, value in given.items() if value is not None}}
    if commit or ref or credential:
        raise ConfigurationError("--commit, --ref and --credential are for git URLs only.")
    path = Path(source)
    if path.is_dir():
        with tempfile.NamedTemporaryFile(suffix=".tar.zst") as packed:
            pack_submission(path, packed.file)
            packed.flush()
            return {"archive": {"blob": api.upload_blob(Path(packed.name))}}
    if path.is_file():
        with archive_of(path) as archive:
            return {"archive": {"blob": api.upload_blob(archive)}}
    raise ConfigurationError(f"{source} is no directory, no file and no git URL (https://…).")


@contextmanager
def archive_of(file: Path) -> Iterator[Path]:
    """Yield the path of an archive: the given one, or a new one of any other file."""
    if not is_plain(file):
        yield file
        return
    with tempfile.TemporaryDirectory() as made:
        alone = Path(made) / "alone"
        alone.mkdir()
        shutil.copy(file, alone)
        archive = Path(made) / "submission.tar.zst"
        with archive.open("wb") as out:
            pack_submission(alone, out)
        yield archive


def _announce(job: str, *, wait: bool, as_json: bool) -> None:
    if as_json and not wait:
        text.print_json({"id": job})
    elif not as_json:
        print(job)


def _json(payload: str | None) -> Any:
    try:
        return None if payload is None else json.loads(payload)
    except ValueError as error:
        raise ConfigurationError(f"--payload is no JSON: {error}") from None
