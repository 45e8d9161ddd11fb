"""`job-engine job logs`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from job_engine.cli.connection import ApiUrl, DataDir, connected
from job_engine.cli.jobs import JobId, job_id
from job_engine.cli.watch import log_lines
from job_engine.model import FINAL_STATES, JobState

POLL_S = 0.5


def logs(
    job: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Print what a job's runs have logged."""
    with connected(api_url, data_dir) as api:
        full, after = job_id(job), 0
        while True:
            # Read before the lines: if the job has ended, its log is complete.
            state = JobState(api.get(full, select="state").data["state"])
            for number, line in log_lines(api, full, after):
                after = number
                print(line)
            if not follow or state in FINAL_STATES:
                return
            time.sleep(POLL_S)
