"""No-op jobs a second through the whole engine, beside its peers, in one run.

Ours: every state durable in SQLite, fed to ZooKeeper, claimed, run, finished and
consumed. Peers: a loop over kazoo's own `LockingQueue`, and dramatiq on Redis, with
`appendfsync always` and in memory, where both are installed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.recipe.queue import LockingQueue

from benchmarks.common import console, engine, show, wait_drained, zookeeper
from tests.support.engine import eventually, free_port

KAZOO_JOBS = 1000


def ours(hosts: str, jobs: int, threads: int) -> float:
    """Drain `jobs` no-op jobs; returns jobs a second."""
    with engine(hosts, threads=threads) as (made, api, _):
        url = f"{api.endpoint}/api/job"
        started = time.monotonic()
        for first in range(0, jobs, 10_000):
            body = {"jobs": [{"action": "noop"}] * min(10_000, jobs - first)}
            api.session.post(url, json=body, headers={"bulk": "yes"}).raise_for_status()
        wait_drained(api, "noop")
        rate = jobs / (time.monotonic() - started)
        made.stop("executor")
    return rate


def kazoo(hosts: str) -> float:
    """Get and consume `KAZOO_JOBS` entries with kazoo's recipe; returns entries a second."""
    client = KazooClient(hosts)
    client.start()
    queue = LockingQueue(client, "/kazoo")
    for first in range(0, KAZOO_JOBS, 100):
        queue.put_all([f"job/{first + n}".encode() for n in range(100)])
    taken = 0
    started = time.monotonic()
    while taken < KAZOO_JOBS and time.monotonic() - started < 30:
        queue.get()
        queue.consume()
        taken += 1
    rate = taken / (time.monotonic() - started)
    client.stop()
    client.close()
    return rate


ACTOR = """
import dramatiq, os
from dramatiq.brokers.redis import RedisBroker
dramatiq.set_broker(RedisBroker(url=os.environ["REDIS"], middleware=[]))

@dramatiq.actor
def noop():
    pass
"""


@contextmanager
def redis(fsync: bool) -> Iterator[str]:
    """A Redis server of the benchmark's own; yields its URL."""
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        durable = ["--appendonly", "yes", "--appendfsync", "always"] if fsync else []
        server = subprocess.Popen(
            [
                *("redis-server", "--port", str(port), "--bind", "127.0.0.1"),
                *("--save", "", "--dir", directory, *durable),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            ping = ["redis-cli", "-p", str(port), "ping"]
            eventually(lambda: _output(ping) == b"PONG\n")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait()


def _output(command: list[str]) -> bytes:
    return subprocess.run(command, check=False, capture_output=True).stdout


def dramatiq(jobs: int, fsync: bool) -> float:
    """Drain with two processes of eight threads; returns messages a second."""
    with redis(fsync) as url, tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "actor.py").write_text(ACTOR)
        environment = {"REDIS": url, "PYTHONPATH": directory, "PATH": "/usr/bin:/bin"}
        put = f"import actor\nfor _ in range({jobs}): actor.noop.send()"
        subprocess.run([sys.executable, "-c", put], env=environment, check=True)
        started = time.monotonic()
        workers = subprocess.Popen(
            [sys.executable, "-m", "dramatiq", "actor", "--processes", "2", "--threads", "8"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = url.split(":")[2].split("/")[0]
        left = ["redis-cli", "-p", port, "hlen", "dramatiq:default.msgs"]
        eventually(lambda: _output(left) == b"0\n", 600)
        rate = jobs / (time.monotonic() - started)
        workers.terminate()
        workers.wait()
    return rate


def main() -> None:
    """Measure all of them and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=16)
    wanted = parser.parse_args()
    found = {}
    with zookeeper() as hosts:
        found["job engine"] = ours(hosts, wanted.jobs, wanted.threads)
        found["kazoo LockingQueue"] = kazoo(hosts)
    if shutil.which("redis-server") and find_spec("dramatiq"):
        found["dramatiq, appendfsync always"] = dramatiq(wanted.jobs, fsync=True)
        found["dramatiq, in memory"] = dramatiq(wanted.jobs, fsync=False)
    else:
        console.print("Without redis-server and dramatiq[redis] there is no comparison with them.")
    base = found["job engine"]
    rows = [[name, f"{rate:.0f}", f"{base / rate:.2f}"] for name, rate in found.items()]
    show("no-op jobs drained a second", ["system", "jobs/s", "ours over it"], rows)


if __name__ == "__main__":
    main()
