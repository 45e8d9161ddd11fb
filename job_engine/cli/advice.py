"""`job-engine assignment advice`: which flavour an assignment needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Final

import typer

from job_engine.cli import text
from job_engine.cli.connection import ApiUrl, AsJson, DataDir, connected
from job_engine.cli.options import load_settings
from job_engine.cli.submit import results_of
from job_engine.client import Api
from job_engine.errors import ConfigurationError, NotFoundError
from job_engine.grading.advice import Observed, Spread, observe, smallest_that_fits
from job_engine.grading.assignment import NAME
from job_engine.grading.flavours import MIB, flavours
from job_engine.grading.results import Results
from job_engine.settings import ExecutorSettings

_PAGE: Final = 200
_FILTER: Final = "action='grade' and state='SUCCESS'"


def advice(
    name: Annotated[str, typer.Argument(help="The assignment's name.")],
    last: Annotated[
        int, typer.Option("--last", min=1, max=10_000, help="Newest grades to look through.")
    ] = 1000,
    api_url: ApiUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what an assignment's submissions have used, and the smallest flavour that fits.

    Flavours are the built-in ones, and those in this machine's settings. Runs that a limit ended
    are counted, but not used, because they needed more.
    """
    with connected(api_url, data_dir) as api:
        if not NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} is no name of an assignment.")
        found = list(_graded(api, name, last))
        if not found:
            raise NotFoundError(
                f"None of the newest {last} grades that you may see is of the assignment {name}."
            )
        known = flavours(load_settings(ExecutorSettings).flavours)
    observed, now = observe(found), found[0].receipt.flavour
    fits = smallest_that_fits(observed, known)
    if as_json:
        phases = [dataclasses.asdict(phase) for phase in observed]
        text.print_json({"flavour": now, "advice": fits, "grades": len(found), "phases": phases})
        return
    _show(observed)
    print(_advice(now, fits))


def _graded(api: Api, name: str, last: int) -> Iterator[Results]:
    """Yield the results of an assignment's submissions, newest first."""
    for first in range(1, last + 1, _PAGE):
        page = api.search(
            "job",
            filter=_FILTER,
            orderby="created:desc",
            select="id,action,output",
            first=first,
            last=min(first + _PAGE - 1, last),
        ).resources
        for resource in page:
            results = results_of(resource.data)
            if results is not None and results.receipt.assignment_name == name:
                yield results
        if len(page) < _PAGE:
            return


def _show(observed: list[Observed]) -> None:
    table = text.table("PHASE", "RUNS", "", "P50", "P95", "MAX", "LIMIT")
    for phase in observed:
        runs = f"{phase.runs}" + (f" (+{phase.at_a_limit} at a limit)" if phase.at_a_limit else "")
        for label, spread, limit, unit, size in (
            ("wall", phase.wall_time_s, phase.limits.get("wall_time_s"), "s", 1),
            ("CPU", phase.cpu_time_s, phase.limits.get("cpu_time_s"), "s", 1),
            ("memory", phase.memory_bytes, phase.limits.get("memory_bytes"), "MiB", MIB),
        ):
            table.add_row(
                *_cells(text.one_line(phase.phase), runs, label),
                *_numbers(spread, limit, unit, size),
            )
    text.console().print(table)


def _cells(phase: str, runs: str, label: str) -> tuple[str, str, str]:
    first = label == "wall"
    return (phase if first else "", runs if first else "", label)


def _numbers(spread: Spread, limit: float | None, unit: str, size: int) -> list[str]:
    numbers: list[float | None] = [spread.p50, spread.p95, spread.largest, limit]
    return ["" if number is None else f"{number / size:.2f} {unit}" for number in numbers]


def _advice(now: str, fits: str | None) -> str:
    if fits is None:
        return f"It has the flavour {now or 'unknown'}, and no flavour has room for all of it."
    if fits == now:
        return f"It has the flavour {now}, which is the smallest that fits."
    return f"It has the flavour {now or 'unknown'}; the smallest that fits is {fits}."
