"""`job-engine status`: waiting and running jobs, and problems that keep jobs from running."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import typer
from rich.text import Text

from job_engine.cli import text
from job_engine.cli.connection import (
    ApiUrl,
    AsJson,
    DataDir,
    Target,
    find_target,
    open_api,
)
from job_engine.cli.exits import errors_as_exits
from job_engine.cli.options import load_settings
from job_engine.cli.zookeeper import zookeeper_client
from job_engine.client import Api
from job_engine.errors import QueueError
from job_engine.queue.fleet import ExecutorInfo, list_executors
from job_engine.queue.overview import Overview, overview
from job_engine.settings import ClientSettings

PATIENCE_S: Final = 3.0
"""Seconds for which entries may wait although threads are free before that is a problem."""
POLL_S: Final = 0.2
PROBLEM: Final = 1
"""Exit code if a problem keeps jobs from running."""
_UNSERVED: Final = 20
"""Waiting jobs that are read to find actions without an executor."""


@dataclass(frozen=True)
class ActionStatus:
    """Jobs, threads and leader of one action."""

    action: str
    queued: int
    running: int
    executors: int
    """Threads of live executors that have the action and do not drain."""
    threads: int
    leader: str | None


@dataclass(frozen=True)
class Queue:
    """The state of ZooKeeper, or the `error` of reading it."""

    hosts: str | None
    executors: Sequence[ExecutorInfo] = ()
    seen: Overview | None = None
    error: str | None = None

    @property
    def live_threads(self) -> int:
        """Return the threads of the executors that do not drain."""
        return sum(executor.threads for executor in self.executors if not executor.draining)

    @property
    def idle_beside_work(self) -> bool:
        """Return whether entries wait although threads are free, which is normal for a moment."""
        if self.seen is None:
            return False
        return self.seen.claimed < min(self.seen.entries, self.live_threads)


def status(api_url: ApiUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show what waits and runs, who runs it and who distributes it. For admins.

    Exit codes: 0 all waiting jobs can be run; 1 a problem prevents that, and is printed;
    2 wrong usage; 4 no engine answers; 5 the engine refused the request.
    """
    with errors_as_exits():
        target = find_target(api_url, data_dir)
        api = open_api(target)
        try:
            queue = _ask_queue(target)
            actions = list(_actions(api, queue))
        finally:
            api.close()
    problems = list(_problems(queue, actions))
    if as_json:
        text.print_json(
            {
                "api": target.api_url,
                "queue": asdict(queue),
                "actions": [asdict(action) for action in actions],
                "problems": problems,
            }
        )
    else:
        _show(target, queue, actions, problems)
    if problems:
        raise typer.Exit(PROBLEM)


def _ask_queue(target: Target) -> Queue:
    if target.zk_hosts is None:
        return Queue(None)
    try:
        with zookeeper_client(target.zk_hosts, load_settings(ClientSettings)) as client:
            queue = Queue(target.zk_hosts, list_executors(client), overview(client))
            deadline = time.monotonic() + PATIENCE_S
            while queue.idle_beside_work and time.monotonic() < deadline:
                time.sleep(POLL_S)
                queue = Queue(target.zk_hosts, list_executors(client), overview(client))
            return queue
    except QueueError as error:
        return Queue(target.zk_hosts, error=error.message)


def _actions(api: Api, queue: Queue) -> Iterator[ActionStatus]:
    """Yield every action that an executor has, or that jobs wait for."""
    names = {action.name for action in api.actions()}
    names.update(name for executor in queue.executors for name in executor.actions)
    known = " and ".join(f"action!='{name}'" for name in sorted(names))
    waiting = "state='QUEUED'" + (f" and {known}" if known else "")
    others = api.search("job", filter=waiting, last=_UNSERVED, select="action").resources
    names.update(str(resource.data["action"]) for resource in others)
    for name in sorted(names):
        able = [e for e in queue.executors if name in e.actions and not e.draining]
        yield ActionStatus(
            action=name,
            queued=_count(api, name, "QUEUED"),
            running=_count(api, name, "RUNNING"),
            executors=len(able),
            threads=sum(executor.threads for executor in able),
            leader=queue.seen.leaders.get(name) if queue.seen else None,
        )


def _count(api: Api, action: str, state: str) -> int:
    found = api.search("job", filter=f"state='{state}' and action='{action}'", last=1, select="id")
    return int(found.count)


def _problems(queue: Queue, actions: Sequence[ActionStatus]) -> Iterator[str]:
    if queue.hosts is None:
        return  # nothing is known, which is said where it is shown
    if queue.seen is None:
        yield f"{queue.error} No job is started until it answers."
        return
    if not queue.executors:
        yield "No executor is alive: start one with `job-executor`, or see its log."
    if not queue.seen.leaders:
        yield "No distributor is alive: start one with `job-distributor`, or see its log."
        return
    if queue.idle_beside_work:
        free = queue.live_threads - queue.seen.claimed
        yield (
            f"Entries wait, and {free} of {queue.live_threads} threads are free: see the "
            "executors' logs, which say why they do not claim (`api.refused`, `queue.refused`)."
        )
    for action in actions:
        if action.queued and queue.executors and not action.executors:
            yield (
                f"{_jobs(action.queued)} of {text.clean(action.action)} wait, and no live "
                "executor has that action: start one that does."
            )
        elif action.queued and action.leader is None:
            yield (
                f"{_jobs(action.queued)} of {text.clean(action.action)} wait, and no "
                "distributor leads that action: see the distributors' logs."
            )


def _show(
    target: Target, queue: Queue, actions: Sequence[ActionStatus], problems: Sequence[str]
) -> None:
    console = text.console()
    console.print(f"API        answers at {target.api_url}")
    console.print(f"ZooKeeper  {_queue_line(queue)}")
    if queue.seen is not None:
        console.print(f"Executors  {_executors_line(queue)}")
    console.print()
    table = text.table("ACTION", "QUEUED", "RUNNING", "THREADS", "LEADER")
    for action in actions:
        known = queue.seen is not None
        table.add_row(
            text.clean(action.action),
            f"{action.queued:,}",
            f"{action.running:,}",
            str(action.threads) if known else "?",
            text.cut(text.one_line(action.leader or "none") if known else "?"),
        )
    console.print(table)
    for problem in problems:
        console.print()
        console.print(Text.assemble(("wrong: ", "bold red"), problem))


def _queue_line(queue: Queue) -> str:
    if queue.hosts is None:
        return "not asked: name it with JOB_ENGINE_ZK_HOSTS"
    if queue.seen is None:
        return f"does not answer at {queue.hosts}"
    waiting = max(0, queue.seen.entries - queue.seen.claimed)
    return (
        f"answers at {queue.hosts}; of its queue {waiting:,} wait, {queue.seen.claimed:,} are taken"
    )


def _executors_line(queue: Queue) -> str:
    draining = sum(executor.draining for executor in queue.executors)
    live = f"{len(queue.executors) - draining} live with {queue.live_threads} threads"
    return f"{live}, {draining} draining" if draining else live


def _jobs(number: int) -> str:
    return f"{number:,} job{'' if number == 1 else 's'}"
