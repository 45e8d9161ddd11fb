"""The `job-engine` application: its command groups, put together."""

from __future__ import annotations

import typer

app = typer.Typer(name="job-engine", no_args_is_help=True, add_completion=False)


@app.callback()
def root() -> None:
    """A distributed job engine for grading code that nobody trusts."""
