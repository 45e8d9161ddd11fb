"""Running an assignment's setup once; submissions then use the root file system that it made.

The setup script runs in a sandbox, as root of a root file system of its own, and reaches only
the hosts that the operator names. The sandbox keeps the result under a name derived from
everything that it was made from. Threads and processes that share `kept_roots_dir` run a setup
once, under a lock, and evict the least recently used results.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job_engine.errors import AssignmentError, SandboxError
from job_engine.grading.assignment import Assignment
from job_engine.grading.bundles import Bundle
from job_engine.grading.follow import Watch
from job_engine.grading.locks import locked
from job_engine.grading.results.hostile import decode
from job_engine.grading.verdicts import explain
from job_engine.log import get_logger
from job_engine.sandbox.base import (
    KEPT_PREFIX,
    Inputs,
    Limits,
    Mount,
    OwnRoot,
    PhaseResult,
    PhaseSpec,
    Reach,
    Sandbox,
    Tree,
    Verdict,
)
from job_engine.settings import GradingSettings, SandboxSettings

PHASE: Final = "setup"
_TESTS: Final = "tests"
_REMEMBERED_S: Final = 300.0
"""Seconds for which a failed setup is not repeated."""
_LAST_LINES: Final = 20
_WALL_TIME_S: Final = 1200.0
_MEMORY_BYTES: Final = 2 * 2**30
_INODES: Final = 250_000
_ENV: Final = {
    "DEBIAN_FRONTEND": "noninteractive",
    # Distributions forbid pip to change system directories; this root is for one assignment only.
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
}

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class SetupRuns:
    """Runs setups on one sandbox; has no state, so threads may share it."""

    sandbox: Sandbox
    settings: GradingSettings
    policy: SandboxSettings
    label: str

    def image_for(
        self,
        assignment: Assignment,
        bundle: Bundle,
        tree: Tree,
        watch: Watch,
    ) -> str:
        """Return the name of the image that the setup makes, made now if need be.

        `tree` will hold the tests. `watch` gets the log line, and the output for staff; it may
        interrupt the run, and the wait while another thread runs the same setup. Raises
        `AssignmentError`, with the last lines of the output, when the setup fails.
        """
        assert assignment.setup is not None  # callers check
        key = self._key(assignment, bundle)
        marker = self._markers() / key
        name = f"{KEPT_PREFIX}{key}"
        if self._is_there(name, marker):
            return name
        with locked(marker.with_suffix(".lock"), watch.sleep):
            if not self._is_there(name, marker):
                raise_remembered(marker)
                self._run(assignment, bundle, tree, name, marker, watch)
            self._evict(keep=key)
        return name

    def _key(self, assignment: Assignment, bundle: Bundle) -> str:
        assert assignment.setup is not None
        inputs = {
            "bundle": bundle.digest,
            "image": self.sandbox.image_digest(assignment.image),
            "command": assignment.setup.argv(),
            "env": self._env(assignment),
            "hosts": sorted(self.settings.setup_hosts),
        }
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]

    def _env(self, assignment: Assignment) -> dict[str, str]:
        assert assignment.setup is not None
        offline = {} if self.settings.setup_hosts else {"PIP_RETRIES": "0"}
        return {**_ENV, **offline, **self.settings.setup_env, **assignment.setup.env}

    def _markers(self) -> Path:
        directory = self.policy.kept_roots_dir / f"setups-{self.sandbox.name}"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory

    def _is_there(self, name: str, marker: Path) -> bool:
        # The name is derived from all inputs, so an existing root is the right one. A root that
        # was in use when it was evicted has no marker any more.
        if self.sandbox.kept_bytes(name) is None:
            return False
        marker.touch()
        return True

    def _run(
        self,
        assignment: Assignment,
        bundle: Bundle,
        tree: Tree,
        name: str,
        marker: Path,
        watch: Watch,
    ) -> None:
        spec = self._spec(assignment, name)
        slot = self.sandbox.prepare(
            label=self.label, phases=(spec,), trees=(tree,), image=assignment.image
        )
        try:
            with watch.lend(slot.kill):
                slot.go(Inputs(trees={tree.name: bundle.tests}))
                ended = [event for event in slot.collect() if isinstance(event, PhaseResult)]
        finally:
            slot.destroy()
            bundle.tests.seek(0)
        if not ended or ended[0].verdict is Verdict.KILLED:
            raise SandboxError("The setup was killed from outside of the run.")
        result = ended[0]
        lines = _last_lines(result)
        watch.log(f"setup: {explain(result, spec.limits)}")
        # For staff only: the setup sees the tests, and may print their names.
        output = {"phase": PHASE, "stream": "stdout", "text": lines}
        watch.event("output", output, staff=True)
        log.info("setup.done", assignment=assignment.name, verdict=result.verdict.value)
        if not result.ok:
            problem = self._problem(result, spec.limits, lines)
            marker.with_suffix(".failed").write_text(problem)
            raise AssignmentError(problem)
        marker.with_suffix(".failed").unlink(missing_ok=True)
        marker.touch()

    def _spec(self, assignment: Assignment, name: str) -> PhaseSpec:
        setup, policy = assignment.setup, self.policy
        assert setup is not None
        return PhaseSpec(
            name=PHASE,
            command=setup.argv(),
            limits=Limits(
                cpus=policy.max_cpus,
                cpu_time_s=policy.max_cpu_time_s,
                wall_time_s=min(policy.max_wall_time_s, _WALL_TIME_S),
                memory_bytes=min(policy.max_memory_bytes, _MEMORY_BYTES),
                processes=policy.max_processes,
                file_size_bytes=policy.max_file_size_bytes,
                output_bytes=policy.max_output_bytes,
            ),
            mounts=(Mount(tree=_TESTS, target=assignment.mounts.tests, read_only=True),),
            env=self._env(assignment),
            reach=tuple(_reach(host) for host in self.settings.setup_hosts),
            own_root=OwnRoot(size_bytes=policy.max_root_bytes, inodes=_INODES, keep_as=name),
        )

    def _problem(self, result: PhaseResult, limits: Limits, lines: str) -> str:
        hosts = ", ".join(self.settings.setup_hosts)
        network = (
            f"It reaches {hosts} and nothing else."
            if hosts
            else "It has no network: the operator can name hosts (setup_hosts) that setups reach."
        )
        return (
            f"The assignment's setup failed: {explain(result, limits)}. {network} If the image has "
            "what it needs, `setup: {may_fail: true}` in assignment.yaml goes on without. "
            f"Its last lines were:\n{lines}"
        )

    def _evict(self, keep: str) -> None:
        """Remove the least recently used roots until the rest fits."""
        used: list[tuple[float, int, Path]] = []
        for marker in self._markers().iterdir():
            if not marker.suffix:
                size = self.sandbox.kept_bytes(f"{KEPT_PREFIX}{marker.name}")
                with contextlib.suppress(FileNotFoundError):
                    used.append((marker.stat().st_mtime, size or 0, marker))
        excess = sum(size for _, size, _ in used) - self.settings.kept_roots_bytes
        for _, size, marker in sorted(used):
            if excess <= 0:
                return
            if marker.name != keep:
                excess -= size
                marker.unlink(missing_ok=True)
                self.sandbox.drop_kept(f"{KEPT_PREFIX}{marker.name}")


def raise_remembered(marker: Path) -> None:
    """Raise `AssignmentError` if the setup of this image has failed a short while ago."""
    failed = marker.with_suffix(".failed")
    with contextlib.suppress(FileNotFoundError):
        # From the future: the clock was put back since, and may have been why it failed.
        if 0 <= time.time() - failed.stat().st_mtime < _REMEMBERED_S:
            raise AssignmentError(failed.read_text())


def _reach(host: str) -> Reach:
    name, _, port = host.rpartition(":")
    # Trusted: the operator names these hosts, and package mirrors often have private addresses.
    return Reach(host=name, port=int(port), trusted=True)


def _last_lines(result: PhaseResult) -> str:
    printed = decode(result.stdout + b"\n" + result.stderr).splitlines()
    return "\n".join([line for line in printed if line.strip()][-_LAST_LINES:])
