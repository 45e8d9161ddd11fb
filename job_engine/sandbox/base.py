"""The slot interface: one-shot environments for one submission each.

A slot is prepared without a submission (`Sandbox.prepare`), started with the submission's
inputs (`Slot.go`), read phase by phase (`Slot.collect`), and destroyed (`Slot.destroy`). If a
backend cannot provide what a phase requests, `prepare` raises `SandboxRefusedError`
(fail-closed).

A slot owns **trees**: small file systems with limits of bytes and inodes. They stay mounted
until the slot is destroyed; a phase sees only those that its `mounts` name. Inputs are tar
streams, which are unpacked into trees by `go`. No path of the host is shared with a sandbox.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import IO, Final

WORKSPACE: Final = "workspace"
"""Name of the tree that holds the submission."""
KEPT_PREFIX: Final = "job-engine-root:"
"""Prefix of the names of kept root file systems, which no other image has."""


def kept_identity(name: str) -> str:
    """Return the identity of a kept root's content; its name is derived from what made it."""
    return f"kept:{name.removeprefix(KEPT_PREFIX)}"


class Verdict(StrEnum):
    """How a phase ended, in one word."""

    OK = "ok"
    """Exit code 0."""
    EXIT = "exit"
    """Exit code other than 0."""
    SIGNAL = "signal"
    """Killed by a signal that no limit explains."""
    WALL_TIME = "wall-time"
    CPU_TIME = "cpu-time"
    MEMORY = "memory"
    PROCESSES = "processes"
    DISK = "disk"
    """A tree is full, in bytes or in inodes."""
    FILE_SIZE = "file-size"
    OUTPUT = "output"
    KILLED = "killed"
    """Killed by the engine: cancelled, drained, or the claim was lost."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one phase. A backend that cannot enforce one of them refuses the phase."""

    cpus: float = 1.0
    """CPU share, in cores."""
    cpu_time_s: float = 30.0
    """CPU time of all the phase's processes together."""
    wall_time_s: float = 60.0
    overrun: float = 0.0
    """Fraction, 0 to 0.5, by which a phase may exceed both times before it is killed. The
    times it took are reported, and the caller decides whether they were too long."""
    memory_bytes: int = 512 * 2**20
    """Memory of all processes together, page cache of trees included; swap is off."""
    processes: int = 128
    """Processes and threads at once."""
    file_size_bytes: int = 64 * 2**20
    """Largest single file (RLIMIT_FSIZE)."""
    output_bytes: int = 1 * 2**20
    """Standard output and standard error together; a phase that writes more is killed."""

    @property
    def wall_time_kill_s(self) -> float:
        """Wall time in seconds after which the phase is killed."""
        return self.wall_time_s * (1.0 + self.overrun)

    @property
    def cpu_time_kill_s(self) -> float:
        """CPU time in seconds after which the phase is killed."""
        return self.cpu_time_s * (1.0 + self.overrun)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A file system of the slot's own, limited in bytes and inodes."""

    name: str
    size_bytes: int = 256 * 2**20
    inodes: int = 16_384


@dataclass(frozen=True, kw_only=True)
class Mount:
    """Where a phase sees a tree."""

    tree: str
    target: str
    """Absolute path inside the sandbox."""
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Reach:
    """A host and port that a phase may talk to, through the egress proxy."""

    host: str
    port: int
    trusted: bool = False
    """Named by the engine (its API) or the operator; only then may the address be private."""


@dataclass(frozen=True, kw_only=True)
class Handover:
    """A directory of a tree whose regular files are read when the phase has ended.

    Only regular files are taken, links are never followed, and what goes over a
    cap is left out and named in `PhaseResult.left_out`.
    """

    tree: str
    path: str = "."
    """Relative to the tree's root."""
    max_bytes: int = 16 * 2**20
    """All files together."""
    max_files: int = 256


@dataclass(frozen=True, kw_only=True)
class Follow:
    """A file of a tree whose growth is reported while the phase runs (`FileGrew`).

    Reports are bounded and best effort; the hand-over has the file's content at the end.
    """

    tree: str
    path: str
    """Relative to the tree's root."""


@dataclass(frozen=True, kw_only=True)
class OwnRoot:
    """The profile `own-root`: root over a writable root file system of the slot's own.

    The phase starts as uid 0. It may switch to other users, change owners and ignore modes. It
    gets no other privilege, and none outside its slot.
    """

    size_bytes: int = 512 * 2**20
    """Bytes that it may write outside its trees."""
    inodes: int = 65_536
    keep_as: str | None = None
    """Keep the root file system under this name (`KEPT_PREFIX` and letters) when the phase
    ends with OK, as an image for later phases; trees are not part of it."""


@dataclass(frozen=True, kw_only=True)
class PhaseSpec:
    """One phase: its command, image, mounts, network access and limits."""

    name: str
    command: tuple[str, ...]
    limits: Limits = Limits()
    mounts: tuple[Mount, ...] = ()
    workdir: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)
    """The environment, beside PATH, HOME, LANG and, with `reach`, the proxy variables."""
    image: str | None = None
    """An image of the phase's own; None: the slot's."""
    reach: tuple[Reach, ...] = ()
    """Where it may connect to, through `http_proxy`/`https_proxy`; empty: nowhere."""
    kvm: bool = False
    """Whether it needs /dev/kvm; refused unless the operator allows it."""
    own_root: OwnRoot | None = None
    """The profile of bundles that expect to be root; refused unless the operator allows it.
    One phase of a slot may have it."""
    handover: tuple[Handover, ...] = ()
    live: bool = False
    """Whether its output is also reported as it is printed (`PhaseOutput`)."""
    follow: Follow | None = None
    always: bool = False
    """Run even though an earlier phase did not end with OK."""
    companion: PhaseSpec | None = None
    """A phase that runs beside this one in a sandbox of its own (limits, processes, network,
    /tmp). It is started before this phase and ended with it; they share only trees that both
    mount. Its result comes after this phase's, and does not stop later phases."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of `go`: everything that is specific to one submission."""

    trees: Mapping[str, IO[bytes]] = field(default_factory=dict)
    """Uncompressed tar streams by tree name; made by the engine, never by a student."""
    stdin: Mapping[str, bytes] = field(default_factory=dict)
    """What a phase reads on standard input, by phase name; at most 64 KiB each."""
    env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Added to a phase's environment, by phase name: variables of this job, which are unknown
    when the slot is prepared."""


@dataclass(frozen=True)
class PhaseStarted:
    """A phase began to run."""

    phase: str


@dataclass(frozen=True)
class PhaseOutput:
    """Output that a live phase has just printed, within its output limit; hostile input."""

    phase: str
    data: bytes
    stderr: bool = False


@dataclass(frozen=True)
class FileGrew:
    """Bytes that a followed file has gained; hostile input.

    Together, in order, they are the content of the file from its start.
    """

    phase: str
    data: bytes


@dataclass(frozen=True, kw_only=True)
class PhaseResult:
    """How a phase ended. Everything that came from inside is hostile input."""

    phase: str
    verdict: Verdict
    exit_code: int | None
    """None when a signal ended it."""
    signal: int | None
    wall_time_s: float
    cpu_time_s: float
    peak_memory_bytes: int
    """0 where the kernel does not report it."""
    stdout: bytes
    stderr: bytes
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Handed-over files, by `<tree>/<path relative to the tree's root>`."""
    left_out: tuple[str, ...] = ()
    """Names of files that went over a cap of the hand-over or were no regular files."""

    @property
    def ok(self) -> bool:
        """True for exit code 0 within all limits."""
        return self.verdict is Verdict.OK


SlotEvent = PhaseStarted | PhaseOutput | FileGrew | PhaseResult


@dataclass(frozen=True)
class Runtime:
    """The platform that phases run on, for receipts."""

    host: str
    kernel: str
    """Release of the host's kernel."""
    version: str
    """Name and version of the software that makes the sandboxes."""


class Slot(ABC):
    """A prepared one-shot environment. `kill` may be called from any thread, at any time."""

    @property
    @abstractmethod
    def images(self) -> Mapping[str, str]:
        """The image that each phase runs in, by phase name: `<kind>:sha256:<hex>` of the content
        that the image's name had when the slot was made."""

    @abstractmethod
    def go(self, inputs: Inputs) -> None:
        """Fill the trees and start the phases, one after another, in the background.

        Raises `SandboxError` when the slot is broken: a fault of the platform.
        """

    @abstractmethod
    def collect(self) -> Iterator[SlotEvent]:
        """Yield the start, live output and result of each phase, as they happen.

        After a phase that is not OK only phases with `always` still run. Raises
        `SandboxError` when the slot breaks.
        """

    @abstractmethod
    def ready(self) -> bool:
        """Return whether it waits for `go`, is intact, and still has current images."""

    @abstractmethod
    def kill(self) -> None:
        """End the running phases within a second, with verdict KILLED. Idempotent."""

    @abstractmethod
    def destroy(self) -> None:
        """Kill, and leave nothing behind: no process, mount, cgroup, container. Idempotent."""


class Sandbox(ABC):
    """A backend: makes slots, and removes those that an interrupted process left behind."""

    name: str
    """`docker` or `bubblewrap`."""
    waiting_bytes: int
    """Bytes of the host's memory that a waiting slot takes for each phase."""

    @abstractmethod
    def runtime(self) -> Runtime:
        """Return what slots run on. Raises `SandboxError` when the backend does not answer."""

    @abstractmethod
    def prepare(
        self,
        *,
        label: str,
        phases: tuple[PhaseSpec, ...],
        trees: tuple[Tree, ...],
        image: str | None = None,
    ) -> Slot:
        """Make a slot; `label` names its owner (the executor) for `sweep`.

        Raises `SandboxRefusedError` when a phase asks for what this backend or its
        operator does not give, `ImageUnavailableError`, or `SandboxError`.
        """

    def expect(  # noqa: B027 - only a pool of warm slots uses it
        self,
        *,
        label: str,
        phases: tuple[PhaseSpec, ...],
        trees: tuple[Tree, ...],
        image: str | None = None,
        due_in_s: float,
    ) -> None:
        """Announce demand for such slots in about `due_in_s` seconds; backends may ignore it."""

    @abstractmethod
    def image_digest(self, image: str | None) -> str:
        """Return a digest of the image's content; None: the default image.

        Raises `ImageUnavailableError`.
        """

    @abstractmethod
    def image_identities(self, image: str | None) -> frozenset[str]:
        """Return the names and digests that may allow this image (setting `allow_images`).

        Where there is such a list, an image that is not named on it by its digest is not fetched.
        Raises `ImageUnavailableError`.
        """

    @abstractmethod
    def kept_bytes(self, name: str) -> int | None:
        """Return the bytes that a kept root (`OwnRoot.keep_as`) takes; None: it is gone."""

    @abstractmethod
    def drop_kept(self, name: str) -> None:
        """Remove a kept root file system, unless a slot uses it. Idempotent."""

    @abstractmethod
    def sweep(self, label: str) -> int:
        """Remove everything that slots with this label left behind; return the number of items."""

    @abstractmethod
    def check(self) -> None:
        """Raise `SandboxRefusedError`, with a remedy, unless the backend is usable here."""

    @abstractmethod
    def close(self) -> None:
        """Destroy every slot of this process and stop helper processes. Idempotent."""
