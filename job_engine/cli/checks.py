"""Checks for `job-engine doctor`: one function for each requirement of an engine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path

from job_engine.cli.options import load_settings
from job_engine.errors import ConfigurationError, JobEngineError, MissingDependencyError
from job_engine.grading.preflight import check_settings
from job_engine.queue.local import find_zookeeper
from job_engine.sandbox.factory import make_sandbox
from job_engine.settings import (
    CONFIG,
    ApiSettings,
    DistributorSettings,
    ExecutorSettings,
    PolicySettings,
    SandboxSettings,
    UpSettings,
    unknown_variables,
)

CLOCKS_APART_S = 5.0
"""Difference of two clocks that is no finding; the API tells its own in whole seconds."""
CONTROLLERS = ("cpu", "memory", "pids")
TIMESTAMPS = Path("/proc/sys/net/core/tstamp_allow_data")
"""Whether users may keep copies of what they send; in sight of the host's own network only."""


class Status(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARN = "warn"
    """Part of the engine will not work, or is exposed; the engine runs."""
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One line of `job-engine doctor`."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


def machine() -> Iterator[Finding]:
    """Check everything but the API, most basic things first."""
    yield _python()
    yield _zookeeper()
    finding = settings()
    yield finding
    if finding.status is not Status.MISSING:  # the sandboxes depend on them
        for check in (_docker, _bubblewrap, _cgroups, timestamps, _sandbox):
            yield check()
        yield policy(load_settings(SandboxSettings))
    yield from _programs()


def settings() -> Finding:
    """Check the settings in the environment and the file, for every process."""
    kinds = (ApiSettings, DistributorSettings, ExecutorSettings, UpSettings)
    wrong: list[str] = []
    for kind in kinds:
        try:
            made = load_settings(kind)
            if isinstance(made, ExecutorSettings):
                check_settings(made)
        except ConfigurationError as error:
            wrong.append(error.message)
    slips, others = unknown_variables()
    wrong += [f"{name} is no setting; did you mean {meant}?" for name, meant in slips.items()]
    if wrong:
        message = " ".join(dict.fromkeys(wrong))
        return Finding("settings", Status.MISSING, message, "nothing starts until that is mended")
    if others:
        message = f"{', '.join(others)}: no setting of the engine's, and ignored"
        return Finding("settings", Status.WARN, message)
    file = os.environ.get(CONFIG)
    where = f"from {file} and the environment" if file else "from the environment"
    return Finding("settings", Status.OK, f"can be read, {where}")


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", Status.OK, f"{version}, {sys.executable}")


def _zookeeper() -> Finding:
    try:
        java, _ = find_zookeeper()
    except MissingDependencyError as error:
        what, _, remedy = error.message.partition(" Try: ")
        return Finding("zookeeper", Status.MISSING, what, remedy)
    return Finding("zookeeper", Status.OK, f"installed, runs on {java}")


def _docker() -> Finding:
    refusal = sandbox_refusal("docker")
    if refusal is None:
        return Finding(
            "docker",
            Status.OK,
            "a daemon answers. Every process that can use its socket is root on this host, and "
            "the executor can",
        )
    return Finding(
        "docker", Status.WARN, refusal, "apt-get install docker.io, or use bubblewrap instead"
    )


def _bubblewrap() -> Finding:
    if shutil.which("bwrap") is None:
        return Finding(
            "bubblewrap", Status.WARN, "not installed", "apt-get install bubblewrap, or use Docker"
        )
    refusal = sandbox_refusal("bubblewrap")
    if refusal is None:
        return Finding("bubblewrap", Status.OK, "usable; nothing inside it runs as root")
    return Finding("bubblewrap", Status.WARN, refusal, "run the executor as root, or use Docker")


def _cgroups() -> Finding:
    version, present = cgroup_controllers()
    absent = [name for name in CONTROLLERS if name not in present]
    if not absent:
        return Finding("cgroups", Status.OK, f"{version} with {', '.join(CONTROLLERS)}")
    return Finding(
        "cgroups",
        Status.WARN,
        f"{version} lacks {', '.join(absent)}: bubblewrap cannot enforce these limits",
        "mount the controllers (in a container: run it privileged), or use Docker",
    )


def timestamps(setting: Path = TIMESTAMPS) -> Finding:
    """Check that users cannot have the kernel keep copies of TCP data (docs/security.md)."""
    remedy = f"sysctl net.core.{setting.name}=0, on the hosts of executors"
    try:
        allowed = setting.read_text().strip() != "0"
    except OSError:
        detail = f"net.core.{setting.name} is not in sight here: it may be on"
        return Finding("timestamps", Status.WARN, detail, remedy)
    if not allowed:
        return Finding("timestamps", Status.OK, f"net.core.{setting.name} is off")
    detail = f"net.core.{setting.name} is on: programs can have the kernel keep what they send"
    return Finding("timestamps", Status.WARN, detail, remedy)


def _sandbox() -> Finding:
    usable = [name for name in ("docker", "bubblewrap") if sandbox_refusal(name) is None]
    if usable:
        return Finding("sandbox", Status.OK, f"submissions can be graded in {' or '.join(usable)}")
    return Finding(
        "sandbox",
        Status.MISSING,
        "neither Docker nor bubblewrap is usable: nothing can be graded here",
        "one of the two remedies above",
    )


def policy(allowed: PolicySettings) -> Finding:
    """Report what assignments may request from executors with these settings."""
    images, hosts = allowed.allow_images, allowed.allow_reach
    grants = [*(["/dev/kvm"] if allowed.allow_kvm else []), *allowed.allow_profiles]
    message = (
        f"at most {allowed.max_cpus:g} CPUs, {allowed.max_memory_bytes // 2**20:,} MiB, "
        f"{allowed.max_cpu_time_s:g} s of CPU, {allowed.max_wall_time_s:g} s, "
        f"{allowed.max_processes:,} processes a phase; "
        f"images: {'any' if images is None else f'{len(images)} listed'}; "
        f"hosts: {'any public' if hosts is None else ', '.join(hosts) or 'none'}; "
        f"granted: {', '.join(grants) or 'nothing'}; privileged: never"
    )
    if grants:
        return Finding(
            "policy",
            Status.WARN,
            message,
            "grant these only on machines for courses that need them",
        )
    return Finding("policy", Status.OK, message)


def clock(api_date: str | None, now_s: float) -> Finding | None:
    """Compare the wall clock with the `Date` of an answer of the API; None: it has none.

    `now_s` is the time here, in seconds since the epoch.
    """
    try:
        ahead_s = now_s - parsedate_to_datetime(api_date or "").timestamp()
    except ValueError:
        return None
    if abs(ahead_s) <= CLOCKS_APART_S:
        return Finding("clock", Status.OK, "in step with the API's")
    how = "ahead of" if ahead_s > 0 else "behind"
    return Finding(
        "clock",
        Status.WARN,
        f"{abs(ahead_s):,.0f} s {how} the API's: retries, expiry and due dates go by the API's, "
        "scheduled jobs by a distributor's",
        "have both machines ask a time server (timedatectl set-ntp true)",
    )


def _programs() -> Iterator[Finding]:
    """Check for the programs of the bundled samples, which bubblewrap takes from the host."""
    for program, package, why in (
        ("git", "git", "submissions from git URLs"),
        ("gcc", "gcc libc6-dev", "the C sample in bubblewrap"),
        ("make", "make", "the C sample in bubblewrap"),
    ):
        path = shutil.which(program)
        if path:
            yield Finding(program, Status.OK, path)
        else:
            yield Finding(
                program, Status.WARN, f"not installed: no {why}", f"apt-get install {package}"
            )
    if _has_pytest():
        yield Finding("pytest", Status.OK, "the system's Python has it")
    else:
        yield Finding(
            "pytest",
            Status.WARN,
            "the system's Python lacks it: no Python sample in bubblewrap",
            "apt-get install python3-pytest",
        )


def _has_pytest() -> bool:
    """Return whether the system's Python has pytest; the sandbox sees /usr only."""
    if not Path("/usr/bin/python3").exists():
        return False
    found = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", "import pytest"], capture_output=True, check=False
    )
    return found.returncode == 0


def port(host: str, number: int) -> Finding:
    """Check that a port can be listened on."""
    name = f"port {number}"
    if port_is_free(host, number):
        return Finding(name, Status.OK, "free")
    return Finding(name, Status.WARN, "in use", "job-engine up --port 0 takes a free one")


def port_is_free(host: str, number: int) -> bool:
    """Return whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError:
            return False
    return True


def sandbox_refusal(name: str) -> str | None:
    """Return why this backend cannot be used here, or None when it can."""
    try:
        with closing(make_sandbox(load_settings(SandboxSettings, {"sandbox": name}))) as sandbox:
            sandbox.check()
    except JobEngineError as error:
        return error.message
    return None


def cgroup_controllers(root: Path = Path("/sys/fs/cgroup")) -> tuple[str, frozenset[str]]:
    """Return `v1` or `v2`, and the names of the controllers that are mounted."""
    unified = root / "cgroup.controllers"
    if unified.exists():
        return "v2", frozenset(unified.read_text().split())
    try:
        mounted = {name for entry in os.scandir(root) for name in entry.name.split(",")}
    except OSError:
        mounted = set()
    return "v1", frozenset(mounted)
