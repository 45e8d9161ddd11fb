"""What the benchmarks share: an engine of real processes, and a table of figures."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from job_engine.client import Api
from job_engine.queue.local import LocalZooKeeper
from tests.support.engine import Engine, eventually

console = Console()


@contextmanager
def zookeeper() -> Iterator[str]:
    """A ZooKeeper of the benchmark's own, with its log synced to disk as in production."""
    with tempfile.TemporaryDirectory() as directory:
        server = LocalZooKeeper(Path(directory))
        server.start()
        try:
            yield server.hosts
        finally:
            server.stop()


@contextmanager
def engine(zk_hosts: str, **executor: object) -> Iterator[tuple[Engine, Api, Path]]:
    """A whole engine that has run its first job; yields a directory for traces, too."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with Engine(directory, zk_hosts) as made:
            made.start(log_level="WARNING", **executor)
            api = made.admin()
            made.submit(api, "noop")
            made.wait_final(api, 1)
            yield made, api, directory
            api.close()


def unfinished(api: Api, action: str) -> int:
    """Jobs of this action that are not final yet."""
    found = api.search("job", filter=f"action='{action}' and state=['QUEUED', 'RUNNING']", last=0)
    return int(found.count)


def wait_drained(api: Api, action: str, timeout_s: float = 600.0) -> None:
    """Wait until no job of this action is left."""
    eventually(lambda: unfinished(api, action) == 0, timeout_s, "a drained queue")


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile of at least two values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(*head, title=title)
    for row in rows:
        table.add_row(*row)
    console.print(table)
