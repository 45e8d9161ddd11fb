"""The kinds of faults: how each is injected, how it is undone, and what else it excludes."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import psutil

from tests.faults.bed import operators
from tests.faults.bed.clocks import has_compiler
from tests.faults.bed.docker import has_docker
from tests.faults.bed.ensemble import QUORUM
from tests.faults.bed.plan import Draw, Plan, done
from tests.faults.bed.proxy import GOOD, Conduct, Direction, Link
from tests.faults.bed.world import API, World
from tests.support.engine import SESSION_TIMEOUT_S

STOPPED_S: Final = (1.25 * SESSION_TIMEOUT_S, 1.75 * SESSION_TIMEOUT_S)
"""Longer than the session lasts; less than two of them, so that a sandbox that goes on
beside its stopped executor runs beside its successor for less than one."""

WRONG_S: Final = (60.0, 6 * 3600.0)
"""How wrong a clock may be. By more than a day, and the API would rightly forget the keys
by which a create that is sent again makes one job."""

BOTH: Final = frozenset(Direction)


def _kill(names: Callable[[World], Sequence[str]], world: World, rng: random.Random) -> Plan | None:
    name = rng.choice(names(world))
    return Plan(
        name,
        frozenset({f"process {name}"}),
        rng.uniform(0.1, 3.0),
        done(lambda: world.kill_one(name)),
        lambda: world.start_one(name),
    )


def _pause(
    names: Callable[[World], Sequence[str]], world: World, rng: random.Random
) -> Plan | None:
    possible = names(world)
    if not possible:
        return None
    name = rng.choice(possible)
    return Plan(
        name,
        frozenset({f"process {name}"}),
        rng.uniform(*STOPPED_S),
        done(lambda: world.signal(name, signal.SIGSTOP)),
        lambda: world.signal(name, signal.SIGCONT),
    )


def _link_plan(
    world: World, name: str, peer: str, link: Link, hold_s: float, conduct: Conduct
) -> Plan:
    ways = "+".join(sorted(conduct.blocked)) or "replies"
    return Plan(
        name,
        frozenset({f"link {name} {peer}"}),
        hold_s,
        done(lambda: world.conduct(link, conduct)),
        lambda: world.conduct(link, GOOD),
        f"{peer} {ways}{' late' if conduct.late else ''}",
    )


def _cut(
    peer: str, blocked: Sequence[frozenset[Direction]], world: World, rng: random.Random
) -> Plan:
    name = rng.choice(world.services)
    link = (world.zk_links if peer == "zookeeper" else world.api_links)[name]
    conduct = Conduct(rng.choice(blocked), late=rng.random() < 0.5)
    return _link_plan(world, name, peer, link, rng.uniform(1.0, 12.0), conduct)


def _lose_replies(peer: str, world: World, rng: random.Random) -> Plan:
    names = world.services if peer == "zookeeper" else list(world.api_links)
    name = rng.choice(names)
    link = (world.zk_links if peer == "zookeeper" else world.api_links)[name]
    hold_s = rng.uniform(0.3, 3.0)
    return _link_plan(world, name, peer, link, hold_s, Conduct(loses_replies=True))


def _kill_zk_leader(world: World, rng: random.Random) -> Plan:
    def inject() -> bool:
        leader = world.ensemble.leader()
        if leader is None:
            return False
        leader.kill()
        return True

    return Plan(
        "ensemble",
        frozenset({"ensemble"}),
        rng.uniform(0.5, 4.0),
        inject,
        world.ensemble.start,
    )


def _lose_quorum(world: World, rng: random.Random) -> Plan:
    victims = rng.sample(world.ensemble.servers, QUORUM)

    def inject() -> bool:
        for server in victims:
            server.kill()
        return True

    return Plan(
        "ensemble",
        frozenset({"ensemble"}),
        rng.uniform(1.0, 8.0),
        inject,
        world.ensemble.start,
    )


def _wipe(world: World, rng: random.Random) -> Plan:
    return Plan(
        "ensemble",
        frozenset({"ensemble"}),
        rng.uniform(0.0, 3.0),
        done(world.ensemble.wipe),
        world.ensemble.start,
    )


def _restore(world: World, rng: random.Random) -> Plan:
    def copy() -> bool:
        world.copy_store()
        return True

    return Plan(
        API,
        frozenset({f"process {API}", "copy"}),
        rng.uniform(0.5, 8.0),
        copy,
        world.restore_store,
    )


def _fill_disk(world: World, rng: random.Random) -> Plan:
    name = rng.choice(world.executors)
    inodes = rng.random() < 0.5
    return Plan(
        name,
        frozenset({f"disk {name}"}),
        rng.uniform(1.0, 8.0),
        done(lambda: world.fill_disk(name, inodes=inodes)),
        lambda: world.free_disk(name),
        "inodes" if inodes else "bytes",
    )


def _kill_sandbox(
    processes: Callable[[World, str], list[psutil.Process]], world: World, rng: random.Random
) -> Plan | None:
    possible = [name for name in world.executors if world.runs(name) and processes(world, name)]
    if not possible:
        return None
    name = rng.choice(possible)

    def inject() -> bool:
        victims = processes(world, name)
        for victim in victims:
            victim.kill()
        return bool(victims)

    # Its children can only be told apart while it lives.
    return Plan(name, frozenset({f"process {name}"}), 0.0, inject)


def _set_clock(world: World, rng: random.Random) -> Plan:
    """Put the wall clock of a process forward or back, and right again while it runs."""
    name = rng.choice([API, *world.services])
    offset_s = rng.choice([-1, 1]) * round(rng.uniform(*WRONG_S))
    return Plan(
        name,
        frozenset({f"clock {name}"}),
        rng.uniform(1.0, 12.0),
        done(lambda: world.clocks.set(name, offset_s)),
        lambda: world.clocks.set(name, 0),
        f"{offset_s:+} s",
    )


def _restart_docker(world: World, rng: random.Random) -> Plan | None:
    docker = world.docker
    if docker is None or not docker.busy():
        return None
    act, how = rng.choice([(docker.kill, "kill -9"), (docker.terminate, "SIGTERM")])
    (name,) = world.in_docker
    hold_s = rng.uniform(0.1, 2.0)
    return Plan(name, frozenset({"docker"}), hold_s, done(act), docker.launch, how)


KINDS: Final[dict[str, Draw]] = {
    "kill-api": partial(_kill, lambda _: [API]),
    "kill-distributor": partial(_kill, lambda world: world.distributors),
    "kill-executor": partial(_kill, lambda world: world.executors),
    "pause-executor": partial(_pause, lambda world: world.executors),
    "pause-leader": partial(_pause, World.leading),
    "kill-zookeeper-leader": _kill_zk_leader,
    "lose-quorum": _lose_quorum,
    "wipe-zookeeper": _wipe,
    "cut-zookeeper": partial(_cut, "zookeeper", [BOTH]),
    "cut-zookeeper-one-way": partial(
        _cut, "zookeeper", [frozenset({Direction.UP}), frozenset({Direction.DOWN})]
    ),
    "cut-api": partial(_cut, "api", [BOTH]),
    "cut-api-one-way": partial(
        _cut, "api", [frozenset({Direction.UP}), frozenset({Direction.DOWN})]
    ),
    "lose-zookeeper-replies": partial(_lose_replies, "zookeeper"),
    "lose-api-replies": partial(_lose_replies, "api"),
    "restore-store": _restore,
    "kill-zygote": partial(_kill_sandbox, World.zygotes),
    "kill-holders": partial(_kill_sandbox, World.holders),
    "restart-docker": _restart_docker,
    "fill-disk": _fill_disk,
    "set-clock": _set_clock,
    # Not `pause-`, which says that whatever the target ran stood still as well.
    "freeze-api": partial(_pause, lambda _: [API]),
    "restart": operators.restart,
    "end-container": operators.end_container,
    "tidy-scratch": operators.tidy_scratch,
    "tamper-with-queue": operators.tamper_with_queue,
}
"""Every kind, by the name that journals and reports say."""


def possible_kinds() -> tuple[str, ...]:
    """Those for which everything is there; some need a Docker to be started."""
    missing: tuple[str, ...] = () if has_docker() else ("restart-docker", "end-container")
    missing += () if has_compiler() else ("set-clock",)
    return tuple(kind for kind in KINDS if kind not in missing)
