"""The `job-engine` application: its command groups, put together."""

from __future__ import annotations

import typer

from job_engine.cli import (
    access,
    advice,
    assignment_check,
    assignments,
    doctor,
    executors,
    jobs,
    live,
    login,
    logs,
    replay,
    shares,
    status,
    stores,
    submit,
)
from job_engine.cli.options import settings_command, version_option
from job_engine.cli.up.command import up
from job_engine.settings import ApiSettings, UpSettings

app = typer.Typer(
    name="job-engine",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_show_locals=False,
)


@app.callback()
def root(
    version: bool = version_option(),
) -> None:
    """A distributed job engine for grading code that nobody trusts."""


def _serve(settings: ApiSettings) -> None:
    from job_engine.api.server import serve  # nobody else needs a web server

    serve(settings)


settings_command(
    app, "up", UpSettings, up, about="Run a whole engine on this machine, until Ctrl-C."
)
app.command()(submit.submit)
app.command()(live.watch)
app.command()(replay.replay)
jobs.app.command()(submit.add)
jobs.app.command()(logs.logs)
app.add_typer(jobs.app, name="job")
assignments.app.command()(assignment_check.check)
assignments.app.command()(advice.advice)
app.add_typer(assignments.app, name="assignment")
app.add_typer(executors.app, name="executor")
app.add_typer(shares.app, name="share")
app.add_typer(stores.app, name="store")
app.command()(status.status)
app.command()(doctor.doctor)
app.command()(login.login)
app.command()(login.logout)
app.add_typer(access.users, name="user")
app.add_typer(access.credentials, name="credential")
settings_command(app, "api", ApiSettings, _serve, about="Serve the API, until SIGTERM.")
