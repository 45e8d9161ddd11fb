"""Sandboxes with one hole each, and the program of the corpus that must find it.

Each opens one kind of containment and leaves the others closed. The programs are bounded:
what gets out through a hole does no harm to the host.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from job_engine.grading import pipeline
from job_engine.grading.plan import TESTS, Plan, make_plan
from job_engine.sandbox import file_locks, waiting_sockets
from job_engine.sandbox.base import Mount, PhaseSpec
from job_engine.sandbox.bubblewrap import backend, cgroups, command
from job_engine.sandbox.bubblewrap import phase as bubblewrap_phase
from job_engine.sandbox.bubblewrap.spawner import Spawner
from job_engine.sandbox.docker import confine, daemon, parts, watch
from job_engine.sandbox.docker.holder import SCRIPT

CREDENTIAL: Final = "CORPUS_CREDENTIAL"
"""A variable of the executor's environment, with what nobody inside may read."""
_ROOT: Final = Path(__file__).parents[3]
_ROOMY: Final = 2**30

Opened = Callable[[pytest.MonkeyPatch], None]


@dataclasses.dataclass(frozen=True)
class Hole:
    """A kind of containment that is missing."""

    programs: dict[str, str]
    """The programs of the corpus that find it, each with a pattern of what is then wrong."""
    docker: Opened
    bubblewrap: Opened


# --- of both backends ---------------------------------------------------------


def _show_tests(patch: pytest.MonkeyPatch) -> None:
    real = make_plan

    def planned(*arguments: Any, **named: Any) -> Plan:
        plan = real(*arguments, **named)
        tests = Mount(tree=TESTS, target="/mnt/tests", read_only=True)
        phases = (
            dataclasses.replace(spec, mounts=(*spec.mounts, tests))
            if spec.name == "build"
            else spec
            for spec in plan.phases
        )
        return dataclasses.replace(plan, phases=tuple(phases))

    patch.setattr(pipeline, "make_plan", planned)


def _pass_on_environment(patch: pytest.MonkeyPatch) -> None:
    for module in (command, confine):
        real = module.phase_environment

        def environment(
            phase: PhaseSpec, real: Callable[[PhaseSpec], dict[str, str]] = real
        ) -> dict[str, str]:
            return {**real(phase), CREDENTIAL: os.environ[CREDENTIAL]}

        patch.setattr(module, "phase_environment", environment)


# --- of bubblewrap ------------------------------------------------------------


def _zygote(hole: str) -> Opened:
    def opened(patch: pytest.MonkeyPatch) -> None:
        class Holed(Spawner):
            module = "tests.hostile.corpus.holed_zygote"

            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                self._arguments.append(hole)

        patch.setattr(backend, "Spawner", Holed)
        patch.setenv("PYTHONPATH", str(_ROOT))

    return opened


def _options(change: Callable[[list[str]], list[str]]) -> Opened:
    def opened(patch: pytest.MonkeyPatch) -> None:
        real = command.bwrap_options
        patch.setattr(backend, "bwrap_options", lambda *arguments: change(list(real(*arguments))))

    return opened


def _same_processes(options: list[str]) -> list[str]:
    return [
        "--unshare-ipc",
        "--unshare-uts",
        *(word for word in options if word != "--unshare-all"),
    ]


def _all_capabilities(options: list[str]) -> list[str]:
    return ["--cap-add", "ALL", *options]


def _hosts_directory(options: list[str]) -> list[str]:
    return ["--ro-bind", "/hosts", "/hosts", *options]


def _both(*parts: Opened) -> Opened:
    def opened(patch: pytest.MonkeyPatch) -> None:
        for part in parts:
            part(patch)

    return opened


def _attribute(owner: object, name: str, value: Any) -> Opened:
    return lambda patch: patch.setattr(owner, name, value)


def _no_process_limit(patch: pytest.MonkeyPatch) -> None:
    real = cgroups.Group.limit

    def limit(self: cgroups.Group, **limits: Any) -> None:
        real(self, **{**limits, "processes": None})

    patch.setattr(cgroups.Group, "limit", limit)


def _deaf_output(patch: pytest.MonkeyPatch) -> None:
    real = bubblewrap_phase.Output
    patch.setattr(bubblewrap_phase, "Output", lambda cap_bytes, tell: real(_ROOMY, tell))


def _patient(change: Callable[[dict[str, bool]], object]) -> Opened:
    def opened(patch: pytest.MonkeyPatch) -> None:
        real = bubblewrap_phase.PhaseRun._must_stop

        def must_stop(self: bubblewrap_phase.PhaseRun, started_at: float) -> bool:
            real(self, started_at)
            change(self._seen)
            return bool(self._seen)

        patch.setattr(bubblewrap_phase.PhaseRun, "_must_stop", must_stop)

    return opened


# --- of Docker ----------------------------------------------------------------


def _host_config(**changes: Any) -> Opened:
    """Let a phase's container have another host configuration."""

    def opened(patch: pytest.MonkeyPatch) -> None:
        real = confine.phase_container

        def container(*arguments: Any, **named: Any) -> dict[str, Any]:
            config = real(*arguments, **named)
            if changes.get("CapAdd"):
                config["User"] = "0:0"
            config["HostConfig"] |= changes
            if changes.get("NetworkMode"):
                config.pop("Hostname", None)
            return config

        patch.setattr(confine, "phase_container", container)

    return opened


def _large_trees(patch: pytest.MonkeyPatch) -> None:
    real = confine.tree_options
    patch.setattr(
        confine, "tree_options", lambda size, inodes, uid: real(size * 64, inodes * 64, uid)
    )


def _follow_links(patch: pytest.MonkeyPatch) -> None:
    followed = SCRIPT.replace("find . ", "find -L . ").replace("stat -c", "stat -L -c")
    assert followed.count("-L") == SCRIPT.count("-L") + 2
    patch.setattr(parts, "SCRIPT", followed)


def _keep_volumes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(daemon.Daemon, "remove_volume", lambda self, volume: None)


def _patient_watch(patch: pytest.MonkeyPatch) -> None:
    real = watch.Watch.stop

    def stop(self: watch.Watch, reason: watch.Stop) -> None:
        if reason is not watch.Stop.WALL_TIME:
            real(self, reason)

    patch.setattr(watch.Watch, "stop", stop)


HOLES: Final[dict[str, Hole]] = {
    "network": Hole(
        {
            "tcp": "heard by stream",
            "dns": "heard by datagram",
            "abstract-socket": "heard by stream",
        },
        _host_config(NetworkMode="host"),
        _zygote("network"),
    ),
    "memory": Hole(
        {"anonymous-mapping": "verdict ok, not memory"},
        _host_config(Memory=_ROOMY, MemorySwap=_ROOMY),
        _attribute(cgroups.Group, "_limit_memory", lambda self, size: None),
    ),
    "file-locks": Hole(
        {"file-locks": "ESCAPED: holds"},
        _attribute(file_locks.LockGauge, "exceeded", lambda self, cpu_time_s: False),
        _attribute(file_locks.LockGauge, "exceeded", lambda self, cpu_time_s: False),
    ),
    "sockets": Hole(
        {
            "connections-nobody-accepts": "ESCAPED: 9000 wait",
            "errors-nobody-reads": "ESCAPED: 180 MB wait",
        },
        _attribute(waiting_sockets.SocketGauge, "exceeded", lambda self, cpu_time_s: False),
        _attribute(waiting_sockets.SocketGauge, "exceeded", lambda self, cpu_time_s: False),
    ),
    "processes": Hole(
        {"zombies": "verdict ok, not processes"},
        _host_config(PidsLimit=2_000),
        _no_process_limit,
    ),
    "disk": Hole(
        {
            "preallocation": "(verdict memory|ESCAPED)",
            "crowd-of-files": "verdict ok, not disk",
        },
        _large_trees,
        _zygote("disk"),
    ),
    "output": Hole(
        {"too-much-output": "verdict ok, not output"},
        lambda patch: patch.setattr(watch.Output, "add", _add_all),
        _deaf_output,
    ),
    "time": Hole(
        {"late": "(verdict ok, not wall-time|it ran for)"},
        _patient_watch,
        _patient(lambda seen: seen.pop("wall_time_exceeded", None)),
    ),
    "tests": Hole({"tests-during-the-build": "ESCAPED /mnt/tests"}, _show_tests, _show_tests),
    "results": Hole(
        {"results-in-another-tree": "graded with 1.0"}, _follow_links, _zygote("results")
    ),
    "privileges": Hole(
        {"capabilities": "ESCAPED CapEff"},
        _host_config(CapDrop=[], CapAdd=["CHOWN"]),
        _options(_all_capabilities),
    ),
    "system-calls": Hole(
        {
            "keyrings": "ESCAPED",
            "vsock": "ESCAPED socket",
            "sync-storm": "ESCAPED fsync",
            "socket-options": "ESCAPED control data",
            "access-lists": "ESCAPED system.posix_acl_access",
            "page-policies": "ESCAPED policies",
            "filter-listeners": "ESCAPED listener",
            "odd-corners": "ESCAPED line discipline 27",
        },
        _host_config(SecurityOpt=["no-new-privileges", "seccomp=unconfined"]),
        _zygote("filter"),
    ),
    "processes-of-others": Hole(
        {"other-processes-memory": "ESCAPED another process"},
        _host_config(PidMode="host"),
        _both(_zygote("processes"), _options(_same_processes)),
    ),
    "leftovers": Hole(
        {"daemon-deaf-to-signals": "(ESCAPED: beat|left: )"},
        _keep_volumes,
        _both(_zygote("processes"), _options(_same_processes)),
    ),
    "host-files": Hole(
        {"neighbours": "ESCAPED /hosts corpus-canary"},
        _host_config(Binds=["/var/tmp:/hosts:ro"]),
        _both(_zygote("host"), _options(_hosts_directory)),
    ),
    "credentials": Hole({"credentials": "ESCAPED"}, _pass_on_environment, _pass_on_environment),
}


def _add_all(self: watch.Output, stream: int, data: bytes) -> None:
    (self.stdout if stream == 1 else self.stderr).extend(data)
