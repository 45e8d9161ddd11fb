"""`job-engine watch`: a job as it happens, test by test."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from job_engine.cli import text
from job_engine.cli.connection import ApiUrl, DataDir, connected
from job_engine.cli.exits import EXIT_CODES
from job_engine.cli.jobs import JobId, fetch, job_id
from job_engine.cli.submit import conclude, leaving_running
from job_engine.client import Seen, follow_job
from job_engine.grading.render import safe

_MARKS = {"passed": ("✔", "green"), "failed": ("✘", "red")}


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
    with connected(api_url, data_dir) as api:
        console, began = text.console(), time.monotonic()
        with leaving_running(full):
            for seen in follow_job(api, full, offset):
                if output or seen.kind != "output":
                    _show(console, seen, time.monotonic() - began)
        conclude(fetch(api, full), console, as_json=False)


watch.__doc__ = f"{watch.__doc__}\n\n{EXIT_CODES}"


def _show(console: Console, seen: Seen, elapsed_s: float) -> None:
    described = _describe(seen.kind, seen.data)
    if described is not None:
        line = Text.assemble((f"{elapsed_s:7.1f} s  ", "dim"), described)
        console.print(line, soft_wrap=True)


def _describe(kind: str, data: dict[str, Any]) -> Text | None:
    match kind:
        case "log":
            return Text(safe(str(data.get("line", "")), lines=1))
        case "test":
            mark, style = _MARKS.get(str(data.get("status")), ("·", "dim"))
            points = _points(data)
            return Text.assemble(
                (mark, style), f" {safe(str(data.get('name', '')), lines=1)}{points}"
            )
        case "output":
            return Text(safe(str(data.get("text", "")), lines=200), style="dim")
        case "phase" if data.get("state") == "started":
            return Text(f"{safe(str(data.get('phase', '')), lines=1)}: running")
        case _:
            return None  # The log says how phases ended, and the end what came of the job.


def _points(data: dict[str, Any]) -> str:
    score, most = data.get("score"), data.get("max_score")
    if not isinstance(score, (int, float)):
        return ""
    return f"  {score:g}" + (f" / {most:g}" if isinstance(most, (int, float)) else "")
