"""The small ZooKeeper against a real one: the same requests, the same answers."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.protocol.states import WatchedEvent

from job_engine.queue.multiread import Reading
from tests.contract.protocol.small_client import Net, SmallClient
from tests.contract.protocol.small_zookeeper import SmallZooKeeper
from tests.support.engine import eventually

CLIENTS = 2
PATHS = ["/q/a", "/q/b", "/q/a/c", "/q", "/none/d"]

STEPS = 150


def _steps(random: Random) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Who asks what."""
    for _ in range(STEPS):
        yield random.randrange(CLIENTS), _step(random)


def _step(random: Random) -> tuple[Any, ...]:
    kind = random.choice(["write"] * 4 + ["transaction"] * 3 + ["read"] * 4 + ["many", "end"])
    match kind:
        case "write":
            return _write(random)
        case "transaction":
            return "transaction", [_write(random) for _ in range(random.randint(1, 3))]
        case "read":
            what = random.choice(["exists", "get", "children"])
            return what, random.choice(PATHS), random.random() < 0.5
        case "many":
            return "read many", random.choices(PATHS, k=random.randint(1, 3))
    return ("end session",)


def _write(random: Random) -> tuple[Any, ...]:
    what, path = random.choice(["create", "create", "delete", "check", "set"]), random.choice(PATHS)
    match what:
        case "create":
            return what, path, random.random() < 0.5, random.random() < 0.3
        case "set":
            return what, path, random.choice([-1, -1, 0, 1])
    return what, path


class Side:
    """One of the two, asked by clients of its own, and what it said."""

    def __init__(self, connect: Callable[[], KazooClient], end: Callable[[KazooClient], None]):
        self._connect = connect
        self._end = end
        self._clients = [connect() for _ in range(CLIENTS)]
        self._sessions = {client.client_id[0]: n for n, client in enumerate(self._clients)}
        self.said: list[object] = []
        self.seen: list[str] = []
        """What watches were told."""
        self._clients[0].create("/q", b"")

    def close(self) -> None:
        for client in self._clients:
            self._end(client)

    def ask(self, n: int, what: tuple[Any, ...]) -> None:
        """Ask one thing as one client, and note the answer."""
        try:
            answer = self._do(n, self._clients[n], *what)
        except KazooException as error:
            answer = type(error).__name__
        self.said.append(self._plain(answer))

    def _do(self, n: int, client: KazooClient, what: str, *args: Any) -> object:
        match what:
            case "transaction":
                return self._transaction(client, *args)
            case "create":
                where, ephemeral, sequence = args
                return client.create(where, b"x", ephemeral=ephemeral, sequence=sequence)
            case "delete":
                return client.delete(args[0])
            case "check":
                return self._transaction(client, [("check", args[0])])
            case "set":
                return client.set(args[0], b"y", version=args[1])
            case "exists":
                return client.exists(args[0], watch=self._watch(args))
            case "get":
                return client.get(args[0], watch=self._watch(args))
            case "children":
                return sorted(client.get_children(args[0], watch=self._watch(args)))
            case "read many":
                return Reading(client, args[0]).nodes()
        self._end(client)
        self._clients[n] = self._connect()
        self._sessions[self._clients[n].client_id[0]] = len(self._sessions)
        return None

    def _transaction(self, client: KazooClient, operations: list[tuple[Any, ...]]) -> object:
        transaction = client.transaction()
        for what, where, *more in operations:
            match what:
                case "create":
                    transaction.create(where, b"x", ephemeral=more[0], sequence=more[1])
                case "delete":
                    transaction.delete(where)
                case "check":
                    transaction.check(where, -1)
                case "set":
                    transaction.set_data(where, b"y", more[0])
        return transaction.commit()

    def _watch(self, args: tuple[Any, ...]) -> Callable[[WatchedEvent], None] | None:
        def seen(event: WatchedEvent) -> None:
            if event.type != "NONE":
                self.seen.append(f"{event.type} {event.path}")

        return seen if args[1] else None

    def _plain(self, answer: Any) -> object:
        """Without what differs by nature: times, session ids, the numbers of transactions."""
        if isinstance(answer, Exception):
            return type(answer).__name__
        if hasattr(answer, "czxid"):
            owner = self._sessions.get(answer.ephemeralOwner)
            return answer.version, answer.cversion, owner, answer.numChildren, answer.dataLength
        if isinstance(answer, list | tuple):
            return [self._plain(one) for one in answer]
        return answer

    def order(self) -> list[list[str]]:
        """Nodes by the transaction that made them: what was made together stands together."""
        by_czxid: dict[int, list[str]] = {}
        for parent in ("/q", "/q/a", "/q/b"):
            if self._clients[0].exists(parent) is not None:
                for name in self._clients[0].get_children(parent):
                    stat = self._clients[0].exists(f"{parent}/{name}")
                    by_czxid.setdefault(stat.czxid, []).append(f"{parent}/{name}")
        return [sorted(by_czxid[czxid]) for czxid in sorted(by_czxid)]


def _small() -> Side:
    zk = SmallZooKeeper()

    def end(client: KazooClient) -> None:
        zk.expire(client.client_id[0])

    return Side(lambda: SmallClient(zk, Net()), end)


def _real(hosts: str) -> Side:
    chroot = f"/{uuid.uuid4().hex}"
    maker = KazooClient(hosts)
    maker.start()
    maker.create(chroot)
    _end(maker)

    def connect() -> KazooClient:
        client = KazooClient(hosts + chroot)
        client.start()
        return client

    return Side(connect, _end)


def _end(client: KazooClient) -> None:
    client.stop()
    client.close()


@pytest.mark.parametrize("seed", range(4))
def test_the_small_zookeeper_answers_as_a_real_one_does(zk_hosts: str, seed: int) -> None:
    small, real = _small(), _real(zk_hosts)
    try:
        for n, what in _steps(Random(seed)):
            small.ask(n, what)
            real.ask(n, what)
            assert real.said[-1] == small.said[-1], what
            assert real.order() == small.order(), what
        # The watch events are on their way.
        assert eventually(lambda: Counter(real.seen) == Counter(small.seen), 5)
    finally:
        small.close()
        real.close()
