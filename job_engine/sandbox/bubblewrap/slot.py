"""A slot of the bubblewrap backend: runs its phases in a thread, and destroys it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import select
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final, TypeVar

from job_engine.errors import SandboxError, SandboxRefusedError
from job_engine.sandbox.base import (
    Handover,
    Inputs,
    PhaseResult,
    PhaseSpec,
    PhaseStarted,
    Slot,
    SlotEvent,
    Tree,
    Verdict,
)
from job_engine.sandbox.bubblewrap.cgroups import Group
from job_engine.sandbox.bubblewrap.companion import CompanionRun
from job_engine.sandbox.bubblewrap.launch import Launch, may_wait
from job_engine.sandbox.bubblewrap.own_root import RootRequest
from job_engine.sandbox.bubblewrap.phase import KillSwitch, PhaseRun
from job_engine.sandbox.bubblewrap.uids import UidLease
from job_engine.sandbox.bubblewrap.wire import CHUNK_BYTES, Channel
from job_engine.sandbox.policy import check_inputs, with_companions

R = TypeVar("R", bound=PhaseRun)

_ANSWER_TIMEOUT_S: Final = 30.0
_POLITE_S: Final = 1.0
"""Seconds that a killed phase may take to end before its holder is killed too."""
_DEATH_TIMEOUT_MS: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class SlotParts:
    """The resources of a slot, which it owns."""

    phases: tuple[PhaseSpec, ...]
    trees: tuple[Tree, ...]
    images: Mapping[str, str]
    options: Mapping[str, list[str]]
    """Groups of bwrap, by the name of the phase or companion."""
    group: Group
    """The slot's own, with the phases' groups below it."""
    phase_groups: Mapping[str, Group]
    channel: Channel
    holder: int
    """A pidfd of the holder."""
    lease: UidLease
    private_hosts: list[str]
    root: RootRequest | None = None
    """The root file system, for a slot with `own-root`."""


class BubblewrapSlot(Slot):
    """See `Slot`. `on_destroy` is called once, when nothing of it is left."""

    def __init__(self, parts: SlotParts, on_destroy: Callable[[BubblewrapSlot], None]) -> None:
        self._parts = parts
        self._on_destroy = on_destroy
        self._events: queue.SimpleQueue[SlotEvent | SandboxError | None]
        self._events = queue.SimpleQueue()
        self._switch = KillSwitch()
        self._streams: dict[str, int] = {}
        """Streams to fill the trees from, by the name of the tree."""
        self._launches: dict[str, Launch] = {}
        """Launches that are set up, by the name of the phase or companion."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._used = False
        self._destroyed = False
        self._destroying = threading.Lock()

    @property
    def images(self) -> Mapping[str, str]:
        """See `Slot`."""
        return self._parts.images

    def setup(self) -> None:
        """Have the holder mount the trees; launch phases that can wait. Raises `SandboxError`."""
        trees = [dataclasses.asdict(tree) for tree in self._parts.trees]
        root = self._parts.root
        own_root = root.mounts() if root else None
        theirs = []
        try:
            for tree in self._parts.trees:
                read, self._streams[tree.name] = os.pipe()
                theirs.append(read)
            self._ask({"op": "setup", "trees": trees, "own_root": own_root}, theirs)
        finally:
            for fd in theirs:
                os.close(fd)
        for phase in with_companions(self._parts.phases):
            # A phase with `reach` gets its environment with the submission: it is launched later.
            if may_wait(phase) and not phase.reach:
                self._launch(phase, {})

    def go(self, inputs: Inputs) -> None:
        """See `Slot.go`; the tree streams have been read when it returns.

        Raises `SandboxRefusedError` too, for input that does not fit its tree.
        """
        check_inputs(inputs, self._parts.phases, self._parts.trees)
        with self._lock:
            if self._used or self._switch.pressed:
                raise SandboxError("a slot is for one go, and this one is used up or killed")
            self._used = True
        try:
            first, later = self._parts.phases[:1], self._parts.phases[1:]
            # One, while the trees are filled; more at once would delay that.
            self._launch_with(inputs, first)
            self._fill(inputs.trees)
            self._launch_with(inputs, later)
        except BaseException:
            self._events.put(None)
            raise
        with self._lock:
            # From now on the thread handles a kill; before, a kill ended the holder.
            if self._switch.pressed:
                raise SandboxError("the slot was killed")
            self._thread = threading.Thread(
                target=self._run_phases, args=(inputs,), name="slot", daemon=True
            )
            self._thread.start()

    def collect(self) -> Iterator[SlotEvent]:
        """See `Slot.collect`."""
        while (event := self._events.get()) is not None:
            if isinstance(event, SandboxError):
                self._events.put(None)
                raise event
            yield event
        # So that another `collect` finds the end too.
        self._events.put(None)

    def ready(self) -> bool:
        """See `Slot.ready`."""
        with self._lock:
            return not (self._used or self._switch.pressed or _is_dead(self._parts.holder))

    def kill(self) -> None:
        """See `Slot.kill`."""
        with self._lock:
            self._switch.press()
            if self._thread is None:
                self._kill_holder()
                self._events.put(None)

    def destroy(self) -> None:
        """See `Slot.destroy`. Raises `SandboxError` when something cannot be removed."""
        with self._destroying:
            if self._destroyed:
                return
            self.kill()
            if self._thread is not None:
                self._thread.join(_POLITE_S)
            self._kill_holder()
            if not _is_dead(self._parts.holder, _DEATH_TIMEOUT_MS):
                raise SandboxError("the slot's holder does not die")
            if self._thread is not None:
                self._thread.join()
            for launch in self._launches.values():
                launch.close()
            for stream in self._streams.values():
                os.close(stream)
            self._parts.channel.close()
            self._parts.group.remove()
            self._parts.lease.release()
            if self._parts.root is not None:
                self._parts.root.release()
            os.close(self._parts.holder)
            self._switch.close()
            self._destroyed = True
        self._on_destroy(self)

    def _launch_with(self, inputs: Inputs, phases: tuple[PhaseSpec, ...]) -> None:
        """Launch the phases that waited for their environment."""
        for phase in with_companions(phases):
            env = inputs.env.get(phase.name, {})
            if env and (early := self._launches.pop(phase.name, None)) is not None:
                early.drop()
            if may_wait(phase) and phase.name not in self._launches:
                self._launch(phase, env)

    def _launch(self, phase: PhaseSpec, env: Mapping[str, str]) -> None:
        parts = self._parts
        try:
            launch = Launch(
                phase,
                parts.options[phase.name],
                env,
                parts.channel,
                parts.phase_groups[phase.name],
            )
        except OSError as error:
            raise SandboxError(f"the slot's holder has died: {error}") from error
        self._launches[phase.name] = launch

    def _kill_holder(self) -> None:
        if not self._destroyed:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._parts.holder, signal.SIGKILL)

    def _run_phases(self, inputs: Inputs) -> None:
        failed = False
        try:
            for phase in self._parts.phases:
                if failed and not phase.always:
                    continue
                result = self._run_phase(phase, inputs)
                failed = failed or not result.ok
                if result.verdict is Verdict.KILLED:
                    return
        except (SandboxError, OSError) as error:
            wrapped = error if isinstance(error, SandboxError) else SandboxError(str(error))
            # The holder was killed on purpose, which is not a platform fault.
            self._events.put(_killed(phase) if self._switch.pressed else wrapped)
        finally:
            self._events.put(None)

    def _run_phase(self, phase: PhaseSpec, inputs: Inputs) -> PhaseResult:
        """Run one phase, emit its result (and its companion's), and return it."""
        if self._switch.pressed:
            result, beside = _killed(phase), None
        elif phase.companion is None:
            result, beside = self._make_run(PhaseRun, phase, inputs).run(), None
        else:
            companion = self._make_run(CompanionRun, phase.companion, inputs)
            with companion.started():
                result = self._make_run(PhaseRun, phase, inputs).run()
            beside = companion.result()
        if result.ok and phase.own_root is not None and phase.own_root.keep_as is not None:
            self._keep(phase.own_root.keep_as)
        if result.verdict is not Verdict.KILLED and phase.handover:
            result = self._with_files(result, phase)
        self._events.put(result)
        if beside is not None:
            self._events.put(beside)
        return result

    def _make_run(self, kind: type[R], phase: PhaseSpec, inputs: Inputs) -> R:
        if phase.name not in self._launches:
            self._launch(phase, inputs.env.get(phase.name, {}))
        return kind(
            phase,
            self._launches.pop(phase.name),
            channel=self._parts.channel,
            group=self._parts.phase_groups[phase.name],
            switch=self._switch,
            stdin=inputs.stdin.get(phase.name, b""),
            private_hosts=self._parts.private_hosts,
            on_start=lambda: self._events.put(PhaseStarted(phase.name)),
            on_output=self._events.put,
        )

    def _with_files(self, result: PhaseResult, phase: PhaseSpec) -> PhaseResult:
        files: dict[str, bytes] = {}
        left_out: list[str] = []
        for handover in phase.handover:
            self._hand_over(handover, files, left_out)
        return dataclasses.replace(result, files=files, left_out=tuple(left_out))

    def _keep(self, name: str) -> None:
        root = self._parts.root
        assert root is not None  # a phase that keeps its root has one
        self._send({"op": "keep"}, ())
        message = self._parts.channel.receive()
        if message is None:
            raise SandboxError("the slot's holder has died")
        try:
            _raise_error(message.head)
            root.keep(name, message.fds)
        finally:
            for fd in message.fds:
                os.close(fd)

    def _hand_over(self, handover: Handover, files: dict[str, bytes], left_out: list[str]) -> None:
        answer = self._ask({"op": "handover", **dataclasses.asdict(handover)})
        while "done" not in answer:
            if "left_out" in answer:
                left_out.append(answer["left_out"])
            else:
                files[answer["file"]] = self._receive_bytes(answer["size"])
            answer = self._answer()

    def _receive_bytes(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            message = self._parts.channel.receive()
            if message is None or "data" not in message.head:
                raise SandboxError("the slot's holder has died")
            data += message.body
        return bytes(data)

    def _fill(self, trees: Mapping[str, IO[bytes]]) -> None:
        for name, stream in trees.items():
            # A reader that gives up reports why in its answer.
            with contextlib.suppress(BrokenPipeError), self._stream(name) as pipe:
                while chunk := stream.read(CHUNK_BYTES):
                    pipe.write(chunk)
        self._send({"op": "fill", "trees": [*trees]}, ())
        answer = self._answer(check=False)
        if answer.get("full"):
            raise SandboxRefusedError(f"the input does not fit the tree {answer['tree']!r}")
        _raise_error(answer)

    def _stream(self, tree: str) -> IO[bytes]:
        """Return the descriptor that a tree is filled through; close it at the end."""
        return os.fdopen(self._streams.pop(tree), "wb")

    def _ask(self, head: dict[str, Any], fds: Sequence[int] = ()) -> dict[str, Any]:
        self._send(head, fds)
        return self._answer()

    def _send(self, head: dict[str, Any], fds: Sequence[int]) -> None:
        try:
            self._parts.channel.send(head, fds=fds)
        except OSError as error:
            raise SandboxError(f"the slot's holder has died: {error}") from error

    def _answer(self, *, check: bool = True) -> dict[str, Any]:
        try:
            message = self._parts.channel.receive()
        except TimeoutError as error:
            raise SandboxError("the slot's holder does not answer") from error
        if message is None:
            raise SandboxError("the slot's holder has died")
        if check:
            _raise_error(message.head)
        return message.head


def prepare_channel() -> tuple[Channel, Channel]:
    """Return the executor's and the holder's end of a slot's channel."""
    ours, theirs = Channel.pair()
    ours.sock.settimeout(_ANSWER_TIMEOUT_S)
    return ours, theirs


def _raise_error(answer: Mapping[str, Any]) -> None:
    if "error" in answer:
        raise SandboxError(answer["error"])


def _killed(phase: PhaseSpec) -> PhaseResult:
    """Return the result of a phase that was not running when it was killed."""
    return PhaseResult(
        phase=phase.name,
        verdict=Verdict.KILLED,
        exit_code=None,
        signal=signal.SIGKILL,
        wall_time_s=0.0,
        cpu_time_s=0.0,
        peak_memory_bytes=0,
        stdout=b"",
        stderr=b"",
    )


def _is_dead(pidfd: int, timeout_ms: int = 0) -> bool:
    """Wait for the end of a slot's process 1, before which all others of the slot end."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_ms))
