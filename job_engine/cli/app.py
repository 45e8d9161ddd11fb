"""The `job-engine` application: its command groups, put together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from job_engine.cli import doctor, executors
from job_engine.cli.options import settings_command
from job_engine.cli.up.command import up
from job_engine.cli.up.settings import UpSettings

app = typer.Typer(
    name="job-engine",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"job-engine {version('job-engine')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """A distributed job engine for grading code that nobody trusts."""


settings_command(
    app, "up", UpSettings, up, about="Run a whole engine on this machine, until Ctrl-C."
)
app.command()(doctor.doctor)
app.add_typer(executors.app, name="executor")
