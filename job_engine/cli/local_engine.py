"""The data directory of an engine that `job-engine up` runs.

`engine.yaml` is written once, when the directory is set up. `run.json` exists while the engine
runs; other commands find it there. `credentials/` has API keys, and `curl.conf` a session. All
these files are readable by their owner only.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from job_engine.errors import ConfigurationError
from job_engine.log import get_logger

log = get_logger(__name__)

_POLL_S: Final = 0.1


class EngineConfig(BaseModel):
    """`engine.yaml`: the choices made when the engine was set up."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine_id: str
    """Distinguishes engines on one machine, in names of executors and sandbox labels."""
    sandbox: Literal["docker", "bubblewrap", "none"]
    sandbox_reason: str
    default_image: str | None = None
    api_port: int
    zookeeper_port: int | None = None


class RunInfo(BaseModel):
    """`run.json`: the address of the running engine."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    pid: int
    api_url: str
    zk_hosts: str


class LocalEngine:
    """The files of one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.expanduser().absolute()
        self.config_file = self.data_dir / "engine.yaml"
        self.run_file = self.data_dir / "run.json"
        self.credentials_dir = self.data_dir / "credentials"
        self.curl_file = self.data_dir / "curl.conf"

    @contextmanager
    def locked(self, patience_s: float = 0.0) -> Iterator[int]:
        """Own the directory. Raises `ConfigurationError` while another engine owns it.

        Yields the descriptor of a lock, which the engine's processes inherit. They outlive a
        killed supervisor for a moment, with its port and ZooKeeper's data; the next one waits
        for them, up to `patience_s` seconds.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.data_dir / "lock").open("w")
            parts = (self.data_dir / "parts.lock").open("w")
        except OSError as error:
            raise ConfigurationError(
                f"No engine can live in {self.data_dir}: {error.strerror}. Name a directory that "
                "you may write with --data-dir."
            ) from error
        with lock, parts:
            if not _take(lock, 0.0):
                raise ConfigurationError(
                    f"An engine runs in {self.data_dir} already. Give this one a directory "
                    "of its own with --data-dir."
                )
            if not _take(parts, patience_s):
                raise ConfigurationError(
                    f"Parts of an engine that was killed still run in {self.data_dir}. Wait for "
                    f"them to end, or end them: `fuser {parts.name}` names them."
                )
            yield parts.fileno()

    def config(self) -> EngineConfig | None:
        """Return the configuration; None: the directory is not set up."""
        try:
            text = self.config_file.read_text()
        except FileNotFoundError:
            return None
        try:
            return EngineConfig.model_validate(yaml.safe_load(text))
        except (ValidationError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{self.config_file} cannot be read: {error}") from error

    def save_config(self, config: EngineConfig) -> None:
        """Write `engine.yaml` atomically."""
        body = yaml.safe_dump(config.model_dump(), sort_keys=False)
        _write(self.config_file, f"# Written by `job-engine up`.\n{body}")

    def running(self) -> RunInfo | None:
        """Return the address of the running engine; None: it does not run."""
        try:
            info = RunInfo.model_validate_json(self.run_file.read_text())
        except (OSError, ValidationError):
            return None
        return info if Path(f"/proc/{info.pid}").exists() else None

    def save_running(self, info: RunInfo) -> None:
        """Write `run.json`."""
        _write(self.run_file, info.model_dump_json(indent=2))

    def forget_running(self) -> None:
        """Remove `run.json`."""
        self.run_file.unlink(missing_ok=True)

    def credentials_file(self, who: str) -> Path:
        """Return the file with the API key of `admin`, `submitter`, `executor` or `distributor`."""
        return self.credentials_dir / f"{who}.json"


def save_secret(file: Path, content: dict[str, Any]) -> None:
    """Write a JSON file atomically, readable by its owner only."""
    save_private(file, json.dumps(content, indent=2) + "\n")


def save_private(file: Path, text: str) -> None:
    """Write a file atomically, readable by its owner only."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(file, text)


def new_engine_id() -> str:
    """Return a random identifier for an engine."""
    return secrets.token_hex(3)


def _take(lock: IO[str], patience_s: float) -> bool:
    """Take a lock for as long as the file is open; return false if another process has it."""
    deadline = time.monotonic() + patience_s
    announced = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            if not announced:
                log.warning("engine.waits", file=lock.name, patience_s=patience_s)
                announced = True
            time.sleep(_POLL_S)
        else:
            return True


def _write(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        # Otherwise a crash of the host could leave an empty file under the new name.
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
