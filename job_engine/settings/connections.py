"""How processes reach the API and ZooKeeper."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr

from job_engine.settings.base import Settings

# Checked here: names become parts of paths, and kazoo's errors for wrong hosts are unclear.
NAME: Final = r"^[^/\s]+$"
_SERVER: Final = r"(\[[0-9A-Fa-f:.]+\]|[^:,/\s\[\]]+)(:[0-9]{1,5})?"
ZK_HOSTS: Final = rf"^{_SERVER}(,{_SERVER})*(/\S*)?$"


class ConnectionSettings(Settings):
    """How a process reaches the API."""

    api_url: str = Field(
        "http://127.0.0.1:8020",
        pattern=r"^https?://[^/\s]",
        description="Where the API answers, `http://…` or `https://…`.",
    )
    api_key: str | None = Field(None, description="API key (`credential/<uuid>`) to log in with.")
    api_secret: SecretStr | None = Field(None, description="Secret that goes with the API key.")
    credentials_file: Path | None = Field(
        None,
        description="JSON file with `key` and `secret`, instead of the two settings; "
        "readable by its owner only.",
    )
    api_insecure: bool = Field(False, description="Accept any TLS certificate of the API.")
    api_retry_s: float = Field(
        30.0, gt=0, description="Seconds to go on trying before the API counts as unreachable."
    )


class ZooKeeperAccess(Settings):
    """Authentication with ZooKeeper, and TLS."""

    zk_auth: SecretStr | None = Field(
        None,
        description="`user:password` for digest authentication with ZooKeeper; what this "
        "process creates is then readable and writable by that user only.",
    )
    zk_tls: bool = Field(
        False, description="Speak TLS with ZooKeeper, and check its certificate and host name."
    )
    zk_tls_ca: Path | None = Field(
        None, description="PEM file of who signs ZooKeeper's certificate; unset: the system's."
    )
    zk_tls_cert: Path | None = Field(
        None, description="PEM file of this process's own certificate, where ZooKeeper asks for it."
    )
    zk_tls_key: Path | None = Field(None, description="PEM file of the key to `zk_tls_cert`.")
    zk_tls_key_password: SecretStr | None = Field(
        None, description="Password of the key, where it has one."
    )


class ServiceSettings(ConnectionSettings, ZooKeeperAccess):
    """Settings that distributors and executors share."""

    name: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        pattern=NAME,
        description="Name of this process in the queue, in elections and in logs.",
    )
    zk_hosts: str = Field(
        "127.0.0.1:2181",
        pattern=ZK_HOSTS,
        description="ZooKeeper servers, `host:port,…`, with an optional chroot.",
    )
    zk_session_timeout_s: float = Field(
        10.0, gt=0, description="ZooKeeper session timeout that is asked for, in seconds."
    )
    queue_root: str = Field(
        "/job",
        pattern=r"^(/[^/\s]+)+$",
        description="Root of the locking queue; a further pool is `/job@<pool>`.",
    )
