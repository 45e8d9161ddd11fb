"""A slot in Docker: runs its phases in a thread, and destroys it."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from job_engine.errors import SandboxError
from job_engine.log import get_logger
from job_engine.sandbox.base import (
    KEPT_PREFIX,
    FileGrew,
    Inputs,
    PhaseOutput,
    PhaseResult,
    PhaseSpec,
    PhaseStarted,
    Slot,
    SlotEvent,
    Verdict,
    kept_identity,
)
from job_engine.sandbox.docker import confine
from job_engine.sandbox.docker.attach import STDERR
from job_engine.sandbox.docker.companion import Companion
from job_engine.sandbox.docker.follower import follower
from job_engine.sandbox.docker.holder import Holder
from job_engine.sandbox.docker.network import Gate
from job_engine.sandbox.docker.parts import SlotParts
from job_engine.sandbox.docker.phase import PhaseContainer
from job_engine.sandbox.docker.result import read_result
from job_engine.sandbox.docker.watch import OnOutput
from job_engine.sandbox.policy import check_inputs, with_env
from job_engine.sandbox.verdict import ended_with_phase

_JOIN_S: Final = 120.0
_MAKE_S: Final = 10.0
_GONE_S: Final = 3.0
"""Seconds that `destroy` waits for a daemon that does not answer, until which its processes may
still run. Less than an interrupted action has to end."""

log = get_logger(__name__)


class DockerSlot(Slot):
    """See `Slot`. Made by `DockerSandbox.prepare`, which has checked what it is given."""

    def __init__(
        self,
        parts: SlotParts,
        *,
        gate: Gate,
        forget: Callable[[DockerSlot], None],
        is_current: Callable[[], bool],
    ) -> None:
        """Own `parts`; `is_current` says whether the images' names have the same content still."""
        self.id = parts.place.slot
        self.uid = parts.place.uid
        self._parts = parts
        self._gate = gate
        self._forget = forget
        self._is_current = is_current
        self._lock = threading.Lock()
        self._destroying = threading.Lock()
        self._making = threading.Lock()
        self._events: queue.SimpleQueue[SlotEvent | SandboxError | None] = queue.SimpleQueue()
        self._runner: threading.Thread | None = None
        self._current: list[PhaseContainer] = []
        self._gone = False
        self._killed = False
        self._destroyed = False

    @property
    def images(self) -> Mapping[str, str]:
        """See `Slot`: ids of images, which are digests of what is in them."""
        kept = {
            phase.name: kept_identity(phase.image)
            for phase in self._parts.phases
            if phase.image is not None and phase.image.startswith(KEPT_PREFIX)
        }
        found = {phase: f"image:{image.id}" for phase, image in self._parts.images.items()}
        return found | kept

    def prepare(self) -> None:
        """Make all parts, and start the phases' containers; call `destroy` even if this fails."""
        with self._making:
            self._parts.hold()
            with self._lock:
                self._parts.add_containers()
                if self._killed:
                    raise SandboxError("the slot was destroyed meanwhile")
            self._parts.arm()

    def go(self, inputs: Inputs) -> None:
        """Fill the trees, then run the phases in a thread."""
        check_inputs(inputs, self._parts.phases, self._parts.trees)
        with self._lock:
            holder = self._parts.holder
            if self._gone or self._killed or holder is None:
                raise SandboxError("a slot is for one submission, and this one is used or ended")
            self._gone = True
        for tree, archive in inputs.trees.items():
            holder.fill(tree, archive)
        # In the caller's context, so that what it logs names the job.
        run = partial(contextvars.copy_context().run, self._run, holder, inputs)
        self._runner = threading.Thread(target=run, name=f"slot-{self.id}", daemon=True)
        self._runner.start()

    def collect(self) -> Iterator[SlotEvent]:
        """See `Slot.collect`; the phases' thread supplies the events."""
        if self._runner is None:
            raise SandboxError("nothing to collect: the slot does not go")
        while (event := self._events.get()) is not None:
            if isinstance(event, SandboxError):
                raise event
            yield event
        self._events.put(None)  # for later calls

    def ready(self) -> bool:
        """See `Slot.ready`: the containers are silent, and the images are current."""
        with self._lock:
            if self._gone or self._killed:
                return False
        return self._parts.silent() and self._is_current()

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
            self._parts.remove(_GONE_S)
            if made:
                self._making.release()
            self._forget(self)

    def _run(self, holder: Holder, inputs: Inputs) -> None:
        failed = False
        try:
            for phase in self._parts.phases:
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
        except Exception as error:  # `collect` raises it
            log.exception("docker.slot.broken", slot=self.id)
            self._events.put(SandboxError(f"the slot broke: {error!r}"))
        finally:
            self._events.put(None)

    def _run_phase(self, holder: Holder, phase: PhaseSpec, inputs: Inputs) -> PhaseResult:
        """Run one phase, emit its result (and its companion's), and return it."""
        ended = None
        with ExitStack() as ends:
            ends.enter_context(self._gate.opened(self._parts.place, phase.reach))
            companion = None
            if phase.companion is not None:
                companion = Companion(*self._ready_to_run(ends, phase.companion, inputs))
                ends.callback(companion.end)
                companion.begin()
            container, environment = self._ready_to_run(ends, phase, inputs)
            if phase.follow is not None:
                on_growth = self._growth_emitter(phase)
                ends.enter_context(follower(self._parts.place, phase.follow, on_growth))
            ending = container.run(
                environment,
                inputs.stdin.get(phase.name, b""),
                on_start=lambda: self._events.put(PhaseStarted(phase.name)),
                on_output=self._output_emitter(phase),
            )
            if companion is not None:
                ended = companion.end()
            own = phase.own_root
            if own is not None and own.keep_as and not ending.reason and not ending.status:
                self._parts.keep_root(phase, own.keep_as)
        result = read_result(holder, phase, ending)
        self._events.put(result)
        if ended is not None and phase.companion is not None:
            companion_result = read_result(holder, phase.companion, ended.ending)
            if ended.was_running:
                companion_result = ended_with_phase(companion_result)
            self._events.put(companion_result)
        return result

    def _ready_to_run(
        self, ends: ExitStack, phase: PhaseSpec, inputs: Inputs
    ) -> tuple[PhaseContainer, dict[str, str]]:
        container = ends.enter_context(self._running(phase))
        if not container.armed:
            container.arm()
        image = self._parts.images[phase.name]
        return container, confine.environment(with_env(phase, inputs), image)

    @contextmanager
    def _running(self, phase: PhaseSpec) -> Iterator[PhaseContainer]:
        """Give the phase's container, which a kill finds meanwhile; it is let go of afterwards."""
        container = self._parts.containers[phase.name]
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

    def _growth_emitter(self, phase: PhaseSpec) -> Callable[[bytes], None]:
        return lambda data: self._events.put(FileGrew(phase.name, data))

    def _output_emitter(self, phase: PhaseSpec) -> OnOutput | None:
        if not phase.live:
            return None
        return lambda stream, data: self._events.put(
            PhaseOutput(phase.name, data, stderr=stream == STDERR)
        )
