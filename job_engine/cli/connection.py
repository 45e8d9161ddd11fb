"""Finding the engine that a command connects to, and logging in.

The first of these counts: `--data-dir`, `--api-url`, JOB_ENGINE_API_URL, JOB_ENGINE_DATA_DIR, the
login that `job-engine login` kept, the default data directory of `job-engine up`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import requests
import typer
from kazoo.client import KazooClient

from job_engine.cli.exits import errors_as_exits
from job_engine.cli.local_engine import LocalEngine, save_secret
from job_engine.cli.options import load_settings
from job_engine.cli.zookeeper import zookeeper_client
from job_engine.client import Api
from job_engine.client.credentials import login_credentials
from job_engine.errors import ApiError, ApiUnavailableError, ConfigurationError
from job_engine.settings import DEFAULT_DATA_DIR, ClientSettings

RETRY_S: Final = 10.0

ApiUrl = Annotated[
    str | None,
    typer.Option("--api-url", metavar="URL", help="The engine's API. (env JOB_ENGINE_API_URL)"),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Data directory of a running `job-engine up`: its address and login are found "
        "there. (env JOB_ENGINE_DATA_DIR)",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@dataclass(frozen=True)
class Target:
    """The address of an engine, and the login for it."""

    api_url: str
    credentials: dict[str, str] | None
    zk_hosts: str | None
    insecure: bool = False


def find_target(api_url: str | None, data_dir: Path | None) -> Target:
    """Return the engine that a command means; raises `ConfigurationError` or unreachable."""
    settings = load_settings(ClientSettings, {"api_url": api_url, "data_dir": data_dir})
    if data_dir is not None:
        return _local(data_dir, settings)
    if "api_url" in settings.model_fields_set:
        credentials = login_credentials(settings) or _kept_login(settings, settings.api_url)
        return Target(
            settings.api_url.rstrip("/"), credentials, settings.zk_hosts, settings.api_insecure
        )
    if settings.data_dir is not None:
        return _local(settings.data_dir, settings)
    kept = _read(settings.login_file.expanduser())
    if kept:
        return Target(kept["url"], _pair(kept), settings.zk_hosts, settings.api_insecure)
    return _local(DEFAULT_DATA_DIR, settings)


@contextmanager
def connected(api_url: str | None, data_dir: Path | None) -> Iterator[Api]:
    """A client of the engine for one command; expected errors become exit codes."""
    with errors_as_exits():
        target = find_target(api_url, data_dir)
        api = open_api(target)
        try:
            yield api
        finally:
            api.close()


def open_api(target: Target) -> Api:
    """Return a client that is logged in where there is a key.

    Raises `ApiUnavailableError` when no engine answers, `ApiError` when it refuses the key.
    """
    api = Api(
        target.api_url,
        credentials=target.credentials,
        insecure=target.insecure,
        retry_s=RETRY_S,
    )
    if not api.ready():
        api.close()
        raise ApiUnavailableError(
            f"No engine answers at {target.api_url}. Start one with `job-engine up`, or set "
            "JOB_ENGINE_API_URL."
        )
    if target.credentials is not None:
        try:
            _log_in(api, target.api_url, target.credentials)
        except ApiError:
            api.close()
            raise
    return api


def _log_in(api: Api, url: str, credentials: dict[str, str]) -> None:
    try:
        reply = api.login_apikey(credentials["key"], credentials["secret"])
    except requests.RequestException:
        return  # it stopped answering: the first request will say so
    if reply is not None and reply.status_code == 201:
        return
    if reply is not None and reply.status_code >= 500:
        # A session is written: no fault of the key's.
        raise ApiUnavailableError(f"{url} accepts no logins for now: {_message_of(reply)}")
    raise ApiError(
        f"{url} refuses the key {credentials['key']}. Log in again with `job-engine login`."
    )


def _message_of(reply: requests.Response) -> str:
    try:
        return str(reply.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"it answers {reply.status_code}"


@contextmanager
def zookeeper(api_url: str | None, data_dir: Path | None) -> Iterator[KazooClient]:
    """A ZooKeeper client for one command; expected errors become exit codes."""
    with errors_as_exits():
        hosts = find_target(api_url, data_dir).zk_hosts
        if hosts is None:
            raise ConfigurationError(
                "Executors are known to ZooKeeper: set JOB_ENGINE_ZK_HOSTS, or name the data "
                "directory of a local engine with --data-dir."
            )
        with zookeeper_client(hosts, load_settings(ClientSettings)) as client:
            yield client


def keep_login(url: str, key: dict[str, str]) -> Path:
    """Store an API key for later commands; return the file."""
    file = load_settings(ClientSettings).login_file.expanduser()
    save_secret(file, {"url": url, **key})
    return file


def forget_login() -> dict[str, str] | None:
    """Remove the stored key, and return it."""
    file = load_settings(ClientSettings).login_file.expanduser()
    kept = _read(file)
    file.unlink(missing_ok=True)
    return kept


def _local(data_dir: Path, settings: ClientSettings) -> Target:
    engine = LocalEngine(data_dir)
    running = engine.running()
    if running is None:
        raise ApiUnavailableError(
            f"No engine runs in {engine.data_dir}. Start one with `job-engine up`, or set "
            "JOB_ENGINE_API_URL."
        )
    credentials = login_credentials(settings)
    if credentials is None:
        kept = _read(engine.credentials_file("admin"))
        credentials = _pair(kept) if kept else None
    return Target(running.api_url, credentials, settings.zk_hosts or running.zk_hosts)


def _kept_login(settings: ClientSettings, url: str) -> dict[str, str] | None:
    kept = _read(settings.login_file.expanduser())
    return _pair(kept) if kept and kept["url"].rstrip("/") == url.rstrip("/") else None


def _pair(kept: dict[str, str]) -> dict[str, str]:
    return {"key": kept["key"], "secret": kept["secret"]}


def _read(file: Path) -> dict[str, str] | None:
    try:
        found = json.loads(file.read_text())
        return {str(name): str(value) for name, value in found.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from error
