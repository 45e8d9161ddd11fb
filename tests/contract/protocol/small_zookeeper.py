"""A ZooKeeper in memory: one server that answers kazoo's own requests, one at a time.

It does what the engine asks of a ZooKeeper (nodes, ephemerals, sequences, transactions,
watches, several reads at once) as a real one does; `test_faithful.py` holds the two
against each other. And it does what no test could order from a real one: sessions end
and everything is lost exactly when a test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.protocol.serialization import (
    CheckVersion,
    Create,
    Delete,
    Exists,
    GetChildren,
    GetData,
    MultiHeader,
    SetData,
    Sync,
    Transaction,
    int_struct,
    stat_struct,
    write_buffer,
)
from kazoo.protocol.states import EventType, ZnodeStat

from job_engine.queue import layout
from tests.contract.protocol.watches import Change, Node, Watched, disconnect, fire, is_child

EPHEMERAL: Final = 1
SEQUENCE: Final = 2
MULTI_READ: Final = 22
"""ZooKeeper's `multiRead`, which kazoo has no class for."""

Nodes = dict[str, Node]


@dataclass
class SmallZooKeeper:
    """A wipe loses all that is here, and starts to count from 0."""

    nodes: Nodes = field(default_factory=lambda: {"/": Node(b"")})
    zxid: int = 0
    sessions: dict[int, list[Watched]] = field(default_factory=dict)
    """Live sessions, and their watches: (path, what for, callback); None: for children."""
    observers: list[Callable[[Sequence[Change]], None]] = field(default_factory=list)
    drawn: int = 0
    """Sessions so far; their ids come from the clock and outlive a wipe."""

    # --- sessions -------------------------------------------------------------

    def connect(self) -> int:
        """Open a session."""
        self.drawn += 1
        self.sessions[self.drawn] = []
        return self.drawn

    def expire(self, session: int) -> None:
        """End a session: its ephemerals go, and its watches with its connection."""
        watches = self.sessions.pop(session, None)
        if watches is None:
            return
        self.zxid += 1
        kept = {path: node for path, node in self.nodes.items() if node.owner != session}
        self._become(kept, by=None)
        disconnect(watches)

    def drop(self, session: int) -> None:
        """Break a connection whose session goes on: its watches are gone."""
        watches, self.sessions[session] = self.sessions[session], []
        disconnect(watches)

    def wipe(self) -> None:
        """Lose everything, as when the data directory is gone."""
        watches = [watch for of_session in self.sessions.values() for watch in of_session]
        self.nodes, self.sessions, self.zxid = {"/": Node(b"")}, {}, 0
        disconnect(watches)

    # --- requests -------------------------------------------------------------

    def answer(self, session: int, request: Any) -> Any:
        """Answer one of kazoo's requests as kazoo would read the reply."""
        if isinstance(request, Transaction):
            return self._transaction(session, request.operations)
        if request.type in (Create.type, Delete.type, SetData.type):
            self.zxid += 1
            nodes = dict(self.nodes)
            result = self._write(nodes, session, request)
            self._become(nodes, by=session)
            return result
        if request.type == MULTI_READ:
            return request.deserialize(self._read_all(request.paths), 0)
        return self._read(session, request)

    def _transaction(self, session: int, operations: Sequence[Any]) -> list[Any]:
        self.zxid += 1
        nodes = dict(self.nodes)
        results: list[Any] = []
        for operation in operations:
            try:
                results.append(self._write(nodes, session, operation))
            except KazooException as error:
                after = len(operations) - len(results) - 1
                undone = [RolledBackError() for _ in results]
                return [*undone, error, *(RuntimeInconsistency() for _ in range(after))]
        self._become(nodes, by=session)
        return results

    def _write(self, nodes: Nodes, session: int, request: Any) -> Any:
        match request:
            case Create():
                return self._create(nodes, session, request)
            case Delete(path, version):
                _checked(nodes, path, version)
                if _children(nodes, path):
                    raise NotEmptyError
                del nodes[path]
                return True
            case SetData(path, data, version):
                node = _checked(nodes, path, version)
                nodes[path] = replace(node, data=data, mzxid=self.zxid, version=node.version + 1)
                return _stat(nodes, path)
            case CheckVersion(path, version):
                _checked(nodes, path, version)
                return True
        raise NotImplementedError(request)

    def _create(self, nodes: Nodes, session: int, request: Create) -> str:
        path: str = request.path
        parent = path.rpartition("/")[0] or "/"
        if parent not in nodes:
            raise NoNodeError
        above = nodes[parent]
        if above.owner:
            raise NoChildrenForEphemeralsError
        if request.flags & SEQUENCE:
            path += f"{above.births:010d}"
        if path in nodes:
            raise NodeExistsError
        owner = session if request.flags & EPHEMERAL else 0
        nodes[path] = Node(request.data, owner, self.zxid, self.zxid)
        nodes[parent] = replace(above, births=above.births + 1)
        return path

    def _read_all(self, paths: Sequence[str]) -> bytes:
        """What goes over the wire: the engine has a reader of its own for it."""
        reply = b""
        for path in paths:
            if path in self.nodes:
                reply += MultiHeader(GetData.type, False, 0).serialize()
                reply += write_buffer(self.nodes[path].data)
                reply += stat_struct.pack(*_stat(self.nodes, path))
            else:
                reply += MultiHeader(-1, False, NoNodeError.code).serialize()
                reply += int_struct.pack(NoNodeError.code)
        return reply + bytes(MultiHeader(-1, True, -1).serialize())

    def _read(self, session: int, request: Any) -> Any:
        watch = getattr(request, "watcher", None)
        path = request.path
        if isinstance(request, Sync):
            return path
        if isinstance(request, Exists):
            if watch:
                kind = EventType.DELETED if path in self.nodes else EventType.CREATED
                self.sessions[session].append((path, kind, watch))
            return _stat(self.nodes, path) if path in self.nodes else None
        if path not in self.nodes:
            raise NoNodeError
        if isinstance(request, GetData):
            if watch:
                self.sessions[session].append((path, EventType.DELETED, watch))
            return self.nodes[path].data, _stat(self.nodes, path)
        if isinstance(request, GetChildren):
            if watch:
                self.sessions[session].append((path, None, watch))
            return _children(self.nodes, path)
        raise NotImplementedError(request)

    # --- changes --------------------------------------------------------------

    def _become(self, nodes: Nodes, by: int | None) -> None:
        before, self.nodes = self.nodes, nodes
        changes = [
            Change(path, before.get(path), nodes.get(path), by)
            for path in sorted({*before, *nodes})
            if before.get(path) != nodes.get(path)
        ]
        for observer in self.observers:
            observer(changes)
        for watches in list(self.sessions.values()):
            fire(watches, changes)

    # --- what is in the queue -------------------------------------------------

    @property
    def entries(self) -> dict[str, str]:
        """The job that each entry carries."""
        return {name: node.data.decode() for name, node in self._below("/job/entries")}

    @property
    def taken(self) -> dict[str, Node]:
        """The claims, by their entry."""
        return dict(self._below("/job/taken"))

    @property
    def incarnation(self) -> int | None:
        """What a leader wrote, if one did."""
        node = self.nodes.get(layout.INCARNATION)
        return None if node is None else int(node.data)

    def _below(self, parent: str) -> list[tuple[str, Node]]:
        names = _children(self.nodes, parent)
        return [(name, self.nodes[f"{parent}/{name}"]) for name in names]


def _children(nodes: Nodes, path: str) -> list[str]:
    prefix = path.rstrip("/") + "/"
    return sorted(p[len(prefix) :] for p in nodes if is_child(p, prefix))


def _checked(nodes: Nodes, path: str, version: int) -> Node:
    if path not in nodes:
        raise NoNodeError
    if version not in (-1, nodes[path].version):
        raise BadVersionError
    return nodes[path]


def _stat(nodes: Nodes, path: str) -> ZnodeStat:
    node = nodes[path]
    children = len(_children(nodes, path))
    return ZnodeStat(
        czxid=node.czxid,
        mzxid=node.mzxid,
        ctime=0,
        mtime=0,
        version=node.version,
        cversion=2 * node.births - children,
        aversion=0,
        ephemeralOwner=node.owner,
        dataLength=len(node.data),
        numChildren=children,
        pzxid=0,
    )


def take(zk: SmallZooKeeper, session: int, entry: str) -> None:
    """Claim an entry as a foreign consumer does."""
    zk.answer(session, Create(f"/job/taken/{entry}", b"foreign", [], EPHEMERAL))


def push(zk: SmallZooKeeper, session: int, job: str, priority: int = 999) -> str:
    """Push as a foreign producer does, and return the entry's name."""
    prefix = f"/job/entries/entry-{priority:03d}-"
    path = zk.answer(session, Create(prefix, job.encode(), [], SEQUENCE))
    return str(path).rpartition("/")[2]
