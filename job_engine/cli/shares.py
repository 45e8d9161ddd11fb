"""`job-engine share`: the weights of shares."""

from __future__ import annotations

from typing import Annotated

import typer

from job_engine.cli import text
from job_engine.cli.connection import ApiUrl, AsJson, DataDir, connected

app = typer.Typer(
    no_args_is_help=True,
    help="Shares: whose jobs wait for the same executors, and the weight of each. For admins.",
)

LEAST, MOST = 0.001, 1000.0


@app.command("list")
def list_(api_url: ApiUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show the weights that were set; every other share has the weight 1."""
    with connected(api_url, data_dir) as api:
        shares = list(api.shares())
    if as_json:
        text.print_json([share.model_dump() for share in shares])
        return
    table = text.table("SHARE", "WEIGHT")
    for share in shares:
        table.add_row(text.clean(share.name), f"{share.weight:g}")
    text.console().print(table)


@app.command("set")
def set_(
    name: Annotated[str, typer.Argument(help="What jobs name as `parent`, else who created them.")],
    weight: Annotated[
        float,
        typer.Argument(min=LEAST, max=MOST, help="2 gets twice the turns of 1, while both wait."),
    ],
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Give a share a weight, which applies to what already waits."""
    with connected(api_url, data_dir) as api:
        api.set_share(name, weight)
    print(f"{name} has the weight {weight:g}")
