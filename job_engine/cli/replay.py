"""`job-engine replay`: grades a submission again by its receipt, and compares the results."""

from __future__ import annotations

from typing import Any

import typer

from job_engine.cli import text
from job_engine.cli.connection import ApiUrl, AsJson, DataDir, connected
from job_engine.cli.exits import JOB_FAILED, LOST_POINTS
from job_engine.cli.jobs import JobId, fetch, job_id
from job_engine.cli.submit import add_job, results_of
from job_engine.cli.watch import Watcher
from job_engine.client import Api
from job_engine.grading.render import safe
from job_engine.grading.replay import differences, replay_payload, results_to_replay


def replay(
    job: JobId, api_url: ApiUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Grade again what a job graded, by its receipt, and say whether the result is the same.

    The same submission, assignment, tests, image and limits on the same backend, as a new
    job; where one of them cannot be had again, the new job says which and runs nothing.

    Exit codes: 0 the same result; 1 another one; 3 the new job FAILED or was CANCELED; 4 no
    engine answers; 5 there is nothing to replay, or the engine refused.
    """
    with connected(api_url, data_dir) as api:
        again, found = _run_again(api, job_id(job), as_json=as_json)
    if found is None:
        message = text.clean(again.get("status-message", ""))
        _show(as_json, {"replay": again["id"], "same": None, "message": message}, [message])
        raise typer.Exit(JOB_FAILED)
    lines = [safe(line, lines=1) for line in found] or ["The same result."]
    _show(as_json, {"replay": again["id"], "same": not found, "differences": found}, lines)
    raise typer.Exit(LOST_POINTS if found else 0)


def _run_again(api: Api, job: str, *, as_json: bool) -> tuple[dict[str, Any], list[str] | None]:
    """Return the new job once it is final, and the differences; None: it has no results."""
    document = fetch(api, job)
    then = results_to_replay(document)
    made = add_job(api, "grade", replay_payload(document, then), document.get("priority"))
    console = text.error_console() if as_json else text.console()
    again = Watcher(console).follow(api, made)
    now = results_of(again)
    return again, None if now is None else differences(then, now)


def _show(as_json: bool, comparison: dict[str, Any], lines: list[str]) -> None:
    if as_json:
        text.print_json(comparison)
        return
    for line in lines:
        print(line)
