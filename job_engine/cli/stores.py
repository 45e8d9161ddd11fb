"""`job-engine store`: copies a store to another database."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from job_engine.cli.exits import errors_as_exits
from job_engine.errors import ConfigurationError

app = typer.Typer(
    no_args_is_help=True, help="The store itself, where the API is not asked: its database."
)


@app.callback()
def group() -> None:
    """Makes typer treat this as a group, although it has one command."""


@app.command("copy")
def copy_(
    source: Annotated[str, typer.Argument(help="URL of the store: sqlite:////PATH/store.sqlite.")],
    target: Annotated[
        str, typer.Argument(help="URL of an empty database: postgresql://USER@HOST/NAME.")
    ],
) -> None:
    """Copy everything in a store to another database, all of it or nothing. Stop the API first."""
    from job_engine.store.copy import copy  # nobody else needs a database
    from job_engine.store.factory import open_store

    with errors_as_exits(), ExitStack() as stack:
        _require_there(source)
        stores = [open_store(url) for url in (source, target)]
        for store in stores:
            store.start()
            stack.callback(store.stop)
        rows = copy(*stores)
    for table, number in rows.items():
        if number:
            print(f"{table:20} {number:>10,}")


def _require_there(source: str) -> None:
    """Raise `ConfigurationError` for a missing SQLite file, which opening would create empty."""
    name = source.removeprefix("sqlite:///")
    if name != source and not Path(name).is_file():
        raise ConfigurationError(f"There is no store in {name}.")
