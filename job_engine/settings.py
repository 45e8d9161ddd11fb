"""Settings: the only place that reads the environment.

Each class is what one process (or one part) can be told. A value comes, in rising
precedence, from its default, the YAML file that `JOB_ENGINE_CONFIG` names, an
environment variable `JOB_ENGINE_<FIELD>`, or a flag `--<field>` of the process.
"""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, SecretStr, StringConstraints
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

ENV_PREFIX = "JOB_ENGINE_"

STOP_GRACE_S: Final = 10.0
"""Seconds within which each service has ended after SIGTERM, whatever is gone or hangs; an
executor's begin when its drain (`drain_s`) is over."""


class Settings(BaseSettings):
    """Common ground: where values come from, and how to log."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True)

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe level that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Log lines for people, or one JSON object a line."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags win over the environment, the environment over the YAML file."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        config = os.environ.get(f"{ENV_PREFIX}CONFIG")
        if config:
            sources.append(YamlConfigSettingsSource(settings_cls, yaml_file=Path(config)))
        return tuple(sources)


class ConnectionSettings(Settings):
    """How a process reaches the API."""

    api_url: str = Field("http://127.0.0.1:8020", description="Where the API answers.")
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
    """How to be let in to ZooKeeper, and to know it."""

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
    """What a distributor and an executor have in common."""

    name: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="Name of this process in the queue, in elections and in logs.",
    )
    zk_hosts: str = Field(
        "127.0.0.1:2181", description="ZooKeeper servers, `host:port,…`, with an optional chroot."
    )
    zk_session_timeout_s: float = Field(
        10.0, gt=0, description="ZooKeeper session timeout that is asked for, in seconds."
    )
    queue_root: str = Field(
        "/job", description="Root of the locking queue; a further pool is `/job@<pool>`."
    )


_ImageDigest = Annotated[
    str, StringConstraints(pattern=r"^(host|([^@\s]+@|image:|packages:)?sha256:[0-9a-f]{64})$")
]
_ReachPattern = Annotated[
    str, StringConstraints(pattern=r"^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:[0-9]{1,5}$")
]


class PolicySettings(Settings):
    """What an operator lets assignments ask for; there is no other say in it."""

    allow_kvm: bool = Field(False, description="Let assignments ask for /dev/kvm.")
    allow_profiles: list[Literal["own-root"]] = Field(
        [],
        description="Profiles that assignments may have beyond an unprivileged user on a "
        "read-only root. `own-root`: root over a writable root file system of the slot's own, "
        "as bundles made for Gradescope and PrairieLearn expect.",
    )
    max_root_bytes: int = Field(
        2 * 2**30, gt=0, description="Most bytes that a phase may write with `own-root`."
    )
    image_map: dict[str, str | None] = Field(
        {},
        description="Images to use in place of those that assignments name, such as "
        "`{prairielearn/grader-python: course-python}`; null: the default one.",
    )
    allow_images: list[_ImageDigest] | None = Field(
        None,
        description="Images that phases may run in, and no others: `NAME@sha256:…` or an image's "
        "id `sha256:…` (Docker), `packages:sha256:…` (a root file system, as receipts name it), "
        "`host` (the host's /usr in bubblewrap). The default image has to be among them. Unset: "
        "any.",
    )
    allow_reach: list[_ReachPattern] | None = Field(
        None,
        description="`host:port`, or `*.domain:port` for all below a domain, that phases may be "
        "let to reach, the hosts of git repositories among them. Unset: any public host that an "
        "assignment or a repository's URL names.",
    )
    max_cpus: float = Field(2.0, gt=0, description="Most CPU cores a phase may have.")
    max_cpu_time_s: float = Field(600.0, gt=0, description="Most CPU seconds a phase may use.")
    max_wall_time_s: float = Field(1200.0, gt=0, description="Longest a phase may run, in seconds.")
    max_memory_bytes: int = Field(2 * 2**30, gt=0, description="Most memory a phase may have.")
    max_processes: int = Field(1024, gt=0, description="Most processes a phase may have.")
    max_disk_bytes: int = Field(2**30, gt=0, description="Largest tree of a slot, in bytes.")
    max_inodes: int = Field(131_072, gt=0, description="Most inodes of a tree of a slot.")
    max_file_size_bytes: int = Field(2**30, gt=0, description="Largest file a phase may write.")
    max_output_bytes: int = Field(16 * 2**20, gt=0, description="Most output a phase may print.")


class SandboxSettings(PolicySettings):
    """What an executor's sandboxes may use, and what for."""

    sandbox: Literal["docker", "bubblewrap"] | None = Field(
        None, description="Sandbox backend; unset: this executor runs no sandboxed action."
    )
    default_image: str | None = Field(
        None,
        description="Image for phases that name none. Docker: an image. bubblewrap: a root file "
        "system under `rootfs_dir`; unset: the host's /usr, read-only.",
    )
    rootfs_dir: Path | None = Field(
        None, description="Directory of named root file systems for bubblewrap."
    )
    docker_url: str | None = Field(None, description="Docker daemon; unset: the local socket.")
    docker_tls_dir: Path | None = Field(
        None, description="Directory with ca.pem, cert.pem and key.pem for a daemon behind TLS."
    )
    docker_timeout_s: float = Field(
        60.0, gt=0, description="Seconds after which a call that the daemon does not answer fails."
    )
    docker_pull_timeout_s: float = Field(
        600.0, gt=0, description="Seconds without progress after which a pull is given up."
    )
    docker_holder_image: str | None = Field(
        None,
        description="Image with sh, tar and find for the container that holds a slot's trees; "
        "unset: made from `docker_busybox`, or the image that the executor itself runs from.",
    )
    docker_busybox: Path = Field(
        Path("/bin/busybox"), description="Statically linked busybox to make the holder image from."
    )
    docker_uid_base: int = Field(
        64_000,
        ge=1_000,
        le=65_000,
        description="First of the 500 uids, one a slot, that phases in Docker run as.",
    )
    uid_slots: int = Field(
        1024, gt=0, description="How many bubblewrap slots may share this host; two uids each."
    )
    run_dir: Path = Field(
        Path("/run/job-engine"), description="Where executors of one host lock the uids in use."
    )
    cgroup_parent: str = Field(
        "job-engine",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$",
        description="Control group, below each hierarchy's root, for bubblewrap slots.",
    )
    kept_roots_dir: Path = Field(
        Path("/var/cache/job-engine/roots"),
        description="Where root file systems that setup scripts made are kept, for bubblewrap, "
        "and where is written which ones there are, for either backend.",
    )
    root_uid_base: int = Field(
        2**28,
        ge=2**24,
        le=2**31,
        description="First host uid of the ranges, 65536 a slot, that `own-root` in bubblewrap "
        "maps to.",
    )
    allow_private_hosts: list[str] = Field(
        [],
        description="Private or loopback `host:port` that phases may reach through the egress "
        "proxy; any other private address is refused.",
    )
    uid_base: int = Field(
        2_000_000,
        gt=65_535,
        description="First of the unprivileged host uids that bubblewrap slots run as.",
    )


class GradingSettings(Settings):
    """Where bundles are cached, which flavours there are, and what submissions may hold."""

    bundle_cache_dir: Path = Field(
        Path("/var/cache/job-engine/bundles"),
        description="Directory of the cache of assignment bundles; made on first use, "
        "readable by its owner only.",
    )
    bundle_cache_bytes: int = Field(
        2 * 2**30, gt=0, description="Most bytes that cached bundles may take together."
    )
    max_bundle_bytes: int = Field(
        512 * 2**20, gt=0, description="Most bytes that an assignment bundle may unpack to."
    )
    max_submission_bytes: int = Field(
        256 * 2**20, gt=0, description="Most bytes that a submission may unpack to."
    )
    max_submission_files: int = Field(
        10_000, gt=0, description="Most files and directories of a submission."
    )
    clone_image: str | None = Field(
        None, description="Image that has git, for the clone phase; unset: as the other phases."
    )
    git_secrets_file: Path | None = Field(
        None,
        description="YAML file of credentials for private repositories, by name: `host` "
        "(`host:port`), `path` (only for repositories below it), `username`, `password`; "
        "readable by its owner only. Whoever may submit may name any of them.",
    )
    setup_hosts: list[Annotated[str, StringConstraints(pattern=r"^[^:/\s]+:[0-9]{1,5}$")]] = Field(
        [],
        description="`host:port` that the setup scripts of assignments may reach, such as mirrors "
        "of packages, through the egress proxy; unset: none.",
    )
    setup_env: dict[str, str] = Field(
        {},
        description="Environment of setup scripts, such as `{PIP_INDEX_URL: …}`.",
    )
    kept_roots_bytes: int = Field(
        10 * 2**30,
        gt=0,
        description="Most bytes that what setup scripts made may take together; what is used "
        "least is made again when it is asked for.",
    )
    shards_at_once: int = Field(
        2,
        gt=0,
        le=16,
        description="Most shards of one submission's tests that run side by side, beside what the "
        "executor's other threads run.",
    )
    command_images: list[str] = Field(
        [],
        description="Images that `run_command` jobs may name. Whoever may submit could otherwise "
        "read every image of the host, and have it pull from anywhere.",
    )
    flavours: dict[str, dict[str, Any]] = Field(
        {},
        description="Named limits, added to or changing the built-in small, standard and large: "
        "`{large: {memory_bytes: 4294967296}}`.",
    )


class PlainWebhooks(Settings):
    """What the API and executors both have to know of webhooks."""

    webhook_allow_http: bool = Field(
        False, description="Let webhooks go to http:// URLs, where anyone on the way can read them."
    )


class WebhookSettings(PlainWebhooks):
    """Where an executor sends webhooks, and how long it waits."""

    webhook_private_hosts: list[str] = Field(
        [],
        description="Private or loopback `host:port` that webhooks may go to; any other private "
        "or special address is refused.",
    )
    webhook_timeout_s: float = Field(
        10.0, gt=0, le=60, description="Seconds that a webhook's receiver gets to answer."
    )
    webhook_ca_file: Path | None = Field(
        None,
        description="PEM file of further authorities whose certificates webhooks' receivers may "
        "have.",
    )


class ExecutorSettings(ServiceSettings, SandboxSettings, GradingSettings, WebhookSettings):
    """What an executor can be told."""

    name: str = Field(
        default_factory=socket.gethostname,
        description="Name of this executor, one of a kind on its machine and the same at every "
        "start: what an interrupted run left behind is found by it.",
    )
    threads: int = Field(4, ge=1, le=256, description="Jobs that run at once.")
    actions_dir: Path | None = Field(
        None, description="Directory of Python files with further actions."
    )
    warm_slots: int = Field(
        4,
        ge=0,
        description="Sandbox slots that wait, made ahead of the jobs that will use them, at most; "
        "0: none.",
    )
    warm_memory_bytes: int = Field(
        512 * 2**20, ge=0, description="Memory that waiting slots may take together, by estimate."
    )
    drain_s: float = Field(
        120.0,
        ge=0,
        description="Seconds that running jobs get to finish after SIGTERM; then they are "
        "given back.",
    )
    scratch_dir: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()) / f"job-engine-{os.getuid()}",
        description="Where actions get their private scratch directories.",
    )


class DistributorSettings(ServiceSettings):
    """What a distributor can be told."""

    actions: list[str] = Field(
        [], description="Actions to distribute; empty: all that a live executor has."
    )
    foreign_actions: list[str] = Field(
        [],
        description="Actions that other consumers of the queue run, which do not register, such "
        "as executors of the Nuvla job engine; they are distributed in any case.",
    )
    reconcile_s: float = Field(
        60.0, gt=0, description="Seconds between comparisons of the store with the queue."
    )
    poll_s: float = Field(
        5.0, gt=0, description="Seconds between looks at the store when no event tells of work."
    )
    orphan_grace_s: float = Field(
        60.0,
        ge=0,
        description="Seconds after which a job is failed whose action no live executor has.",
    )


class ApiSettings(PlainWebhooks):
    """What the API can be told."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8020, ge=0, le=65_535, description="Port to listen on; 0: a free one.")
    data_dir: Path = Field(
        Path("job-engine-data"), description="Directory of everything that has to last."
    )
    database_url: str | None = Field(
        None,
        description="Where the store is: `postgresql://USER@HOST/NAME` (its password in a "
        "`~/.pgpass`), or a SQLite file; unset: one in `data_dir`.",
    )
    blob_dir: Path | None = Field(
        None, description="Directory of uploaded files; unset: `blobs` in `data_dir`."
    )
    credentials_dir: Path | None = Field(
        None,
        description="Where the first start writes `executor.json` and `distributor.json`, the "
        "API keys of the other services; unset: `credentials` in `data_dir`.",
    )
    admin_password: SecretStr | None = Field(
        None,
        description="Password of the user `admin` that the first start makes; unset: one is "
        "generated, and printed once.",
    )
    max_blob_bytes: int = Field(256 * 2**20, gt=0, description="Largest upload, in bytes.")
    blob_quota_bytes: int = Field(
        64 * 2**30, gt=0, description="Bytes that all uploads of one owner may take."
    )
    max_body_bytes: int = Field(
        16 * 2**20, gt=0, description="Largest request that is no upload, unpacked, in bytes."
    )
    session_s: float = Field(
        7 * 86_400.0, gt=0, description="Seconds after which a session has to log in again."
    )
    trusted_peers: list[str] = Field(
        [],
        description="Addresses and networks (`10.1.0.0/16`) whose `nuvla-authn-info` and "
        "`X-Forwarded-For` headers are believed, such as that of a reverse proxy that "
        "authenticates; empty: nobody's. Such a proxy has to remove the first from what it is "
        "sent.",
    )
    audit_s: float = Field(
        30 * 86_400.0, gt=0, description="Seconds that lines of the audit trail are kept."
    )
    rate_per_s: float = Field(
        1000.0,
        ge=0,
        description="Requests a second that each user may send in the long run; more are "
        "answered 429. Admins and the engine's services have no limit. 0: nobody has.",
    )
    rate_burst: int = Field(
        5000, ge=1, description="Requests that each user may send at once, after a rest."
    )
    anonymous_rate_per_s: float = Field(
        100.0,
        ge=0,
        description="Requests a second from each address that did not log in; 0: no limit.",
    )
    anonymous_rate_burst: int = Field(
        1000, ge=1, description="Requests at once from an address that did not log in."
    )

    @property
    def store_url(self) -> str:
        """The database URL, with its default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'store.sqlite'}"

    @property
    def blobs(self) -> Path:
        """The directory of uploaded files, with its default filled in."""
        return self.blob_dir or self.data_dir / "blobs"

    @property
    def credentials(self) -> Path:
        """The directory of the services' keys, with its default filled in."""
        return self.credentials_dir or self.data_dir / "credentials"
