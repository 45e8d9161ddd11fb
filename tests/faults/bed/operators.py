"""What people do to an engine that runs: restart it, tidy up under it, help its queue along."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from typing import Final

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError

from job_engine.queue import layout
from tests.faults.bed.plan import Plan, done
from tests.faults.bed.world import API, World

QUEUE: Final = "/job"
GARBAGE: Final = b"\0\xff no job"
_CONNECT_S: Final = 3.0


def restart(world: World, rng: random.Random) -> Plan:
    """Have any process stop in order, and start it again; who takes too long is killed."""
    name = rng.choice([API, *world.services])
    return Plan(
        name,
        frozenset({f"process {name}"}),
        rng.uniform(1.0, 6.0),
        done(lambda: world.ask_to_stop(name)),
        lambda: world.start_over(name),
    )


def end_container(world: World, rng: random.Random) -> Plan | None:
    """Kill or remove a container behind the back of the executor that it belongs to."""
    docker = world.docker
    if docker is None or not docker.busy():
        return None
    how = rng.choice([["kill"], ["rm", "--force"], ["stop", "--time=0"]])

    def inject() -> bool:
        try:
            found = docker.ask("ps", "--quiet").split()
            if found:
                docker.ask(*how, rng.choice(found))
        except subprocess.CalledProcessError:
            return False  # it has ended meanwhile, or the daemon just then
        return bool(found)

    (name,) = world.in_docker
    return Plan(name, frozenset({"docker"}), 0.0, inject, detail=" ".join(how))


def tidy_scratch(world: World, rng: random.Random) -> Plan:
    """Remove an executor's scratch directory under it."""
    name = rng.choice(world.executors)
    root = world.scratch(name) / name
    tidy = done(lambda: shutil.rmtree(root, ignore_errors=True))
    return Plan(name, frozenset({f"disk {name}"}), 0.0, tidy)


def tamper_with_queue(world: World, rng: random.Random) -> Plan:
    """Remove an entry, push one again, and leave garbage: as an entry, and below one."""

    def inject() -> bool:
        client = KazooClient(world.ensemble.hosts)
        try:
            client.start(_CONNECT_S)
            _tamper(client, rng)
        except (KazooException, KazooTimeoutError):
            return False
        finally:
            client.stop()
            client.close()
        return True

    return Plan("queue", frozenset({"ensemble"}), 0.0, inject)


def _tamper(client: KazooClient, rng: random.Random) -> None:
    entries, taken = layout.entries(QUEUE), layout.taken(QUEUE)
    client.create(f"{entries}/entry-500-", GARBAGE, sequence=True)
    waiting = sorted(set(client.get_children(entries)) - set(client.get_children(taken)))
    if not waiting:
        return  # even the garbage is claimed already
    removed, again, littered = (rng.choice(waiting) for _ in range(3))
    with contextlib.suppress(KazooException):
        data, _ = client.get(f"{entries}/{again}")
        client.create(f"{entries}/entry-500-", data, sequence=True)
    with contextlib.suppress(KazooException):
        client.create(f"{entries}/{littered}/litter", b"")
    # Unless somebody has claimed it: then it is no longer an operator's to remove.
    request = client.transaction()
    request.create(f"{taken}/{removed}", b"operator", ephemeral=True)
    request.delete(f"{entries}/{removed}")
    request.delete(f"{taken}/{removed}")
    request.commit()
