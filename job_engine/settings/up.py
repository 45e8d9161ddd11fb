"""Settings of `job-engine up`."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr

from job_engine.settings.connections import ZK_HOSTS, ZooKeeperAccess

DEFAULT_DATA_DIR: Final = Path("~/.local/share/job-engine")


class UpSettings(ZooKeeperAccess):
    """A whole engine on one machine. Its children read their own variables too."""

    data_dir: Path = Field(
        DEFAULT_DATA_DIR,
        description="Everything that the engine keeps: store, uploads, ZooKeeper, keys. "
        "One running engine a directory.",
    )
    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: int = Field(
        8020,
        ge=0,
        le=65_535,
        description="Port of the API; 0: a free one, kept for the next start.",
    )
    zookeeper: bool = Field(
        True, description="Run a ZooKeeper of its own; off: use the one at `zk_hosts`."
    )
    zk_hosts: str = Field(
        "127.0.0.1:2181",
        pattern=ZK_HOSTS,
        description="ZooKeeper servers to use with --no-zookeeper.",
    )
    zookeeper_home: Path | None = Field(
        None, description="Unpacked ZooKeeper release; unset: the installed package."
    )
    executors: int = Field(1, ge=0, le=64, description="Number of executor processes.")
    threads: int | None = Field(
        None, gt=0, description="Worker threads an executor; unset: the executor's default."
    )
    sandbox: Literal["docker", "bubblewrap", "none"] | None = Field(
        None,
        description="Sandbox backend; unset: chosen when the data directory is set up (docker "
        "where a daemon answers, else bubblewrap) and kept from then on.",
    )
    default_image: str | None = Field(
        None, description="Image for phases that name none, kept like the sandbox."
    )
    actions_dir: Path | None = Field(
        None, description="Directory of Python files with further actions."
    )
    drain_s: float = Field(
        120.0,
        ge=0,
        description="Seconds that running jobs get to finish when the engine stops; then they "
        "are given back.",
    )
    admin_password: SecretStr | None = Field(
        None,
        description="Password of the user `admin`, for the first start; unset: one is made up "
        "and printed once.",
    )
