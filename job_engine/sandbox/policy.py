"""Checks that every backend makes before it makes a slot, and the environment of a phase.

A request beyond the operator's maxima is refused with the name of the limit, never reduced.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

from job_engine.errors import SandboxRefusedError
from job_engine.sandbox.base import (
    KEPT_PREFIX,
    Follow,
    Handover,
    Inputs,
    Limits,
    Mount,
    PhaseSpec,
    Tree,
)
from job_engine.sandbox.egress_policy import EgressPolicy
from job_engine.settings import SandboxSettings

PROXY_ADDRESS: Final = ("127.0.0.1", 3128)
"""Where, on the sandbox's own loopback, a phase with `reach` finds the egress proxy."""
MAX_STDIN_BYTES: Final = 64 * 2**10
MAX_COMMAND_BYTES: Final = 128 * 2**10
"""Command and environment of a phase together; the kernel's own limit for one argument."""
SANDBOX_UID: Final = 1000
"""User and group id that phases run as, seen from inside."""
_SOCKET_BYTES: Final = 16 * 2**20
_MAX_OVERRUN: Final = 0.5

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEPT: Final = re.compile(re.escape(KEPT_PREFIX) + r"[a-z0-9]{1,64}")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED: Final = ("/proc", "/dev", "/sys", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64")
_PROXY_VARIABLES: Final = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")


def check_request(
    settings: SandboxSettings, phases: tuple[PhaseSpec, ...], trees: tuple[Tree, ...]
) -> None:
    """Raise `SandboxRefusedError`, naming what was asked and what is allowed."""
    for phase in phases:
        _check_companion(phase)
    phases = with_companions(phases)
    _check_unique("phase", [phase.name for phase in phases])
    _check_unique("tree", [tree.name for tree in trees])
    for tree in trees:
        _at_most(f"tree {tree.name}: size_bytes", tree.size_bytes, settings.max_disk_bytes)
        _at_most(f"tree {tree.name}: inodes", tree.inodes, settings.max_inodes)
    _check_own_root(settings, phases)
    names = {tree.name for tree in trees}
    for phase in phases:
        _check_limits(phase, settings)
        _check_command(phase)
        _check_trees(phase, names)
        _check_targets(phase)
        _check_paths(phase)
        _check_reach(phase, settings)
        if phase.kvm and not settings.allow_kvm:
            raise SandboxRefusedError(
                f"phase {phase.name} asks for /dev/kvm, which the operator does not allow"
            )


def is_listed(allowed: Collection[str] | None, identities: Iterable[str]) -> bool:
    """Return whether an image with any of these names is allowed; None allows all."""
    if allowed is None:
        return True
    # Receipts name what an id is the id of; lists need not.
    plain = {name.removeprefix("image:") for name in allowed}
    return any(name in plain for name in identities)


def check_image(settings: SandboxSettings, name: str | None, identities: Iterable[str]) -> None:
    """Raise `SandboxRefusedError` unless the operator allows an image of these identities."""
    if (name or "").startswith(KEPT_PREFIX):
        return  # Made by an assignment's setup, from an image that was allowed.
    if not is_listed(settings.allow_images, identities):
        raise SandboxRefusedError(
            f"the image {name or 'that is the default'} is none of those that the operator allows "
            "(setting allow_images)"
        )


def may_reach(allowed: Collection[str] | None, host: str, port: int) -> bool:
    """Return whether the operator lets phases reach a host; None allows any public one."""
    if allowed is None:
        return True
    wanted = f"{host.rstrip('.').lower()}:{port}"
    for pattern in (pattern.lower() for pattern in allowed):
        if wanted == pattern or (pattern.startswith("*.") and wanted.endswith(pattern[1:])):
            return True
    return False


def with_companions(phases: tuple[PhaseSpec, ...]) -> tuple[PhaseSpec, ...]:
    """Return the phases in their order, each followed by its companion."""
    pairs = ((phase, phase.companion) for phase in phases)
    return tuple(spec for pair in pairs for spec in pair if spec is not None)


def check_inputs(inputs: Inputs, phases: tuple[PhaseSpec, ...], trees: tuple[Tree, ...]) -> None:
    """Raise `SandboxRefusedError` for input for unknown trees or phases, or too much of it."""
    unknown = set(inputs.trees) - {tree.name for tree in trees}
    unknown |= {*inputs.stdin, *inputs.env} - {phase.name for phase in phases}
    if unknown:
        raise SandboxRefusedError(f"input for unknown trees or phases: {sorted(unknown)}")
    for phase, data in inputs.stdin.items():
        if len(data) > MAX_STDIN_BYTES:
            raise SandboxRefusedError(
                f"phase {phase}: {len(data)} bytes of stdin, at most {MAX_STDIN_BYTES} allowed"
            )
    for spec in phases:
        if spec.name in inputs.env:
            _check_command(with_env(spec, inputs))


def with_env(phase: PhaseSpec, inputs: Inputs) -> PhaseSpec:
    """Return the phase with the variables that `go` adds to its environment."""
    return replace(phase, env={**phase.env, **inputs.env.get(phase.name, {})})


def socket_bytes(memory_bytes: int) -> int:
    """Return the limit for socket buffers, which cgroup version 1 counts separately.

    Without it, the buffers of a phase's loopback connections would be limited only by what
    the whole host has for TCP.
    """
    return min(memory_bytes // 8, _SOCKET_BYTES)


def phase_environment(phase: PhaseSpec) -> dict[str, str]:
    """Return the whole environment of a phase, proxy variables included."""
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/tmp" if phase.own_root is None else "/root",
        "LANG": "C.UTF-8",
    }
    if phase.reach:
        host, port = PROXY_ADDRESS
        env |= dict.fromkeys(_PROXY_VARIABLES, f"http://{host}:{port}")
        # Loopback is the sandbox's own, unless the phase names a service of the host's there.
        named = {reach.host for reach in phase.reach}
        direct = ",".join(host for host in ("localhost", "127.0.0.1", "::1") if host not in named)
        env |= dict.fromkeys(("no_proxy", "NO_PROXY"), direct)
    return env | dict(phase.env)


def _check_limits(phase: PhaseSpec, settings: SandboxSettings) -> None:
    limits: Limits = phase.limits
    if not 0 <= limits.overrun <= _MAX_OVERRUN:
        raise SandboxRefusedError(
            f"phase {phase.name}: overrun {limits.overrun} asked, 0 to {_MAX_OVERRUN} allowed"
        )
    for field, allowed in (
        ("cpus", settings.max_cpus),
        ("cpu_time_s", settings.max_cpu_time_s),
        ("wall_time_s", settings.max_wall_time_s),
        ("memory_bytes", settings.max_memory_bytes),
        ("processes", settings.max_processes),
        ("file_size_bytes", settings.max_file_size_bytes),
        ("output_bytes", settings.max_output_bytes),
    ):
        _at_most(f"phase {phase.name}: {field}", getattr(limits, field), allowed)


def _at_most(what: str, asked: float, allowed: float) -> None:
    # Written so that NaN is refused as well.
    if not 0 < asked <= allowed:
        raise SandboxRefusedError(
            f"{what}: {asked} asked, more than 0 and at most {allowed} allowed"
        )


def _check_own_root(settings: SandboxSettings, phases: tuple[PhaseSpec, ...]) -> None:
    wanting = [phase for phase in phases if phase.own_root is not None]
    for phase in wanting:
        if "own-root" not in settings.allow_profiles:
            raise SandboxRefusedError(
                f"phase {phase.name} asks for the profile own-root, which the operator has not "
                'granted: set allow_profiles to ["own-root"] for the executor'
            )
        own = phase.own_root
        assert own is not None
        _at_most(f"phase {phase.name}: own_root", own.size_bytes, settings.max_root_bytes)
        if own.keep_as is not None and not _KEPT.fullmatch(own.keep_as):
            raise SandboxRefusedError(f"phase {phase.name}: {own.keep_as!r} is no name to keep by")
    if len(wanting) > 1:
        names = ", ".join(phase.name for phase in wanting)
        raise SandboxRefusedError(f"only one phase of a slot may have own-root, not {names}")


def _check_unique(kind: str, names: list[str]) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise SandboxRefusedError(f"{kind} name {name!r}: letters, digits, '.', '_', '-' only")
    if len(set(names)) != len(names):
        raise SandboxRefusedError(f"{kind} names are not unique: {names}")


def _check_command(phase: PhaseSpec) -> None:
    words = [*phase.command, *phase.env.keys(), *phase.env.values()]
    if not phase.command or not phase.command[0] or any("\0" in word for word in words):
        raise SandboxRefusedError(f"phase {phase.name}: an empty command, or one with NUL bytes")
    size = sum(len(word.encode(errors="surrogateescape")) + 1 for word in words)
    _at_most(f"phase {phase.name}: bytes of command and environment", size, MAX_COMMAND_BYTES)
    for name in phase.env:
        if not _ENV_NAME.fullmatch(name):
            raise SandboxRefusedError(f"phase {phase.name}: bad environment variable {name!r}")


def _read_places(phase: PhaseSpec) -> Sequence[Handover | Follow]:
    return [*phase.handover, *([phase.follow] if phase.follow is not None else [])]


def _check_trees(phase: PhaseSpec, trees: set[str]) -> None:
    named: Sequence[Mount | Handover | Follow] = [*phase.mounts, *_read_places(phase)]
    for item in named:
        if item.tree not in trees:
            raise SandboxRefusedError(f"phase {phase.name}: no tree {item.tree!r} in this slot")


def _check_targets(phase: PhaseSpec) -> None:
    targets = [mount.target for mount in phase.mounts]
    for target in (*targets, phase.workdir):
        if not target.startswith("/") or "\0" in target or posixpath.normpath(target) != target:
            raise SandboxRefusedError(f"phase {phase.name}: {target!r} is no plain absolute path")
    for target in targets:
        if target == "/" or any(_inside(target, place) for place in _RESERVED):
            raise SandboxRefusedError(f"phase {phase.name}: no tree may cover {target!r}")
    if len(set(targets)) != len(targets):
        raise SandboxRefusedError(f"phase {phase.name}: two trees on one target")


def _check_paths(phase: PhaseSpec) -> None:
    for item in _read_places(phase):
        parts = item.path.split("/")
        if item.path.startswith("/") or ".." in parts or "\0" in item.path:
            raise SandboxRefusedError(f"phase {phase.name}: the path {item.path!r} leaves its tree")
    if phase.follow is not None and not phase.follow.path.strip("./"):
        raise SandboxRefusedError(f"phase {phase.name}: {phase.follow.path!r} names no file")


def _check_companion(phase: PhaseSpec) -> None:
    companion = phase.companion
    if companion is None:
        return
    own = companion.companion or companion.reach or companion.handover or companion.follow
    if own or companion.always:
        raise SandboxRefusedError(
            f"phase {companion.name}: a companion has no companion, reach, hand-over or file to "
            "follow of its own, and runs when its phase does"
        )
    if companion.own_root or phase.own_root:
        # Root may unlock what the other may not.
        raise SandboxRefusedError(f"phase {phase.name}: no own root beside a companion")


def _inside(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/")


def _check_reach(phase: PhaseSpec, settings: SandboxSettings) -> None:
    for reach in phase.reach:
        if not reach.host or not 0 < reach.port < 65_536:
            raise SandboxRefusedError(f"phase {phase.name}: cannot reach {reach.host}:{reach.port}")
    if phase.reach:
        # Refuses a malformed exception of the operator's now, not when the phase runs.
        EgressPolicy(phase.reach, settings.allow_private_hosts)
