"""A ZooKeeper of two folders: what the protocol needs of one, and what can happen to it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """A claim node: whose it is, and the transaction that made it."""

    session: int
    czxid: int


@dataclass
class SmallZooKeeper:
    """Entries, claims and sessions; a wipe loses all of it, and starts to count from 0."""

    entries: dict[str, str] = field(default_factory=dict)
    taken: dict[str, Node] = field(default_factory=dict)
    guards: set[str] = field(default_factory=set)
    """Election nodes."""
    incarnation: int | None = None
    zxid: int = 0
    sequence: int = 0
    sessions: set[int] = field(default_factory=set)
    drawn: int = 0
    """Sessions so far; their ids come from the clock and outlive a wipe."""

    def connect(self) -> int:
        """Open a session."""
        self.drawn += 1
        self.sessions.add(self.drawn)
        return self.drawn

    def expire(self, session: int) -> None:
        """End a session and its claims."""
        self.sessions.discard(session)
        self.taken = {name: n for name, n in self.taken.items() if n.session != session}

    def wipe(self) -> None:
        """Lose everything, as when the data directory is gone."""
        self.entries, self.taken = {}, {}
        self.guards, self.sessions = set(), set()
        self.incarnation = None
        self.zxid = self.sequence = 0

    def push(self, job: str, priority: int = 999) -> str:
        """Add an entry, and return its name."""
        name = f"entry-{priority:03d}-{self.sequence:010d}"
        self.sequence += 1
        self.zxid += 1
        self.entries[name] = job
        return name

    def take(self, session: int, name: str) -> Node | None:
        """Claim an entry: it exists, nobody has it, and the session lives."""
        if session not in self.sessions or name not in self.entries or name in self.taken:
            return None
        self.zxid += 1
        self.taken[name] = Node(session, self.zxid)
        return self.taken[name]

    def consume(self, session: int, name: str) -> None:
        """Delete entry and claim together."""
        if session in self.sessions and name in self.entries and name in self.taken:
            del self.entries[name], self.taken[name]

    def release(self, session: int, name: str, czxid: int) -> None:
        """Delete a claim that is still the one that was made."""
        node = self.taken.get(name)
        if session in self.sessions and node is not None and node.czxid == czxid:
            del self.taken[name]
