"""What the driver did, and when: the only account of the faults that the checker takes."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Fault:
    """One fault, from its injection to the moment it was undone (monotonic seconds)."""

    kind: str
    target: str
    """A process of the engine, or `ensemble`."""
    began_at: float
    ended_at: float
    """Infinite while it lasts; when it began, for one that needs no undoing."""
    detail: str = ""


@dataclass(frozen=True)
class Restore:
    """The store was put back to an older copy."""

    copy_began_at: float
    copy_ended_at: float
    down_at: float
    """When the API that knew more was killed."""
    up_at: float
    """When the API that knows less was started."""


@dataclass(frozen=True)
class Start:
    """A process of the engine was started."""

    name: str
    pid: int
    at: float


@dataclass(frozen=True)
class Death:
    """A process of the engine ended, and the driver had no hand in it."""

    name: str
    pid: int
    at: float
    code: int


class Journal:
    """Faults, restores and starts, kept in memory and in a file for people to read."""

    def __init__(self, file: Path) -> None:
        self.began_at = time.monotonic()
        self.faults: list[Fault] = []
        self.restores: list[Restore] = []
        self.starts: list[Start] = []
        self.deaths: list[Death] = []
        self._file = file
        self._lock = threading.Lock()

    def begin(self, kind: str, target: str, detail: str = "") -> Fault:
        """Note a fault, just before it is injected."""
        fault = Fault(kind, target, time.monotonic(), float("inf"), detail)
        self.faults.append(fault)
        self.note("fault", kind=kind, target=target, detail=detail)
        return fault

    def end(self, fault: Fault) -> None:
        """Note that it was undone, just after."""
        fault.ended_at = time.monotonic()
        self.note("undone", kind=fault.kind, target=fault.target, detail=fault.detail)

    def withdraw(self, fault: Fault) -> None:
        """Note that it turned out not to be possible."""
        self.faults.remove(fault)
        self.note("withdrawn", kind=fault.kind, target=fault.target)

    def started(self, name: str, pid: int) -> None:
        """Note the start of a process."""
        start = Start(name, pid, time.monotonic())
        self.starts.append(start)
        self.note("start", **asdict(start))

    def died(self, name: str, pid: int, code: int) -> None:
        """Note the end of a process that nobody killed."""
        death = Death(name, pid, time.monotonic(), code)
        self.deaths.append(death)
        self.note("death", **asdict(death))

    def restored(self, restore: Restore) -> None:
        """Note that the store was put back."""
        self.restores.append(restore)
        self.note("restore", **asdict(restore))

    def note(self, event: str, **fields: object) -> None:
        """Write a line into the file, with seconds since the run began."""
        at = round(time.monotonic() - self.began_at, 3)
        with self._lock, self._file.open("a") as sink:
            sink.write(json.dumps({"t": at, "event": event, **fields}) + "\n")
