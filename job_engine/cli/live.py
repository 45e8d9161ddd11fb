"""`job-engine watch`: a job as it happens, test by test."""

from __future__ import annotations

from typing import Annotated

import typer

from job_engine.cli import text
from job_engine.cli.connection import ApiUrl, DataDir, connected
from job_engine.cli.exits import EXIT_CODES
from job_engine.cli.jobs import JobId, job_id
from job_engine.cli.submit import conclude, leaving_running
from job_engine.cli.watch import EVERYTHING, Watcher


def watch(
    job: JobId,
    output: Annotated[
        bool, typer.Option("--output/--no-output", help="Show what its phases print.")
    ] = True,
    offset: Annotated[
        str | None, typer.Option("--offset", help="Begin after this place, such as 12.3.")
    ] = None,
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Follow a job to its end: its log, its tests as they finish, what it prints."""
    full = job_id(job)
    kinds = EVERYTHING if output else EVERYTHING - {"output"}
    with connected(api_url, data_dir) as api:
        console = text.console()
        with leaving_running(full):
            document = Watcher(console, kinds).follow(api, full, offset)
        conclude(document, console, as_json=False)


watch.__doc__ = f"{watch.__doc__}\n\n{EXIT_CODES}"
