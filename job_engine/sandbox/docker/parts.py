"""The parts of a slot in the daemon: volumes, their holder, and a container for each phase."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Executor, wait
from dataclasses import replace

from job_engine.sandbox.base import PhaseSpec, Tree
from job_engine.sandbox.docker import confine
from job_engine.sandbox.docker.confine import TMP_BYTES, TMP_INODES, Place, Volume, tmp_tree
from job_engine.sandbox.docker.daemon import Daemon
from job_engine.sandbox.docker.holder import SCRIPT, Holder
from job_engine.sandbox.docker.images import Image
from job_engine.sandbox.docker.phase import WAIT_SCRIPT, PhaseContainer
from job_engine.sandbox.docker.removals import Removals
from job_engine.sandbox.policy import with_companions


class SlotParts:
    """Makes the parts by `hold`, `add_containers` and `arm`, in this order, and removes them.

    Methods raise `SandboxError`, except `remove`, which repeats what fails.
    """

    def __init__(
        self,
        *,
        daemon: Daemon,
        place: Place,
        phases: tuple[PhaseSpec, ...],
        trees: tuple[Tree, ...],
        images: Mapping[str, Image],
        holder_image: Image,
        background: Executor,
        removals: Removals,
        timeout_s: float,
    ) -> None:
        """Take what it is made of; `images` by phase and companion, `timeout_s` the holder's."""
        self.place = place
        self.phases = phases
        self.trees = trees
        self.images = images
        self.holder: Holder | None = None
        self.containers: dict[str, PhaseContainer] = {}
        """By phase; any of them may exist in the daemon."""
        self._daemon = daemon
        self._holder_image = holder_image
        self._background = background
        self._removals = removals
        self._timeout_s = timeout_s
        self._holder_made = False
        """Whether it may exist: a request without an answer may have been carried out."""
        self._volumes: list[str] = []

    def hold(self) -> None:
        """Make the volumes, and start their holder."""
        volumes = [
            self._make_volume(tree.name, tree.size_bytes, tree.inodes) for tree in self.trees
        ]
        for spec in with_companions(self.phases):
            volumes.append(self._make_volume(tmp_tree(spec), TMP_BYTES, TMP_INODES))
        holder = self._start_holder(volumes)
        pid = int(self._daemon.inspect(holder)["State"]["Pid"])
        self.place = replace(self.place, holder=holder, holder_pid=pid)

    def add_containers(self) -> None:
        """Name the containers of phases and companions; nothing of them is made yet."""
        # A companion runs at the same time as its phase, so it has a network of its own.
        alone = replace(self.place, holder=None)
        found = {phase.name: self._container(phase, self.place) for phase in self.phases}
        beside = [phase.companion for phase in self.phases if phase.companion is not None]
        self.containers = found | {spec.name: self._container(spec, alone) for spec in beside}

    def arm(self) -> None:
        """Start the containers, which then wait for their go."""
        specs = with_companions(self.phases)
        early = [self.containers[spec.name] for spec in specs if not _nested(spec)]
        # In parallel: most of the time is spent waiting for the kernel.
        arming = [self._background.submit(container.arm) for container in early]
        wait(arming)
        for armed in arming:
            armed.result()

    def silent(self) -> bool:
        """Return whether all waiting containers are intact, and have printed nothing."""
        armed = [container for container in self.containers.values() if container.armed]
        holding = self.holder is not None and self.holder.silent()
        return holding and all(container.ready() for container in armed)

    def keep_root(self, phase: PhaseSpec, name: str) -> None:
        """Keep what a phase made of its root as an image of this name."""
        self._daemon.commit(self.containers[phase.name].name, name)

    def remove(self, patience_s: float) -> None:
        """Remove containers, then volumes; wait so long for those that do not go at once."""
        if self.holder is not None:
            self.holder.close()
        names = [self._name("holder")] if self._holder_made else []
        for container in self.containers.values():
            container.close()
            names.append(container.name)
        gone = list(self._background.map(self._remove_container, names))
        gone += [self._removals.remove(self._daemon.remove_volume, v) for v in self._volumes]
        until = time.monotonic() + patience_s
        for event in gone:
            event.wait(max(0.0, until - time.monotonic()))

    def _remove_container(self, name: str) -> threading.Event:
        # By its name: it may exist although the answer with its id was lost.
        return self._removals.remove(self._daemon.remove, name)

    def _start_holder(self, volumes: list[Volume]) -> str:
        config = confine.holder_container(
            self._holder_image,
            self.place,
            SCRIPT,
            volumes,
            bytes_held=sum(tree.size_bytes for tree in self.trees),
            inodes=sum(tree.inodes for tree in self.trees),
            of_root=any(phase.own_root is not None for phase in self.phases),
        )
        self._holder_made = True
        holder = self._daemon.create(self._name("holder"), config)
        self.holder = Holder(self._daemon.attach(holder, stdin=True), self._timeout_s)
        self._daemon.start(holder)
        return holder

    def _container(self, phase: PhaseSpec, place: Place) -> PhaseContainer:
        config = confine.phase_container(
            phase,
            self.images[phase.name],
            place,
            self._phase_volumes(phase),
            cores=int(self._daemon.info["NCPU"]),
            wait_script=WAIT_SCRIPT,
        )
        own = phase.own_root
        root_bytes = own.size_bytes if own is not None else None
        name = self._name(phase.name)
        return PhaseContainer(self._daemon, name, config, phase.limits, root_bytes)

    def _phase_volumes(self, phase: PhaseSpec) -> list[Volume]:
        volumes = [
            Volume(name=self._name(mount.tree), target=mount.target, read_only=mount.read_only)
            for mount in phase.mounts
        ]
        if phase.own_root is None and all(volume.target != "/tmp" for volume in volumes):
            volumes.append(Volume(name=self._name(tmp_tree(phase)), target="/tmp"))
        return volumes

    def _make_volume(self, tree: str, size_bytes: int, inodes: int) -> Volume:
        volume = Volume(name=self._name(tree), target=f"/trees/{tree}")
        self._volumes.append(volume.name)
        options = confine.tree_options(size_bytes, inodes, self.place.uid)
        self._daemon.create_volume(volume.name, options, self.place.labels)
        return volume

    def _name(self, part: str) -> str:
        return f"job-engine-{self.place.slot}-{part}"


def _nested(phase: PhaseSpec) -> bool:
    """Whether a tree is shown inside another, where Docker makes a place for it at the start."""
    targets = [mount.target for mount in phase.mounts]
    return any(inner.startswith(f"{outer.rstrip('/')}/") for outer in targets for inner in targets)
