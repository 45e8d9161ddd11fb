"""Docker's host configuration: what each container of a slot may do. Written only here.

Field names and meanings: https://docs.docker.com/reference/api/engine/ (ContainerCreate).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from job_engine.sandbox.base import Limits, PhaseSpec
from job_engine.sandbox.docker import seccomp
from job_engine.sandbox.docker.holder import NAMES_BYTES
from job_engine.sandbox.docker.images import Image
from job_engine.sandbox.policy import phase_environment
from job_engine.sandbox.waiting_sockets import TCP_RMEM

_SECCOMP: Final = seccomp.profile()
_SECCOMP_OF_ROOT: Final = seccomp.profile(host_root=True)
HOSTNAME: Final = "sandbox"
TMP_BYTES: Final = 64 * 2**20
"""Size of a phase's private /tmp; counted against its memory as well."""
TMP_INODES: Final = 4096

_OWN_ROOT: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")
"""Capabilities of the profile own-root, over files and users within the container."""
_HOLDER_OF_ROOT: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER")
"""Capabilities of the holder of such a slot, to read and write files of other users."""

_SIGNALS_OF_ROOT: Final = 1024
"""RLIMIT_SIGPENDING of phases with uid 0; the kernel counts signals of the host's uid 0 too."""
_QUEUE_BYTES_OF_ROOT: Final = 64 * 2**10
"""The same for message queues."""
_MASKED: Final = (
    # Reading it blocks every file lock of the host, those of databases too.
    "/proc/locks",
    # Docker masks these by default, some only in younger releases.
    *("/proc/interrupts", "/sys/devices/virtual/powercap"),
    *("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi"),
    "/sys/firmware",
)
_MASKED_OF_ROOT: Final = (
    *_MASKED,
    # Readable by the host's root, and revealing about its memory.
    *("/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup", "/proc/pagetypeinfo"),
    *("/proc/slabinfo", "/proc/vmallocinfo", "/proc/allocinfo"),
)
_SHM_BYTES: Final = 16 * 2**20
_IMAGE_VOLUME_BYTES: Final = 2**20
_OPEN_FILES: Final = 1024
_NO_CORE: Final = 1
"""core(5): 0 would still start the host's core-dump program; 1 does not, and fits no core."""
_INIT_PROCESSES: Final = 1
"""Docker's init runs in the phase's pids cgroup, but is not one of its processes."""
_HOLDER_MEMORY_BYTES: Final = 64 * 2**20
_INODE_BYTES: Final = 2 * 2**10
"""Kernel memory for a file of a tmpfs, rounded up; charged to the cgroup that creates it."""


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A tmpfs volume, and where a container sees it."""

    name: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """The slot that a container belongs to."""

    slot: str
    uid: int
    labels: Mapping[str, str]
    holder: str | None = None
    """The holder's container id. Phases share its network namespace, which has no route: making
    one for each phase would take longer than the rest of its container."""
    holder_pid: int = 0
    """Pid of its first process, in the daemon's pid namespace."""
    devices: Sequence[str] = field(default_factory=tuple)
    groups: Sequence[int] = field(default_factory=tuple)


def phase_container(
    phase: PhaseSpec,
    image: Image,
    place: Place,
    volumes: Sequence[Volume],
    *,
    cores: int,
    wait_script: str,
) -> dict[str, Any]:
    """Return the configuration of a phase's container, which waits for its go."""
    limits = phase.limits
    command = ("/bin/sh", "-c", wait_script, "wait", phase.workdir, *phase.command)
    config = _container(place, image, command, volumes)
    config |= {"WorkingDir": "/", "OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
    covered = {volume.target for volume in volumes}
    host = config["HostConfig"]
    host |= _memory(limits.memory_bytes)
    host |= {
        # Docker refuses to set a limit above the number of cores.
        "NanoCpus": round(min(limits.cpus, cores) * 1e9),
        "PidsLimit": limits.processes + _INIT_PROCESSES,
        "Ulimits": _ulimits(limits),
        "Tmpfs": {
            path: f"size={_IMAGE_VOLUME_BYTES},nr_inodes=64,nosuid,nodev"
            for path in image.volumes
            if path not in covered
        },
        "Devices": [
            {"PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "rw"}
            for path in (place.devices if phase.kvm else ())
        ],
        "GroupAdd": [str(group) for group in (place.groups if phase.kvm else ())],
    }
    if phase.own_root is not None:
        _give_own_root(config)
    return config


def environment(phase: PhaseSpec, image: Image) -> dict[str, str]:
    """Return the environment of a phase, on top of what its image sets."""
    found = phase_environment(phase)
    if image.path and "PATH" not in phase.env:
        found["PATH"] = image.path
    return found


def holder_container(
    image: Image,
    place: Place,
    script: str,
    volumes: Sequence[Volume],
    *,
    bytes_held: int,
    inodes: int,
    of_root: bool,
) -> dict[str, Any]:
    """Return the configuration of the container that holds a slot's trees.

    `of_root` says that a phase of the slot runs as root, whose files only root can read.
    """
    config = _container(place, image, ("sh", "-c", script), volumes)
    config |= {
        "Env": [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            f"OWNER={place.uid if of_root else ''}",
        ],
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
    }
    host = config["HostConfig"]
    host |= _memory(_HOLDER_MEMORY_BYTES + bytes_held + inodes * _INODE_BYTES)
    host |= {
        "PidsLimit": 32,
        # Phases share its network, and Java, MPI and others look up their own host name.
        "ExtraHosts": [f"{HOSTNAME}:127.0.0.1"],
        "Tmpfs": {"/tmp": f"size={NAMES_BYTES},nr_inodes=16,nosuid,nodev,noexec"},
        "Ulimits": [_ulimit("core", _NO_CORE), _ulimit("nofile", _OPEN_FILES)],
    }
    if of_root:
        config["User"] = "0:0"
        host["CapAdd"] = list(_HOLDER_OF_ROOT)
    return config


def helper_container(image: Image, place: Place, command: Sequence[str]) -> dict[str, Any]:
    """Return the configuration of a helper of the engine's own in the holder's network."""
    config = _container(place, image, command, ())
    config |= {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
    config["HostConfig"] |= _memory(128 * 2**20)
    config["HostConfig"] |= {"PidsLimit": 16}
    return config


def tree_options(size_bytes: int, inodes: int, uid: int) -> str:
    """Return the mount options of a tree: limited, and owned by who runs in the slot."""
    # One more, for the root directory.
    return f"size={size_bytes},nr_inodes={inodes + 1},mode=0755,uid={uid},gid={uid},nosuid,nodev"


def tmp_tree(phase: PhaseSpec) -> str:
    """Return the name of the tree that is a phase's private /tmp."""
    # No tree of an assignment's begins with a dot.
    return f".tmp-{phase.name}"


def _container(
    place: Place, image: Image, command: Sequence[str], volumes: Sequence[Volume]
) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Image": image.id,
        # Entrypoint, not Cmd, so that the image's own entrypoint does not run.
        "Entrypoint": [command[0]],
        "Cmd": list(command[1:]),
        "User": f"{place.uid}:{place.uid}",
        "Labels": dict(place.labels),
        "Tty": False,
        # Otherwise a stopping daemon would wait ten seconds for programs that ignore SIGTERM.
        "StopSignal": "SIGKILL",
        "AttachStdout": True,
        "AttachStderr": True,
        # An image's health check would run beside the phase, and use its limits.
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host(place, volumes),
    }
    if place.holder is None:
        config["Hostname"] = HOSTNAME
    return config


def _host(place: Place, volumes: Sequence[Volume]) -> dict[str, Any]:
    return {
        "NetworkMode": f"container:{place.holder}" if place.holder else "none",
        "Sysctls": {} if place.holder else {"net.ipv4.tcp_rmem": TCP_RMEM},
        "CapDrop": ["ALL"],
        "SecurityOpt": _security(_SECCOMP),
        "MaskedPaths": list(_MASKED),
        "ReadonlyRootfs": True,
        "Privileged": False,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "ShmSize": _SHM_BYTES,
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
        # Reaps what the phase's processes leave behind, and lets the phase die of signals,
        # which the kernel keeps from a namespace's first process.
        "Init": True,
        # When the host runs out of memory, the sandbox is killed first.
        "OomScoreAdj": 1000,
        "Mounts": [_mount(volume) for volume in volumes],
    }


def _give_own_root(config: dict[str, Any]) -> None:
    """Run it as uid 0, with limits on what the kernel counts for uid 0 of the whole host."""
    config["User"] = "0:0"
    host = config["HostConfig"]
    host |= {"CapAdd": list(_OWN_ROOT), "ReadonlyRootfs": False}
    host["SecurityOpt"] = _security(_SECCOMP_OF_ROOT)
    host["MaskedPaths"] = list(_MASKED_OF_ROOT)
    host["Ulimits"] = [
        *host["Ulimits"],
        _ulimit("sigpending", _SIGNALS_OF_ROOT),
        _ulimit("msgqueue", _QUEUE_BYTES_OF_ROOT),
    ]


def _security(filter_: str) -> list[str]:
    return ["no-new-privileges", f"seccomp={filter_}"]


def _mount(volume: Volume) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": volume.name,
        "Target": volume.target,
        "ReadOnly": volume.read_only,
        # Otherwise Docker would copy the image's content of that directory into the tree.
        "VolumeOptions": {"NoCopy": True},
    }


def _memory(limit_bytes: int) -> dict[str, Any]:
    # The second is memory and swap together: the same value means no swap.
    return {"Memory": limit_bytes, "MemorySwap": limit_bytes}


def _ulimits(limits: Limits) -> list[dict[str, Any]]:
    # For each process, so it does not replace the cgroup's limits; but it still holds when the
    # executor is gone.
    cpu_s = math.ceil(limits.cpu_time_kill_s) + 1
    return [
        _ulimit("fsize", limits.file_size_bytes),
        _ulimit("core", _NO_CORE),
        _ulimit("nofile", _OPEN_FILES),
        _ulimit("cpu", cpu_s),
    ]


def _ulimit(name: str, value: int) -> dict[str, Any]:
    return {"Name": name, "Soft": value, "Hard": value}
