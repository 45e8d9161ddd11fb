"""Warm slots: a pool of slots that were prepared before the submissions that use them.

The pool is a `Sandbox` around a backend. `prepare` returns a waiting slot of the same kind if
there is one, else a new slot. A kind is the arguments of `prepare`; data of a submission is
no part of it, and comes with `go`.

What must hold: a slot is handed out once, and only if it is intact, not too old, and equal to
one made now; a returned slot is destroyed; nothing outlives `close`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from job_engine.errors import ImageUnavailableError, SandboxError, SandboxRefusedError
from job_engine.log import get_logger
from job_engine.sandbox.base import (
    Inputs,
    PhaseSpec,
    Runtime,
    Sandbox,
    Slot,
    SlotEvent,
    Tree,
)
from job_engine.sandbox.demand import Demand, Wish, allot

MAX_AGE_S: Final = 600.0
"""Seconds after which a waiting slot is replaced: what it was made from may have changed."""
_PATIENCE_S: Final = 0.25
"""Seconds for which a run that has just begun has the machine before its slot is replaced."""
_TICK_S: Final = 1.0
_BACK_OFF_S: Final = 30.0
"""Seconds without another try after preparing a slot failed; `prepare` itself reports why."""
_MAX_KINDS: Final = 256
_MAKERS: Final = 2
_MAX_REMOVALS: Final = 8
"""Slots destroyed in the background at once; with more, returning a slot waits."""

log = get_logger(__name__)


@dataclass(frozen=True)
class _Request:
    label: str
    phases: tuple[PhaseSpec, ...]
    trees: tuple[Tree, ...]
    image: str | None

    @property
    def key(self) -> str:
        # Environments are mappings without a hash; equal ones have the same `repr`.
        return repr(self)

    def prepare(self, sandbox: Sandbox) -> Slot:
        return sandbox.prepare(
            label=self.label, phases=self.phases, trees=self.trees, image=self.image
        )


@dataclass
class _Kind:
    request: _Request
    demand: Demand = field(default_factory=Demand)
    waiting: list[tuple[Slot, float]] = field(default_factory=list)
    """Each with the time at which it was ready (monotonic seconds), oldest first."""
    making: int = 0
    quiet_until: float = 0.0


class WarmSlots(Sandbox):
    """A pool of warm slots; see `Sandbox`. Call `start` before use.

    Args:
        sandbox: the backend, which `close` closes too.
        slots: slots that may wait, of all kinds together.
        memory_bytes: memory of the host that waiting slots may take together.
        at_once: slots that may be in use at the same time.
    """

    def __init__(self, sandbox: Sandbox, *, slots: int, memory_bytes: int, at_once: int) -> None:
        self.name = sandbox.name
        self.waiting_bytes = sandbox.waiting_bytes
        self.hits = self.misses = 0
        """Calls of `prepare` that returned a waiting slot, and those that made one."""
        self._sandbox = sandbox
        self._slots = slots
        self._memory_bytes = memory_bytes
        self._at_once = at_once
        self._kinds: dict[str, _Kind] = {}
        """By key; the most recently requested kind is last."""
        self._changed = threading.Condition()
        self._closed = False
        self._removing = 0
        self._keeper = threading.Thread(target=self._keep, name="warm", daemon=True)
        self._makers = ThreadPoolExecutor(_MAKERS, thread_name_prefix="warm-make")
        self._removers = ThreadPoolExecutor(_MAKERS, thread_name_prefix="warm-remove")

    def start(self) -> None:
        """Start the thread that keeps slots."""
        self._keeper.start()

    def prepare(
        self,
        *,
        label: str,
        phases: tuple[PhaseSpec, ...],
        trees: tuple[Tree, ...],
        image: str | None = None,
    ) -> Slot:
        """See `Sandbox.prepare`: return a waiting slot of this kind, or a new one."""
        request = _Request(label, phases, trees, image)
        kind = self._arrival(request)
        while (slot := self._take(kind)) is not None:
            if slot.ready():
                self._count(warm=True)
                return _LeasedSlot(slot, self)
            self._remove(slot)
        self._count(warm=False)
        return _LeasedSlot(self._make(kind), self)

    def _count(self, *, warm: bool) -> None:
        with self._changed:
            self.hits += warm
            self.misses += not warm
            hits, misses = self.hits, self.misses
        log.info("sandbox.slot", warm=warm, hits=hits, misses=misses)

    def expect(
        self,
        *,
        label: str,
        phases: tuple[PhaseSpec, ...],
        trees: tuple[Tree, ...],
        image: str | None = None,
        due_in_s: float,
    ) -> None:
        """See `Sandbox.expect`."""
        with self._changed:
            kind = self._kind(_Request(label, phases, trees, image))
            kind.demand.expect(time.monotonic() + due_in_s)
            self._changed.notify_all()

    def runtime(self) -> Runtime:
        """See `Sandbox.runtime`."""
        return self._sandbox.runtime()

    def image_digest(self, image: str | None) -> str:
        """See `Sandbox.image_digest`."""
        return self._sandbox.image_digest(image)

    def image_identities(self, image: str | None) -> frozenset[str]:
        """See `Sandbox.image_identities`."""
        return self._sandbox.image_identities(image)

    def kept_bytes(self, name: str) -> int | None:
        """See `Sandbox.kept_bytes`."""
        return self._sandbox.kept_bytes(name)

    def drop_kept(self, name: str) -> None:
        """See `Sandbox.drop_kept`; a root that a waiting slot uses stays."""
        self._sandbox.drop_kept(name)

    def sweep(self, label: str) -> int:
        """See `Sandbox.sweep`; waiting slots are not removed."""
        return self._sandbox.sweep(label)

    def check(self) -> None:
        """See `Sandbox.check`."""
        self._sandbox.check()

    def waiting(self) -> int:
        """Return how many slots wait."""
        with self._changed:
            return sum(len(kind.waiting) for kind in self._kinds.values())

    def settle(self) -> None:
        """Wait until every returned slot is destroyed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._removing)

    def retire(self) -> None:
        """Destroy waiting slots, and keep none from now on; slots in use are not affected."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.distrust()

    def distrust(self) -> None:
        """Destroy waiting slots after a platform fault: they may be broken too."""
        with self._changed:
            waiting = [slot for kind in self._kinds.values() for slot, _ in kind.waiting]
            for kind in self._kinds.values():
                kind.waiting.clear()
        for slot in waiting:
            self._remove(slot)

    def close(self) -> None:
        """See `Sandbox.close`."""
        self.retire()
        # The backend first: it also ends slots that are being made or destroyed.
        self._sandbox.close()
        self._makers.shutdown(cancel_futures=True)
        self._removers.shutdown()
        if self._keeper.is_alive():
            self._keeper.join()

    def give_back(self, slot: Slot) -> None:
        """Destroy a used slot, in the background unless there are many already."""
        with self._changed:
            # Wake the thread that waits for a run to end before it makes the next slot.
            for kind in self._kinds.values():
                kind.quiet_until = 0.0
            self._changed.notify_all()
        self._remove(slot)

    # --- kinds ------------------------------------------------------------------

    def _arrival(self, request: _Request) -> _Kind:
        now = time.monotonic()
        with self._changed:
            kind = self._kind(request)
            kind.demand.arrive(now)
            if kind.quiet_until < now:
                kind.quiet_until = now + _PATIENCE_S
            self._changed.notify_all()
        return kind

    def _kind(self, request: _Request) -> _Kind:
        kind = self._kinds.pop(request.key, None) or _Kind(request)
        self._kinds[request.key] = kind
        return kind

    def _take(self, kind: _Kind) -> Slot | None:
        with self._changed:
            return kind.waiting.pop(0)[0] if kind.waiting else None

    def _make(self, kind: _Kind) -> Slot:
        began = time.monotonic()
        try:
            slot = kind.request.prepare(self._sandbox)
        except (SandboxRefusedError, ImageUnavailableError):
            raise
        except SandboxError:
            self.distrust()
            raise
        with self._changed:
            kind.demand.prepared(time.monotonic() - began)
        return slot

    # --- keeping ----------------------------------------------------------------

    def _keep(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                surplus = self._plan(time.monotonic())
            for slot in surplus:
                self._remove(slot)
            with self._changed:
                if not self._closed:
                    self._changed.wait(self._pause(time.monotonic()))

    def _plan(self, now: float) -> list[Slot]:
        """Start to make missing slots; return those that are too many or too old."""
        kinds = list(self._kinds.values())
        wishes = [
            Wish(
                kind.demand.wanted(now, self._at_once),
                self.waiting_bytes * len(kind.request.phases),
                kind.demand.rate(now),
            )
            for kind in kinds
        ]
        surplus: list[Slot] = []
        for kind, most in zip(kinds, allot(wishes, self._slots, self._memory_bytes), strict=True):
            while kind.waiting and (
                len(kind.waiting) > most or now - kind.waiting[0][1] > MAX_AGE_S
            ):
                surplus.append(kind.waiting.pop(0)[0])
            if now >= kind.quiet_until:
                for _ in range(most - len(kind.waiting) - kind.making):
                    kind.making += 1
                    self._makers.submit(self._make_ahead, kind)
        self._forget(now)
        return surplus

    def _forget(self, now: float) -> None:
        for key, kind in list(self._kinds.items()):
            idle = not kind.waiting and not kind.making
            if idle and (kind.demand.forgotten(now) or len(self._kinds) > _MAX_KINDS):
                del self._kinds[key]

    def _pause(self, now: float) -> float:
        quiet = [kind.quiet_until - now for kind in self._kinds.values() if kind.quiet_until > now]
        return min([_TICK_S, *quiet])

    def _make_ahead(self, kind: _Kind) -> None:
        slot: Slot | None = None
        try:
            slot = self._make(kind) if not self._closed else None
        except SandboxError as error:
            # No caller is waiting; the next `prepare` of this kind raises the error.
            if not self._closed:
                log.warning("sandbox.warm.failed", error=error.message)
        with self._changed:
            kind.making -= 1
            if slot is not None and not self._closed:
                kind.waiting.append((slot, time.monotonic()))
                slot = None
            elif slot is None:
                kind.quiet_until = time.monotonic() + _BACK_OFF_S
        if slot is not None:
            self._remove(slot)

    def _remove(self, slot: Slot) -> None:
        with self._changed:
            self._removing += 1
            crowded = self._removing > _MAX_REMOVALS
        if not crowded:
            # After `close` the backend has destroyed it.
            with contextlib.suppress(RuntimeError):
                self._removers.submit(self._destroy, slot)
                return
        self._destroy(slot)

    def _destroy(self, slot: Slot) -> None:
        try:
            slot.destroy()
        except SandboxError as error:
            log.warning("sandbox.leftover", error=error.message)
        finally:
            with self._changed:
                self._removing -= 1
                self._changed.notify_all()


class _LeasedSlot(Slot):
    """A slot in use; `destroy` returns it to the pool, which destroys it."""

    def __init__(self, slot: Slot, pool: WarmSlots) -> None:
        self._slot = slot
        self._pool = pool
        self._lock = threading.Lock()
        self._given_back = False

    @property
    def images(self) -> Mapping[str, str]:
        return self._slot.images

    def go(self, inputs: Inputs) -> None:
        with self._trusted():
            self._slot.go(inputs)

    def collect(self) -> Iterator[SlotEvent]:
        with self._trusted():
            yield from self._slot.collect()

    def ready(self) -> bool:
        return self._slot.ready()

    def kill(self) -> None:
        self._slot.kill()

    def destroy(self) -> None:
        """Kill at once, so that nothing keeps running; the pool does the rest."""
        with self._lock:
            first, self._given_back = not self._given_back, True
        if first:
            self._slot.kill()
            self._pool.give_back(self._slot)

    @contextlib.contextmanager
    def _trusted(self) -> Iterator[None]:
        try:
            yield
        except SandboxRefusedError:
            raise
        except SandboxError:
            self._pool.distrust()
            raise
