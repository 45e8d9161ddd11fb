"""`job-engine doctor`: checks what an engine needs on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import requests
import typer
from rich.text import Text

from job_engine.cli import checks, text
from job_engine.cli.checks import Finding, Status
from job_engine.cli.connection import ApiUrl, DataDir, find_target, open_api
from job_engine.cli.options import load_settings
from job_engine.cli.zookeeper import zookeeper_client
from job_engine.errors import ApiUnavailableError, ConfigurationError, JobEngineError
from job_engine.queue.fleet import list_executors
from job_engine.queue.security import world_writable
from job_engine.settings import ClientSettings, UpSettings

ANSWER_S: Final = 5.0
STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.MISSING: "bold red"}


def doctor(api_url: ApiUrl = None, data_dir: DataDir = None) -> None:
    """Say what this machine has and lacks, with a remedy for each.

    Exit code 1 when something is missing without which no engine can run here.
    """
    console = text.console()
    missing = False
    for finding in _all(api_url, data_dir):
        missing = missing or finding.status is Status.MISSING
        line = Text.assemble(
            (f"{finding.status:<8}", STYLES[finding.status]), f"{finding.name:<11}", finding.detail
        )
        if finding.remedy:
            line.append(f"  → {finding.remedy}", style="bold")
        console.print(line, soft_wrap=True)
    raise typer.Exit(1 if missing else 0)


def _all(api_url: str | None, data_dir: DataDir) -> Iterator[Finding]:
    yield from checks.machine()
    api = _api(api_url, data_dir)
    if api.status is not Status.OK and (up_settings := _settings_of_up()) is not None:
        yield checks.port(up_settings.host, up_settings.port or 8020)
    yield api
    if (clock := _clock(api_url, data_dir)) is not None:
        yield clock
    if (queue := _queue(api_url, data_dir)) is not None:
        yield queue


def _settings_of_up() -> UpSettings | None:
    try:
        return load_settings(UpSettings)
    except ConfigurationError:
        return None  # said already


def _queue(api_url: str | None, data_dir: DataDir) -> Finding | None:
    """Check the engine's ZooKeeper, if its address is known."""
    try:
        hosts = find_target(api_url, data_dir).zk_hosts
        if hosts is None:
            return None
        access = load_settings(ClientSettings)
        with zookeeper_client(hosts, access) as client:
            alive = len(list_executors(client))
            exposed = world_writable(client) if access.zk_auth else []
    except (ApiUnavailableError, ConfigurationError):
        return None  # said already
    except JobEngineError as error:
        return Finding("queue", Status.WARN, error.message)
    if exposed:
        return Finding(
            "queue",
            Status.WARN,
            f"anybody may write below {', '.join(exposed)}: made before JOB_ENGINE_ZK_AUTH was set",
            "zkCli.sh: addauth digest USER:PASSWORD, then setAcl -R PATH auth::cdrwa for each",
        )
    return Finding("queue", Status.OK, f"ZooKeeper answers at {hosts}; executors alive: {alive}")


def _clock(api_url: str | None, data_dir: DataDir) -> Finding | None:
    """Compare this machine's clock with that of the API, where one answers."""
    try:
        target = find_target(api_url, data_dir)
        url = f"{target.api_url}/api/health/live"
        reply = requests.get(url, timeout=ANSWER_S, verify=not target.insecure)
    except (JobEngineError, requests.RequestException):
        return None  # said already
    return checks.clock(reply.headers.get("Date"), time.time())


def _api(api_url: str | None, data_dir: DataDir) -> Finding:
    try:
        target = find_target(api_url, data_dir)
        open_api(target).close()
    except ApiUnavailableError as error:
        what, _, _ = error.message.partition(" Start one")
        return Finding(
            "api", Status.WARN, what, "start one with `job-engine up`, or set JOB_ENGINE_API_URL"
        )
    except JobEngineError as error:
        return Finding("api", Status.WARN, error.message)
    return Finding("api", Status.OK, f"answers at {target.api_url}")
