"""`job-engine job`: list, show, cancel, resubmit, submission, logs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from nuvla.api.models import CimiResource
from rich.text import Text

from job_engine.cli import text
from job_engine.cli.connection import ApiUrl, AsJson, DataDir, connected
from job_engine.client import Api
from job_engine.model import FINAL_STATES, JobState
from job_engine.model.timestamps import parse_ms

app = typer.Typer(no_args_is_help=True, help="Jobs: list, show, cancel, send again, and logs.")

LIST_FIELDS = "id,action,state,progress,created,duration,status-message"
JobId = Annotated[str, typer.Argument(metavar="JOB", help="`job/<uuid>`, or the uuid alone.")]


@app.command("list")
def list_(
    state: Annotated[
        list[JobState] | None, typer.Option("--state", help="Only these states; repeatable.")
    ] = None,
    action: Annotated[str | None, typer.Option("--action", help="Only this action.")] = None,
    cimi_filter: Annotated[
        str | None, typer.Option("--filter", help='A CIMI filter, such as "progress<50".')
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="Most jobs.")] = 20,
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest jobs."""
    with connected(api_url, data_dir) as api:
        query: dict[str, Any] = {
            "last": limit,
            "orderby": "created:desc",
            "filter": _filter(state, action, cimi_filter),
        }
        if not as_json:
            query["select"] = LIST_FIELDS
        found = api.search("job", **{key: value for key, value in query.items() if value})
    jobs: list[dict[str, Any]] = [resource.data for resource in found.resources]
    if as_json:
        text.print_json(jobs)
        return
    _print_table(jobs)
    if found.count > len(jobs):
        print(f"{found.count} jobs in all; --limit shows more.")


def _print_table(jobs: list[dict[str, Any]]) -> None:
    now_ms = time.time() * 1000
    table = text.table("ID", "ACTION", "STATE", "AGE", "MESSAGE")
    for job in jobs:
        running = job["state"] == JobState.RUNNING
        table.add_row(
            job["id"].removeprefix("job/"),
            text.clean(job["action"]),
            text.state(job["state"], job.get("progress") if running else None),
            text.age((now_ms - parse_ms(job["created"])) / 1000),
            text.cut(text.one_line(job.get("status-message", ""), 200)),
        )
    text.console().print(table)


@app.command()
def show(
    job: JobId, api_url: ApiUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show one job: its state, its payload, and its output."""
    with connected(api_url, data_dir) as api:
        document = fetch(api, job_id(job))
    if as_json:
        text.print_json(document)
        return
    table = text.table("", "")
    table.show_header = False
    for name in _shown(document):
        value = document[name]
        table.add_row(
            Text(name, style="bold"),
            text.state(value) if name == "state" else Text(text.clean(value)),
        )
    text.console().print(table)


@app.command()
def cancel(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB…", help="One or more jobs.")],
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Cancel jobs: waiting ones are not run, running ones are stopped at once."""
    with connected(api_url, data_dir) as api:
        for job in jobs:
            document = fetch(api, job_id(job))
            if JobState(document["state"]) in FINAL_STATES:
                print(f"{document['id']} has ended already: {document['state']}")
                continue
            api.operation(CimiResource(document), "cancel")
            print(f"{document['id']} is canceled")


@app.command()
def resubmit(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB…", help="One or more jobs.")],
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Send jobs that have ended again, as new jobs that ask for the same."""
    with connected(api_url, data_dir) as api:
        for job in jobs:
            document = fetch(api, job_id(job))
            if JobState(document["state"]) not in FINAL_STATES:
                print(f"{document['id']} has not ended yet: {document['state']}")
                continue
            made = api.operation(CimiResource(document), "resubmit").data
            print(f"{document['id']} is sent again as {made['resource-id']}")


@app.command()
def submission(
    job: JobId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file to write it to.")],
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Download the archive that was handed in with a job; for its staff, and who uploaded it."""
    if file.exists() or not file.parent.is_dir():
        why = "is there already" if file.exists() else "would be in no directory"
        raise typer.BadParameter(f"{file} {why}", param_hint="FILE")
    with connected(api_url, data_dir) as api:
        api.download_submission(job_id(job), file)
        print(f"{file} has what was handed in with {job_id(job)}")


def job_id(text_: str) -> str:
    """Return the full id of a job named by its id or its bare uuid."""
    return text_ if text_.startswith("job/") else f"job/{text_}"


def fetch(api: Api, job: str) -> dict[str, Any]:
    """Return a job's document."""
    document: dict[str, Any] = api.get(job).data
    return document


def _filter(
    states: list[JobState] | None, action: str | None, cimi_filter: str | None
) -> str | None:
    parts = []
    if states:
        parts.append(" or ".join(f"state='{state}'" for state in states))
    if action:
        parts.append(f"action='{action}'")
    if cimi_filter:
        parts.append(cimi_filter)
    if len(parts) == 1:
        return parts[0]  # as it was typed: an error names the column
    return " and ".join(f"({part})" for part in parts) or None


def _shown(document: dict[str, Any]) -> list[str]:
    """Return a job's attributes for display, most important first; without ACL and links."""
    first = ["id", "action", "state", "progress", "status-message", "return-code"]
    times = ["created", "started", "updated", "duration"]
    last = ["payload", "output"]
    hidden = {"acl", "operations", "resource-type", *first, *times, *last}
    others = sorted(key for key in document if key not in hidden)
    return [key for key in [*first, *times, *others, *last] if key in document]
