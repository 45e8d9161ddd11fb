"""`job-engine store`: moving from one database to another."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="The store itself, where the API is not asked: its database."
)


@app.callback()
def group() -> None:
    """A group, though it has one command so far."""


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

    with ExitStack() as stack:
        stores = [open_store(url) for url in (source, target)]
        for store in stores:
            store.start()
            stack.callback(store.stop)
        rows = copy(*stores)
    for table, number in rows.items():
        if number:
            print(f"{table:20} {number:>10,}")
