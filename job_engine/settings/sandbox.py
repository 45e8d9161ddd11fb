"""Settings of sandboxes, and of what assignments may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from job_engine.settings.base import Settings

_ImageDigest = Annotated[
    str, StringConstraints(pattern=r"^(host|([^@\s]+@|image:|packages:)?sha256:[0-9a-f]{64})$")
]
_ReachPattern = Annotated[
    str, StringConstraints(pattern=r"^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?:[0-9]{1,5}$")
]


class PolicySettings(Settings):
    """The operator's policy: the most that assignments may ask for."""

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
    """Settings of an executor's sandboxes."""

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
        description="Directory of the root file systems that setup scripts made (bubblewrap), "
        "and of the list of them (both backends).",
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
