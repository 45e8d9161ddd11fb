"""The backend: checks requests, makes slots, and sweeps up what earlier processes left."""

from __future__ import annotations

import os
import random
import stat
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from job_engine.errors import SandboxError, SandboxRefusedError
from job_engine.log import get_logger
from job_engine.sandbox.base import PhaseSpec, Runtime, Sandbox, Slot, Tree
from job_engine.sandbox.docker.confine import Place
from job_engine.sandbox.docker.daemon import LABEL, SLOT_LABEL, Daemon
from job_engine.sandbox.docker.images import Image, Images
from job_engine.sandbox.docker.network import Gate
from job_engine.sandbox.docker.parts import SlotParts
from job_engine.sandbox.docker.removals import Removals
from job_engine.sandbox.docker.slot import DockerSlot
from job_engine.sandbox.policy import check_image, check_request, is_listed, with_companions
from job_engine.settings import SandboxSettings

_UIDS: Final = 500
_MIN_MEMORY_BYTES: Final = 6 * 2**20
"""Docker's own minimum."""
_MIN_CPUS: Final = 0.01
_KVM: Final = "/dev/kvm"
_NEEDED: Final = {
    "MemoryLimit": "limit memory",
    "PidsLimit": "limit processes",
    "CpuCfsQuota": "limit CPU (CFS quota)",
    "CpuCfsPeriod": "limit CPU (CFS period)",
}

log = get_logger(__name__)


class DockerSandbox(Sandbox):
    """Slots in a Docker daemon, local or behind TLS.

    A phase runs as an unprivileged uid, without a capability, without new privileges, on a
    read-only root, under a system-call filter of our own. Tested against dockerd 20.10.24
    (containerd 1.6.20, runc 1.1.5) on Linux 6.18 with cgroup v1 and the cgroupfs driver.
    """

    name = "docker"
    waiting_bytes = 16 * 2**20

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._daemon = Daemon(settings)
        self._images = Images(self._daemon, settings)
        self._gate = Gate(self._daemon, self._images, settings)
        self._background = ThreadPoolExecutor(8, thread_name_prefix="docker")
        self._removals = Removals()
        self._lock = threading.Lock()
        self._slots: dict[str, DockerSlot] = {}
        self._uids: set[int] = set()
        self._checked = False
        self._closed = False

    def runtime(self) -> Runtime:
        """See `Sandbox`: the daemon's host, which may be another than the executor's."""
        info = self._daemon.info
        return Runtime(
            host=str(info.get("Name", "")),
            kernel=str(info.get("KernelVersion", "")),
            version=f"docker {info.get('ServerVersion', '')}",
        )

    def check(self) -> None:
        """See `Sandbox`: the daemon must answer, and be able to limit what slots limit."""
        info = self._daemon.info
        if info.get("OSType") != "linux":
            raise SandboxRefusedError("the Docker daemon does not run Linux containers")
        missing = [what for key, what in _NEEDED.items() if not info.get(key)]
        if missing:
            raise SandboxRefusedError(
                f"the Docker daemon cannot {', '.join(missing)}: enable those cgroup controllers"
            )
        if not info.get("SwapLimit") and not self._has_no_swap():
            raise SandboxRefusedError(
                "the Docker daemon cannot limit swap: boot with swapaccount=1, or turn swap off"
            )
        options = [str(option).split(",")[0] for option in info.get("SecurityOptions") or []]
        if "name=seccomp" not in options:
            raise SandboxRefusedError("the Docker daemon runs containers without seccomp")
        if "name=userns" in options:
            raise SandboxRefusedError(
                "the Docker daemon remaps uids (userns-remap), which tmpfs volumes do not follow"
            )
        self._images.holder()
        self._checked = True

    def prepare(
        self,
        *,
        label: str,
        phases: tuple[PhaseSpec, ...],
        trees: tuple[Tree, ...],
        image: str | None = None,
    ) -> Slot:
        """See `Sandbox`: find the images, make the volumes, and start their holder."""
        if self._closed:
            raise SandboxError("the sandbox is closed")
        check_request(self._settings, phases, trees)
        if not self._checked:
            self.check()
        specs = with_companions(phases)
        for spec in specs:
            _check_phase(spec)
        slot = self._make_slot(label, phases, trees, image)
        try:
            slot.prepare()
        except BaseException:
            slot.destroy()
            raise
        return slot

    def image_digest(self, image: str | None) -> str:
        """See `Sandbox.image_digest`: the id of the image, which is a digest of its content."""
        return self._find_image(image).id

    def image_identities(self, image: str | None) -> frozenset[str]:
        """See `Sandbox.image_identities`: its id, and the digests of registries."""
        return self._find_image(image).identities

    def kept_bytes(self, name: str) -> int | None:
        """See `Sandbox.kept_bytes`."""
        return self._images.size_bytes(name)

    def drop_kept(self, name: str) -> None:
        """See `Sandbox.drop_kept`."""
        self._daemon.remove_image(name)

    def sweep(self, label: str) -> int:
        """See `Sandbox`: remove containers, then volumes, that carry this label."""
        containers, volumes = self._daemon.labelled([f"{LABEL}={label}"])
        with self._lock:
            alive = set(self._slots)
        dead = [item for item, slot in containers if slot not in alive]
        for container in dead:
            self._daemon.remove(container)
        empty = [name for name, slot in volumes if slot not in alive]
        for volume in empty:
            self._daemon.remove_volume(volume)
        removed = len(dead) + len(empty)
        if removed:
            log.info("docker.sweep", label=label, containers=len(dead), volumes=len(empty))
        return removed

    def close(self) -> None:
        """See `Sandbox`."""
        with self._lock:
            self._closed = True
            slots = list(self._slots.values())
        for slot in slots:
            slot.kill()
        for slot in slots:
            slot.destroy()
        self._background.shutdown()
        self._removals.close()
        self._daemon.close()

    def _make_slot(
        self,
        label: str,
        phases: tuple[PhaseSpec, ...],
        trees: tuple[Tree, ...],
        image: str | None,
    ) -> DockerSlot:
        """Return a slot with nothing in the daemon yet, registered so that `sweep` spares it."""
        specs = with_companions(phases)
        images = self._find_images(specs, image)
        holder_image = self._images.holder()
        parts = SlotParts(
            daemon=self._daemon,
            place=self._place(label, kvm=any(spec.kvm for spec in specs)),
            phases=phases,
            trees=trees,
            images=images,
            holder_image=holder_image,
            background=self._background,
            removals=self._removals,
            timeout_s=self._settings.docker_timeout_s,
        )
        slot = DockerSlot(
            parts,
            gate=self._gate,
            forget=self._forget,
            is_current=lambda: images == self._find_images(specs, image),
        )
        with self._lock:
            if self._closed:
                raise SandboxError("the sandbox was closed meanwhile")
            self._slots[slot.id] = slot
        return slot

    def _place(self, label: str, *, kvm: bool) -> Place:
        devices, groups = self._kvm() if kvm else ((), ())
        slot = uuid.uuid4().hex[:16]
        with self._lock:
            uid = self._draw_uid()
            self._uids.add(uid)
        labels = {LABEL: label, SLOT_LABEL: slot}
        return Place(slot=slot, uid=uid, labels=labels, devices=devices, groups=groups)

    def _draw_uid(self) -> int:
        # The kernel counts some things by uid (inotify instances, keys), across containers:
        # slots must not share one. Drawn, as other executors on this host draw too.
        base = self._settings.docker_uid_base
        free = [uid for uid in range(base, base + _UIDS) if uid not in self._uids]
        if not free:
            raise SandboxError(f"{_UIDS} slots at once: no uid is left for another")
        return random.choice(free)

    def _forget(self, slot: DockerSlot) -> None:
        with self._lock:
            self._slots.pop(slot.id, None)
            self._uids.discard(slot.uid)

    def _find_images(self, phases: tuple[PhaseSpec, ...], image: str | None) -> dict[str, Image]:
        return {phase.name: self._find_image(phase.image or image) for phase in phases}

    def _find_image(self, name: str | None) -> Image:
        name = name or self._settings.default_image
        if name is None:
            raise SandboxRefusedError(
                "no image is named, and the operator has not set default_image"
            )
        pull = is_listed(self._settings.allow_images, [name])
        image = self._images.find(name, pull=pull)
        check_image(self._settings, name, image.identities)
        return image

    def _has_no_swap(self) -> bool:
        # Without swap accounting Docker silently ignores the swap limit. On a host without swap
        # the memory limit alone is enough.
        if not self._daemon.is_local:
            return False
        try:
            return len(Path("/proc/swaps").read_text().splitlines()) <= 1
        except OSError:
            return False

    def _kvm(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        try:
            found = os.stat(_KVM)
        except OSError as error:
            raise SandboxRefusedError(f"no {_KVM} here: {error.strerror}") from error
        if found.st_mode & stat.S_IRWXO >= stat.S_IROTH | stat.S_IWOTH:
            return (_KVM,), ()
        if found.st_gid and found.st_mode & stat.S_IRGRP and found.st_mode & stat.S_IWGRP:
            return (_KVM,), (found.st_gid,)
        raise SandboxRefusedError(
            f"{_KVM} is for root only: give it to a group (chgrp kvm {_KVM}; chmod 0660 {_KVM})"
        )


def _check_phase(phase: PhaseSpec) -> None:
    """Refuse what Docker, unlike other backends, cannot do."""
    if phase.limits.memory_bytes < _MIN_MEMORY_BYTES:
        raise SandboxRefusedError(
            f"phase {phase.name}: Docker limits memory to no less than {_MIN_MEMORY_BYTES} bytes"
        )
    if phase.limits.cpus < _MIN_CPUS:
        raise SandboxRefusedError(f"phase {phase.name}: Docker gives no less than {_MIN_CPUS} CPUs")
    for handover in phase.handover:
        if "\n" in handover.path:
            raise SandboxRefusedError(f"phase {phase.name}: a line break in a hand-over path")
