"""A slot in Docker: volumes, their holder, and the phases' containers, one after another."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Final

from job_engine.errors import SandboxError
from job_engine.log import get_logger
from job_engine.sandbox.base import (
    KEPT_PREFIX,
    Inputs,
    PhaseOutput,
    PhaseResult,
    PhaseSpec,
    PhaseStarted,
    Slot,
    SlotEvent,
    Tree,
    Verdict,
    kept_identity,
)
from job_engine.sandbox.companion import lived
from job_engine.sandbox.docker import confine
from job_engine.sandbox.docker.attach import STDERR
from job_engine.sandbox.docker.companion import Companion
from job_engine.sandbox.docker.confine import TMP_BYTES, TMP_INODES, Place, Volume
from job_engine.sandbox.docker.daemon import Daemon
from job_engine.sandbox.docker.holder import SCRIPT, Holder
from job_engine.sandbox.docker.images import Image
from job_engine.sandbox.docker.network import Gate
from job_engine.sandbox.docker.phase import WAIT_SCRIPT, Ending, PhaseContainer
from job_engine.sandbox.docker.removals import Removals
from job_engine.sandbox.docker.watch import Stop, Tell
from job_engine.sandbox.policy import check_inputs, with_companions, with_env
from job_engine.sandbox.verdict import Observations, decide, split_status

_JOIN_S: Final = 120.0
_MAKE_S: Final = 10.0
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
        is_current: Callable[[Mapping[str, Image]], bool],
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
        self._is_current = is_current
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._destroying = threading.Lock()
        self._making = threading.Lock()
        self._events: queue.SimpleQueue[SlotEvent | SandboxError | None] = queue.SimpleQueue()
        self._runner: threading.Thread | None = None
        self._current: list[PhaseContainer] = []
        self._gone = False
        self._killed = False
        self._destroyed = False
        self._holder: Holder | None = None
        self._holder_made = False
        """Whether it may be there: what is not answered may have been done."""
        self._containers: dict[str, PhaseContainer] = {}
        """By phase; each of them may be there."""
        self._volumes: list[str] = []

    @property
    def images(self) -> Mapping[str, str]:
        """See `Slot`: ids of images, which are digests of what is in them."""
        kept = {
            phase.name: kept_identity(phase.image)
            for phase in self._phases
            if phase.image is not None and phase.image.startswith(KEPT_PREFIX)
        }
        return {phase: f"image:{image.id}" for phase, image in self._images.items()} | kept

    def prepare(self) -> None:
        """Make all of it, and have the phases wait; `destroy` whatever comes of it."""
        with self._making:
            self._make()

    def _make(self) -> None:
        volumes = [
            self._make_volume(tree.name, tree.size_bytes, tree.inodes) for tree in self._trees
        ]
        specs = with_companions(self._phases)
        volumes += [self._make_volume(_tmp(spec), TMP_BYTES, TMP_INODES) for spec in specs]
        holder = self._start_holder(volumes)
        pid = int(self._daemon.inspect(holder)["State"]["Pid"])
        with self._lock:
            self._place = replace(self._place, holder=holder, holder_pid=pid)
            self._containers = self._make_containers()
            if self._killed:
                raise SandboxError("the slot was destroyed meanwhile")
        early = [self._containers[spec.name] for spec in specs if not _nested(spec)]
        # Side by side: most of it is waiting for the kernel.
        arming = [self._background.submit(container.arm) for container in early]
        wait(arming)
        for armed in arming:
            armed.result()

    def _start_holder(self, volumes: list[Volume]) -> str:
        config = confine.holder_container(
            self._holder_image,
            self._place,
            SCRIPT,
            volumes,
            bytes_held=sum(tree.size_bytes for tree in self._trees),
            inodes=sum(tree.inodes for tree in self._trees),
        )
        self._holder_made = True
        holder = self._daemon.create(self._name("holder"), config)
        self._holder = Holder(self._daemon.attach(holder, stdin=True), self._timeout_s)
        self._daemon.start(holder)
        return holder

    def _make_containers(self) -> dict[str, PhaseContainer]:
        # Whoever runs at the same time as another has a network of its own.
        alone = replace(self._place, holder=None)
        found = {phase.name: self._container(phase, self._place) for phase in self._phases}
        beside = [phase.companion for phase in self._phases if phase.companion is not None]
        return found | {spec.name: self._container(spec, alone) for spec in beside}

    def _container(self, phase: PhaseSpec, place: Place) -> PhaseContainer:
        config = confine.phase_container(
            phase,
            self._images[phase.name],
            place,
            self._phase_volumes(phase),
            cores=int(self._daemon.info["NCPU"]),
            wait_script=WAIT_SCRIPT,
        )
        own = phase.own_root
        root_bytes = own.size_bytes if own is not None else None
        name = self._name(phase.name)
        return PhaseContainer(self._daemon, name, config, phase.limits, root_bytes)

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

    def collect(self) -> Iterator[SlotEvent]:
        """Yield what the phases' thread reports."""
        if self._runner is None:
            raise SandboxError("nothing to collect: the slot does not go")
        while (event := self._events.get()) is not None:
            if isinstance(event, SandboxError):
                raise event
            yield event
        self._events.put(None)  # For who asks again.

    def ready(self) -> bool:
        """See `Slot.ready`: whoever waits is silent, and the images' names mean the same."""
        with self._lock:
            if self._gone or self._killed or self._holder is None:
                return False
        armed = [container for container in self._containers.values() if container.armed]
        return (
            self._holder.silent()
            and all(container.ready() for container in armed)
            and self._is_current(self._images)
        )

    def kill(self) -> None:
        """End the running phase; later ones do not start."""
        with self._lock:
            self._killed = True
            current = list(self._current)
        for container in current:
            container.kill()

    def destroy(self) -> None:
        """Kill, and remove containers before volumes; what fails is tried again, and logged."""
        self.kill()
        with self._destroying:
            if self._destroyed:
                return
            self._destroyed = True
            # What is still being made could not be removed yet.
            made = self._making.acquire(timeout=_MAKE_S)
            if self._runner is not None:
                self._runner.join(_JOIN_S)
            if self._holder is not None:
                self._holder.close()
            names = [self._name("holder")] if self._holder_made else []
            for container in self._containers.values():
                container.close()
                names.append(container.name)
            gone = list(self._background.map(self._remove, names))
            gone += [self._removals.remove(self._daemon.remove_volume, v) for v in self._volumes]
            until = time.monotonic() + _GONE_S
            for event in gone:
                event.wait(max(0.0, until - time.monotonic()))
            if made:
                self._making.release()
            self._forget(self)

    def _run(self, holder: Holder, inputs: Inputs) -> None:
        failed = False
        try:
            for phase in self._phases:
                if self._killed and failed:
                    break
                if failed and not phase.always:
                    continue
                result = self._run_phase(holder, phase, inputs)
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

    def _run_phase(self, holder: Holder, phase: PhaseSpec, inputs: Inputs) -> PhaseResult:
        """Run one phase, tell of its end (and its companion's), and return its result."""
        ended = None
        with ExitStack() as ends:
            ends.enter_context(self._gate.opened(self._place, phase.reach))
            companion = None
            if phase.companion is not None:
                companion = Companion(*self._ready_to_run(ends, phase.companion, inputs))
                ends.callback(companion.end)
                companion.begin()
            container, environment = self._ready_to_run(ends, phase, inputs)
            ending = container.run(
                environment,
                inputs.stdin.get(phase.name, b""),
                on_start=lambda: self._events.put(PhaseStarted(phase.name)),
                on_output=self._teller(phase),
            )
            if companion is not None:
                ended = companion.end()
            own = phase.own_root
            if own is not None and own.keep_as and not ending.reason and not ending.status:
                self._daemon.commit(container.name, own.keep_as)
        result = self._result(holder, phase, ending)
        self._events.put(result)
        if ended is not None and phase.companion is not None:
            beside = self._result(holder, phase.companion, ended.ending)
            self._events.put(lived(beside) if ended.lived else beside)
        return result

    def _ready_to_run(
        self, ends: ExitStack, phase: PhaseSpec, inputs: Inputs
    ) -> tuple[PhaseContainer, dict[str, str]]:
        container = ends.enter_context(self._running(phase))
        if not container.armed:
            container.arm()
        return container, confine.environment(with_env(phase, inputs), self._images[phase.name])

    @contextmanager
    def _running(self, phase: PhaseSpec) -> Iterator[PhaseContainer]:
        """Give the phase's container, which a kill finds meanwhile; it is let go of afterwards."""
        container = self._containers[phase.name]
        try:
            with self._lock:
                self._current.append(container)
                killed = self._killed
            if killed:
                container.kill()
            yield container
        finally:
            with self._lock:
                self._current.remove(container)
            # It is removed with the slot: until then the later phases have the machine.
            container.close()

    def _remove(self, name: str) -> threading.Event:
        # By its name: it may be there though nobody answered with its id.
        return self._removals.remove(self._daemon.remove, name)

    def _teller(self, phase: PhaseSpec) -> Tell | None:
        if not phase.live:
            return None
        return lambda stream, data: self._events.put(
            PhaseOutput(phase.name, data, stderr=stream == STDERR)
        )

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


def _nested(phase: PhaseSpec) -> bool:
    """Whether a tree is shown inside another, where Docker makes a place for it at the start."""
    targets = [mount.target for mount in phase.mounts]
    return any(inner.startswith(f"{outer.rstrip('/')}/") for outer in targets for inner in targets)


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
