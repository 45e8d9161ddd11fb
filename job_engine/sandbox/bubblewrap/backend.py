"""Slots made of bubblewrap: prepare, sweep, check and close.

Tested against bubblewrap 0.8.0 on x86_64: Linux 6.18 with control groups of version 1, and
Linux 6.1 with version 2. On aarch64 only the system-call filter was run, by an interpreter.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from job_engine.errors import SandboxError, SandboxRefusedError
from job_engine.log import get_logger
from job_engine.sandbox.base import Inputs, PhaseResult, PhaseSpec, Runtime, Sandbox, Tree
from job_engine.sandbox.bubblewrap.cgroups import Group, Hierarchies
from job_engine.sandbox.bubblewrap.command import (
    bwrap_options,
    image_binds,
    own_root_options,
)
from job_engine.sandbox.bubblewrap.identity import bwrap_version, identity_of
from job_engine.sandbox.bubblewrap.layers import RANGE
from job_engine.sandbox.bubblewrap.own_root import KeptRoots, RootRequest
from job_engine.sandbox.bubblewrap.slot import BubblewrapSlot, SlotParts, prepare_channel
from job_engine.sandbox.bubblewrap.spawner import Spawner
from job_engine.sandbox.bubblewrap.uids import UIDS_PER_SLOT, UidLease, UidPool
from job_engine.sandbox.bubblewrap.wire import Channel
from job_engine.sandbox.policy import check_image, check_request, with_companions
from job_engine.settings import SandboxSettings

_BWRAP: Final = Path("/usr/bin/bwrap")
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SLOT_NAME: Final = re.compile(r"(([0-9]+)-[0-9]+)-[0-9]+")
_OWN_PROCESSES: Final = 2
"""bwrap and the first process of its pid namespace, in addition to the phase's process limit."""
_HOLDER_BYTES: Final = 64 * 2**20
"""Memory of the holder and its short-lived children, in addition to trees and phases."""
_INODE_BYTES: Final = 2 * 2**10
"""Kernel memory for a file of a tree, rounded up; it stays charged after its phase."""

log = get_logger(__name__)


class BubblewrapSandbox(Sandbox):
    """See `Sandbox`. Needs host root, which nothing inside a slot ever has."""

    name = "bubblewrap"
    waiting_bytes = 4 * 2**20

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._hierarchies: Hierarchies | None = None
        self._roots = KeptRoots(settings.kept_roots_dir, settings.rootfs_dir)
        kept = settings.kept_roots_dir if "own-root" in settings.allow_profiles else None
        self._spawner = Spawner(settings.rootfs_dir, kept, settings.allow_kvm)
        self._uids = UidPool(settings.run_dir / "uids", settings.uid_base, settings.uid_slots)
        self._slots: set[BubblewrapSlot] = set()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._closed = False

    def runtime(self) -> Runtime:
        """See `Sandbox`."""
        host = os.uname()
        return Runtime(host=host.nodename, kernel=host.release, version=bwrap_version(_BWRAP))

    def prepare(
        self,
        *,
        label: str,
        phases: tuple[PhaseSpec, ...],
        trees: tuple[Tree, ...],
        image: str | None = None,
    ) -> BubblewrapSlot:
        """See `Sandbox.prepare`."""
        if self._closed:
            raise SandboxError("the sandbox is closed")
        check_request(self._settings, phases, trees)
        if any(phase.kvm for phase in with_companions(phases)) and not Path("/dev/kvm").exists():
            raise SandboxRefusedError("a phase asks for /dev/kvm, which this host does not have")
        default = image or self._settings.default_image
        for phase in with_companions(phases):
            name = phase.image or default
            check_image(self._settings, name, self.image_identities(name))
        return self._prepare(label, phases, trees, default)

    def _prepare(
        self,
        label: str,
        phases: tuple[PhaseSpec, ...],
        trees: tuple[Tree, ...],
        image: str | None,
    ) -> BubblewrapSlot:
        options = self._all_options(phases, image)
        with ExitStack() as undo:
            lease = self._uids.lease()
            undo.callback(lease.release)
            root = self._root(phases, image, lease)
            if root is not None:
                undo.callback(root.release)
            path = f"{_checked(label)}/{_owner(os.getpid())}-{next(self._numbers)}"
            hierarchies = self._find_hierarchies()
            group = Group(hierarchies, path)
            undo.callback(group.remove)
            holder_group, phase_groups = _make_groups(hierarchies, group, path, phases, trees)
            channel, theirs = prepare_channel()
            undo.callback(channel.close)
            holder = self._spawn(lease, theirs, holder_group.entrances(), root)
            undo.pop_all()
        parts = SlotParts(
            phases=phases,
            trees=trees,
            images={
                phase.name: identity_of(self._settings.rootfs_dir, phase.image or image)
                for phase in with_companions(phases)
            },
            options=options,
            group=group,
            phase_groups=phase_groups,
            channel=channel,
            holder=holder,
            lease=lease,
            private_hosts=self._settings.allow_private_hosts,
            root=root,
        )
        return self._register(BubblewrapSlot(parts, self._forget))

    def _spawn(
        self, lease: UidLease, channel: Channel, entrances: Sequence[int], root: RootRequest | None
    ) -> int:
        """Start the slot's holder, which gets what is closed here."""
        try:
            layers = root.layers() if root else None
            return self._spawner.spawn(lease.first, channel, lease.lock, entrances, layers)
        finally:
            channel.close()
            for fd in entrances:
                os.close(fd)

    def _all_options(
        self, phases: tuple[PhaseSpec, ...], image: str | None
    ) -> dict[str, list[str]]:
        return {phase.name: self._options(phase, image) for phase in with_companions(phases)}

    def _options(self, phase: PhaseSpec, image: str | None) -> list[str]:
        if phase.own_root is not None:
            return own_root_options(phase)
        return bwrap_options(phase, image_binds(self._roots, phase.image or image))

    def _root(
        self, phases: tuple[PhaseSpec, ...], image: str | None, lease: UidLease
    ) -> RootRequest | None:
        """Return the root of a slot with a phase that is to be root of its own."""
        for phase in phases:
            if phase.own_root is not None:
                slot = (lease.first - self._settings.uid_base) // UIDS_PER_SLOT
                first = self._settings.root_uid_base + slot * RANGE
                return RootRequest(self._roots, phase.image or image, phase.own_root, first)
        return None

    def image_digest(self, image: str | None) -> str:
        """See `Sandbox.image_digest`: of the packages that the root file system has."""
        return self._roots.digest(image or self._settings.default_image)

    def image_identities(self, image: str | None) -> frozenset[str]:
        """See `Sandbox.image_identities`."""
        name = image or self._settings.default_image
        return frozenset((self.image_digest(name), *([] if name else ["host"])))

    def kept_bytes(self, name: str) -> int | None:
        """See `Sandbox.kept_bytes`."""
        return self._roots.size_bytes(name)

    def drop_kept(self, name: str) -> None:
        """See `Sandbox.drop_kept`."""
        self._roots.drop(name)

    def sweep(self, label: str) -> int:
        """See `Sandbox.sweep`. What belongs to a process that is alive is left alone."""
        hierarchies = self._find_hierarchies()
        swept = 0
        for name in hierarchies.slots(_checked(label)):
            owner = _SLOT_NAME.fullmatch(name)
            if owner is not None and owner[1] != _owner(int(owner[2])):
                Group(hierarchies, f"{label}/{name}").remove()
                log.info("sandbox.swept", label=label, slot=name)
                swept += 1
        return swept

    def check(self) -> None:
        """See `Sandbox.check`; it makes a slot and runs a program, to be sure."""
        if os.geteuid() != 0:
            raise SandboxRefusedError("bubblewrap slots need an executor that runs as root")
        if not os.access(_BWRAP, os.X_OK):
            raise SandboxRefusedError(f"{_BWRAP} is not installed (package bubblewrap)")
        self._find_hierarchies()
        phase = PhaseSpec(name="check", command=("true",))
        try:
            slot = self._prepare(f"check-{os.getpid()}", (phase,), (), None)
            try:
                slot.go(Inputs())
                results = [event for event in slot.collect() if isinstance(event, PhaseResult)]
            finally:
                slot.destroy()
        except SandboxRefusedError:
            raise
        except SandboxError as error:
            raise SandboxRefusedError(f"bubblewrap does not work here: {error}") from error
        if not all(result.ok for result in results):
            raise SandboxRefusedError(f"bubblewrap cannot run a program here: {results}")

    def close(self) -> None:
        """See `Sandbox.close`."""
        with self._lock:
            self._closed = True
            slots = list(self._slots)
        for slot in slots:
            with contextlib.suppress(SandboxError):
                slot.destroy()
        self._spawner.close()

    def _register(self, slot: BubblewrapSlot) -> BubblewrapSlot:
        with self._lock:
            self._slots.add(slot)
            closed = self._closed
        try:
            slot.setup()
        except SandboxError:
            slot.destroy()
            raise
        if closed:
            slot.destroy()
            raise SandboxError("the sandbox is closed")
        return slot

    def _forget(self, slot: BubblewrapSlot) -> None:
        with self._lock:
            self._slots.discard(slot)

    def _find_hierarchies(self) -> Hierarchies:
        if self._hierarchies is None:
            found = Hierarchies(self._settings.cgroup_parent)
            found.check()
            self._hierarchies = found
        return self._hierarchies


def _make_groups(
    hierarchies: Hierarchies,
    group: Group,
    path: str,
    phases: tuple[PhaseSpec, ...],
    trees: tuple[Tree, ...],
) -> tuple[Group, dict[str, Group]]:
    """Make the slot's group, its holder's and its phases' by name, with their limits."""
    budget = sum(tree.size_bytes + tree.inodes * _INODE_BYTES for tree in trees) + _HOLDER_BYTES
    budget += sum(
        phase.own_root.size_bytes + phase.own_root.inodes * _INODE_BYTES
        for phase in phases
        if phase.own_root is not None
    )
    budget += max((_memory_bytes(phase) for phase in phases), default=0)
    group.create()
    group.limit(memory_bytes=budget)
    holder_group = Group(hierarchies, f"{path}/holder")
    holder_group.create()
    phase_groups: dict[str, Group] = {}
    for number, phase in enumerate(with_companions(phases)):
        phase_group = phase_groups[phase.name] = Group(hierarchies, f"{path}/phase-{number}")
        phase_group.create()
        phase_group.limit(
            memory_bytes=phase.limits.memory_bytes,
            processes=phase.limits.processes + _OWN_PROCESSES,
            cpus=phase.limits.cpus,
        )
    return holder_group, phase_groups


def _memory_bytes(phase: PhaseSpec) -> int:
    """Return what a phase and who runs beside it may use together."""
    beside = phase.companion.limits.memory_bytes if phase.companion is not None else 0
    return phase.limits.memory_bytes + beside


def _checked(label: str) -> str:
    """Return the label, which becomes a directory's name. Raises `SandboxError`."""
    if not _LABEL.fullmatch(label):
        raise SandboxError(f"the label {label!r} is no plain name")
    return label


def _owner(pid: int) -> str:
    """Name a living process for good: its pid and start time; `<pid>-0` for a dead one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return f"{pid}-0"
    # proc(5): after the name, which may hold anything, state is field 3 and start 22.
    fields = stat.rpartition(")")[2].split()
    return f"{pid}-0" if fields[0] in "ZX" else f"{pid}-{fields[19]}"
