"""A slot in Docker: volumes, their holder, and the phases' containers, one after another."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from typing import Final

from job_engine.errors import SandboxError
from job_engine.log import get_logger
from job_engine.sandbox.base import (
    Inputs,
    PhaseResult,
    PhaseSpec,
    PhaseStarted,
    Slot,
    Tree,
    Verdict,
)
from job_engine.sandbox.docker import confine
from job_engine.sandbox.docker.confine import TMP_BYTES, TMP_INODES, Place, Volume
from job_engine.sandbox.docker.daemon import Daemon
from job_engine.sandbox.docker.holder import SCRIPT, Holder
from job_engine.sandbox.docker.images import Image
from job_engine.sandbox.docker.network import Gate
from job_engine.sandbox.docker.phase import Ending, PhaseContainer
from job_engine.sandbox.docker.removals import Removals
from job_engine.sandbox.docker.watch import Stop
from job_engine.sandbox.policy import check_inputs, with_env
from job_engine.sandbox.verdict import Observations, decide, split_status

_JOIN_S: Final = 120.0
_GONE_S: Final = 3.0
"""How long whoever destroys a slot waits for a daemon that is away: what runs in it is dead
only then. Less than an interrupted action has left to end."""

log = get_logger(__name__)


class DockerSlot(Slot):
    """See `Slot`. Made by `DockerSandbox.prepare`, which has checked what it is given."""

    def __init__(
        self,
        *,
        daemon: Daemon,
        place: Place,
        phases: tuple[PhaseSpec, ...],
        trees: tuple[Tree, ...],
        images: Mapping[str, Image],
        holder_image: Image,
        gate: Gate,
        background: Executor,
        removals: Removals,
        forget: Callable[[DockerSlot], None],
        timeout_s: float,
    ) -> None:
        self.id = place.slot
        self.uid = place.uid
        self._daemon = daemon
        self._place = place
        self._phases = phases
        self._trees = trees
        self._images = images
        self._holder_image = holder_image
        self._gate = gate
        self._background = background
        self._removals = removals
        self._forget = forget
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._destroying = threading.Lock()
        self._events: queue.SimpleQueue[PhaseStarted | PhaseResult | SandboxError | None] = (
            queue.SimpleQueue()
        )
        self._runner: threading.Thread | None = None
        self._current: PhaseContainer | None = None
        self._gone = False
        self._killed = False
        self._destroyed = False
        self._holder: Holder | None = None
        self._holder_id: str | None = None
        self._containers: list[str] = []
        """Names of those that may be there: what is not answered may have been done."""
        self._volumes: list[str] = []
        self._removed: list[Future[threading.Event]] = []

    @property
    def images(self) -> Mapping[str, str]:
        """See `Slot`: ids of images, which are digests of what is in them."""
        return {phase: f"image:{image.id}" for phase, image in self._images.items()}

    def prepare(self) -> None:
        """Make the volumes and start their holder; `destroy` whatever comes of it."""
        volumes = [
            self._make_volume(tree.name, tree.size_bytes, tree.inodes) for tree in self._trees
        ]
        volumes += [self._make_volume(_tmp(p), TMP_BYTES, TMP_INODES) for p in self._phases]
        config = confine.holder_container(
            self._holder_image,
            self._place,
            SCRIPT,
            volumes,
            bytes_held=sum(tree.size_bytes for tree in self._trees),
            inodes=sum(tree.inodes for tree in self._trees),
        )
        self._containers.append(self._name("holder"))
        self._holder_id = self._daemon.create(self._name("holder"), config)
        stream = self._daemon.attach(self._holder_id, stdin=True)
        self._holder = Holder(stream, self._timeout_s)
        self._daemon.start(self._holder_id)

    def go(self, inputs: Inputs) -> None:
        """Fill the trees, then run the phases in a thread."""
        check_inputs(inputs, self._phases, self._trees)
        with self._lock:
            if self._gone or self._killed or self._holder is None:
                raise SandboxError("a slot is for one submission, and this one is used or ended")
            self._gone = True
            holder = self._holder
        for tree, archive in inputs.trees.items():
            holder.fill(tree, archive)
        self._runner = threading.Thread(
            target=self._run, args=(holder, inputs), name=f"slot-{self.id}", daemon=True
        )
        self._runner.start()

    def collect(self) -> Iterator[PhaseStarted | PhaseResult]:
        """Yield what the phases' thread reports."""
        if self._runner is None:
            raise SandboxError("nothing to collect: the slot does not go")
        while (event := self._events.get()) is not None:
            if isinstance(event, SandboxError):
                raise event
            yield event
        self._events.put(None)  # For who asks again.

    def ready(self) -> bool:
        """See `Slot.ready`: a holder that says something unasked has ended."""
        with self._lock:
            return not (self._gone or self._killed) and self._holder is not None

    def kill(self) -> None:
        """End the running phase; later ones do not start."""
        with self._lock:
            self._killed = True
            current = self._current
        if current is not None:
            current.kill()

    def destroy(self) -> None:
        """Kill, and remove containers before volumes; what fails is tried again, and logged."""
        self.kill()
        with self._destroying:
            if self._destroyed:
                return
            self._destroyed = True
            if self._runner is not None:
                self._runner.join(_JOIN_S)
            if self._holder is not None:
                self._holder.close()
            gone = [removal.result() for removal in self._removed]
            gone += [self._removals.remove(self._daemon.remove, c) for c in self._containers]
            gone += [self._removals.remove(self._daemon.remove_volume, v) for v in self._volumes]
            until = time.monotonic() + _GONE_S
            for event in gone:
                event.wait(max(0.0, until - time.monotonic()))
            self._forget(self)

    def _run(self, holder: Holder, inputs: Inputs) -> None:
        failed = False
        try:
            for phase in self._phases:
                if self._killed and failed:
                    break
                if failed and not phase.always:
                    continue
                result = self._run_phase(
                    holder, with_env(phase, inputs), inputs.stdin.get(phase.name)
                )
                self._events.put(result)
                failed = failed or not result.ok
                if result.verdict is Verdict.KILLED:
                    break
        except SandboxError as error:
            self._events.put(error)
        except Exception as error:  # Whoever collects must hear of it, or waits for ever.
            log.exception("docker.slot.broken", slot=self.id)
            self._events.put(SandboxError(f"the slot broke: {error!r}"))
        finally:
            self._events.put(None)

    def _run_phase(self, holder: Holder, phase: PhaseSpec, stdin: bytes | None) -> PhaseResult:
        with self._gate.opened(self._place, self._holder_id, phase.reach) as place:
            volumes = self._phase_volumes(phase)
            config = confine.phase_container(
                phase,
                self._images[phase.name],
                place,
                volumes,
                cores=int(self._daemon.info["NCPU"]),
                stdin=stdin is not None,
            )
            name = self._name(phase.name)
            own = phase.own_root
            root_bytes = own.size_bytes if own is not None else None
            container = PhaseContainer(self._daemon, name, config, phase.limits, root_bytes)
            try:
                with self._lock:
                    self._current = container
                    killed = self._killed
                if killed:
                    container.kill()
                container.create()
                ending = container.run(
                    stdin, on_start=lambda: self._events.put(PhaseStarted(phase.name))
                )
                if own is not None and own.keep_as and not ending.reason and not ending.status:
                    self._daemon.commit(name, own.keep_as)
            finally:
                with self._lock:
                    self._current = None
                # By its name: it may be there though nobody answered with its id.
                removing = self._background.submit(self._removals.remove, self._daemon.remove, name)
                self._removed.append(removing)
        return self._result(holder, phase, ending)

    def _result(self, holder: Holder, phase: PhaseSpec, ending: Ending) -> PhaseResult:
        exit_code, signal = split_status(ending.status)
        reason, usage = ending.reason, ending.usage
        killed = reason is Stop.KILLED
        full, file_at_limit = (
            (False, False) if killed or exit_code == 0 else self._space(holder, phase)
        )
        full = full or reason is Stop.DISK
        verdict = decide(
            Observations(
                exit_code=exit_code,
                signal=signal,
                killed=killed,
                output_exceeded=reason is Stop.OUTPUT,
                wall_time_exceeded=reason is Stop.WALL_TIME,
                cpu_time_exceeded=reason is Stop.CPU_TIME,
                cpu_time_s=usage.cpu_time_s,
                oom_kills=usage.oom_kills,
                process_limit_hits=usage.refused_forks,
                tree_full=full,
                file_at_limit=file_at_limit,
            ),
            phase.limits,
        )
        files, left_out = ({}, ()) if killed else _take(holder, phase)
        return PhaseResult(
            phase=phase.name,
            verdict=verdict,
            exit_code=exit_code,
            signal=signal,
            wall_time_s=ending.wall_time_s,
            cpu_time_s=usage.cpu_time_s,
            peak_memory_bytes=usage.peak_memory_bytes,
            stdout=ending.stdout,
            stderr=ending.stderr,
            files=files,
            left_out=left_out,
        )

    def _space(self, holder: Holder, phase: PhaseSpec) -> tuple[bool, bool]:
        """Return whether a tree that the phase could write is full, or has a file cut short."""
        trees = [_tmp(phase), *(mount.tree for mount in phase.mounts if not mount.read_only)]
        found = [holder.space(tree, phase.limits.file_size_bytes) for tree in dict.fromkeys(trees)]
        return any(space.full for space in found), any(space.file_at_limit for space in found)

    def _phase_volumes(self, phase: PhaseSpec) -> list[Volume]:
        volumes = [
            Volume(name=self._name(mount.tree), target=mount.target, read_only=mount.read_only)
            for mount in phase.mounts
        ]
        if phase.own_root is None and all(volume.target != "/tmp" for volume in volumes):
            volumes.append(Volume(name=self._name(_tmp(phase)), target="/tmp"))
        return volumes

    def _make_volume(self, tree: str, size_bytes: int, inodes: int) -> Volume:
        volume = Volume(name=self._name(tree), target=f"/trees/{tree}")
        self._volumes.append(volume.name)
        options = confine.tree_options(size_bytes, inodes, self.uid)
        self._daemon.create_volume(volume.name, options, self._place.labels)
        return volume

    def _name(self, part: str) -> str:
        return f"job-engine-{self.id}-{part}"


def _tmp(phase: PhaseSpec) -> str:
    # No tree's name begins with a dot.
    return f".tmp-{phase.name}"


def _take(holder: Holder, phase: PhaseSpec) -> tuple[Mapping[str, bytes], tuple[str, ...]]:
    files: dict[str, bytes] = {}
    left_out: list[str] = []
    for handover in phase.handover:
        taken, left = holder.take(handover)
        files |= taken
        left_out += left
    return files, tuple(left_out)
