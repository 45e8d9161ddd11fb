"""`job-engine executor`: lists executors, and drains one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from job_engine.cli import text
from job_engine.cli.connection import ApiUrl, AsJson, DataDir, zookeeper
from job_engine.queue.fleet import list_executors, request_drain

app = typer.Typer(no_args_is_help=True, help="Executors: list the live ones, drain one.")


@app.command("list")
def list_(api_url: ApiUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show the executors that are alive now."""
    with zookeeper(api_url, data_dir) as client:
        executors = list_executors(client)
    if as_json:
        text.print_json([asdict(executor) for executor in executors])
        return
    if not executors:
        print("No executor is alive.")
        return
    table = text.table("NAME", "HOST", "THREADS", "SANDBOX", "STATE", "ACTIONS")
    for executor in executors:
        table.add_row(
            text.clean(executor.name),
            text.clean(executor.host),
            str(executor.threads),
            executor.sandbox or "none",
            "draining" if executor.draining else "live",
            ", ".join(map(text.clean, executor.actions)),
        )
    text.console().print(table)


@app.command()
def drain(
    name: Annotated[str, typer.Argument(help="As `executor list` shows it.")],
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Let an executor finish what it runs, claim nothing more, and stop."""
    with zookeeper(api_url, data_dir) as client:
        request_drain(client, name)
    print(f"{name} drains: it finishes what it runs, for a while, and stops.")
