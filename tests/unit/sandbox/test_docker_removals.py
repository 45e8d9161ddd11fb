"""What is removed while the daemon is away, and what it leaves behind."""

from __future__ import annotations

import threading

from job_engine.errors import SandboxError
from job_engine.sandbox.docker.removals import Removals


class Daemon:
    """Removes things, in their order, while it is there."""

    def __init__(self) -> None:
        self.there = threading.Event()
        self.removed: list[str] = []

    def remove(self, what: str) -> None:
        if not self.there.is_set():
            raise SandboxError("the daemon is away")
        self.removed.append(what)


def test_removals_are_done_at_once_if_possible() -> None:
    daemon, removals = Daemon(), Removals()
    daemon.there.set()
    assert removals.remove(daemon.remove, "container").is_set()
    removals.close()


def test_the_rest_goes_when_the_daemon_is_back_in_its_order() -> None:
    daemon, removals = Daemon(), Removals()
    for _ in range(2):
        gone = [removals.remove(daemon.remove, what) for what in ("container", "volume")]
        assert not any(event.is_set() for event in gone)
        daemon.there.set()
        assert all(event.wait(10) for event in gone)
        assert daemon.removed == ["container", "volume"]
        daemon.there.clear()
        daemon.removed.clear()
    removals.close()


def test_the_end_of_the_sandbox_is_the_last_chance() -> None:
    daemon, removals = Daemon(), Removals()
    late = removals.remove(daemon.remove, "container")
    daemon.there.set()
    removals.close()
    assert late.is_set()
    daemon.there.clear()
    never = removals.remove(daemon.remove, "container")
    removals.close()
    assert not never.is_set()
