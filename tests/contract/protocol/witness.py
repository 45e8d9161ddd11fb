"""What may change in ZooKeeper, by whom; each change is held against the book."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from job_engine.queue import layout
from tests.contract.protocol.book import Book
from tests.contract.protocol.small_zookeeper import SmallZooKeeper
from tests.contract.protocol.watches import Change

ENTRIES: Final = "/job/entries/"
TAKEN: Final = "/job/taken/"


class Witness:
    """Sees every transaction. `foreign` are the sessions of foreign producers and consumers."""

    def __init__(self, zk: SmallZooKeeper, book: Callable[[], Book]) -> None:
        self.zk = zk
        self._book = book
        self.foreign: set[int] = set()
        zk.observers.append(self)

    def __call__(self, changes: Sequence[Change]) -> None:
        """Look at what one transaction changed."""
        released = {c.path[len(TAKEN) :] for c in changes if _deleted(c, TAKEN)}
        for change in changes:
            if change.path.startswith(TAKEN):
                self._claim(change)
            elif _deleted(change, ENTRIES):
                self._consumed(change, released)
            elif change.path.startswith(ENTRIES) and change.before is None:
                self._pushed(change)

    def _claim(self, change: Change) -> None:
        if change.before is None:
            name = change.path[len(TAKEN) :]
            there = change.by in self.foreign or f"{ENTRIES}{name}" in self.zk.nodes
            self._book().check(there, "session-bound", f"{change} of no entry")
            self._book().claimed.add(name)
        elif change.by is not None:
            own = change.before.owner == change.by
            self._book().check(own, "session-bound", f"{change} of another's claim")

    def _pushed(self, change: Change) -> None:
        assert change.after is not None
        assert change.by is not None
        book, job = self._book(), change.after.data.decode()
        if change.by in self.foreign:
            return
        book.check(job in book.ever, "stored-first", f"{job} was pushed and not stored")
        known = book.jobs.get(job)
        if known is None:
            return
        leads = self._leader(known.action) == change.by
        book.check(leads, "leader-fenced", f"{change} by {change.by}")
        book.check(known.pushes_due > 0, "bounded-window", f"{known} was pushed once more")
        book.jobs[job] = replace(known, pushes_due=known.pushes_due - 1)

    def _consumed(self, change: Change, released: set[str]) -> None:
        assert change.before is not None
        book, name = self._book(), change.path[len(ENTRIES) :]
        if change.by not in self.foreign:
            # With its claim, by who holds it; or unclaimed, by a leader.
            held = name in released
            waiting = name not in self.zk.taken and self._leads(change.by)
            book.check(held or waiting, "session-bound", f"{change} without its claim")
        known = book.jobs.get(change.before.data.decode())
        lost = known is not None and not known.state.is_final and known.entry == name
        foreign = known is not None and known.runs_abroad
        sure = name not in book.unsure and not foreign
        book.check(not (lost and sure), "no-silent-loss", f"{name} consumed, and {known}")

    def held_abroad(self) -> set[str]:
        """Jobs of which a foreign consumer holds an entry."""
        entries = self.zk.entries
        held = [name for name, node in self.zk.taken.items() if node.owner in self.foreign]
        return {entries[name] for name in held if name in entries}

    def _leads(self, session: int | None) -> bool:
        elections = [p for p in self.zk.nodes if p.startswith(layout.ELECTION + "/")]
        return any(self.zk.nodes[path].owner == session for path in elections)

    def _leader(self, action: str) -> int | None:
        """Whose node is the first in an election."""
        prefix = layout.election(action) + "/"
        nodes = [(path[-10:], n.owner) for path, n in self.zk.nodes.items() if prefix in path]
        return min(nodes)[1] if nodes else None


def _deleted(change: Change, below: str) -> bool:
    return change.path.startswith(below) and change.after is None
