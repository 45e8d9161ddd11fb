"""Settings of the commands that connect to an engine."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from job_engine.settings.connections import ZK_HOSTS, ConnectionSettings, ZooKeeperAccess


class ClientSettings(ConnectionSettings, ZooKeeperAccess):
    """Settings of the commands that connect to an engine."""

    data_dir: Path | None = Field(None, description="Data directory of a local engine.")
    zk_hosts: str | None = Field(
        None,
        pattern=ZK_HOSTS,
        description="ZooKeeper servers, `host:port,…`, for `executor` and `status`.",
    )
    login_file: Path = Field(
        Path("~/.config/job-engine/login.json"), description="Where `login` keeps its key."
    )
