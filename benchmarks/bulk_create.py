"""Jobs created a second by one request, all of them durable when it is answered.

The ids that it answers are checked against the store, in order, and a request with one
bad job among them must create none. dramatiq has no request for many messages: its
documentation sends them one by one, and so it is measured.
"""

from __future__ import annotations

import time
from typing import Any, Final

from benchmarks.figures import Bound, Figure, Peer, Scale, interleaved, medians
from benchmarks.peers import dramatiq
from benchmarks.servers import Running, engine, zookeeper

JOBS: Final = 10_000
ONE_BY_ONE: Final = 200
OURS: Final = "job engine"


def numbered(count: int) -> list[dict[str, Any]]:
    """Jobs that can be told apart."""
    return [{"action": "noop", "name": f"job {n}"} for n in range(count)]


def bulk(running: Running) -> float:
    """Create `JOBS` in one request; returns jobs a second. Raises `ValueError` on a wrong id."""
    (last,) = running.query("SELECT coalesce(max(seq), 0) FROM jobs")[0]
    jobs = numbered(JOBS)
    started = time.monotonic()
    ids = running.create(jobs)
    took = time.monotonic() - started
    rows = running.query(
        "SELECT id, json_extract(document, '$.name') FROM jobs WHERE seq > ? ORDER BY seq", last
    )
    if [tuple(row) for row in rows] != [(i, job["name"]) for i, job in zip(ids, jobs, strict=True)]:
        raise ValueError("the ids that were answered are not those of the jobs, in order")
    return JOBS / took


def none_of(running: Running) -> None:
    """Send a bad job among good ones. Raises `ValueError` when any of them is there."""
    stored = "SELECT count(*) FROM jobs"
    before = running.query(stored)
    jobs = [*numbered(JOBS - 1), {"action": "noop", "priority": "soon"}]
    reply = running.api.session.post(
        f"{running.api.endpoint}/api/job", json={"jobs": jobs}, headers={"bulk": "yes"}
    )
    if reply.status_code != 400 or running.query(stored) != before:
        raise ValueError(f"not all or nothing: {reply.status_code}")


def one_by_one(running: Running) -> float:
    """Create jobs in a request each; returns jobs a second."""
    started = time.monotonic()
    for job in numbered(ONE_BY_ONE):
        reply = running.api.session.post(f"{running.api.endpoint}/api/job", json=job)
        reply.raise_for_status()
    return ONE_BY_ONE / (time.monotonic() - started)


def run(scale: Scale) -> Figure:
    """Measure both in turns."""
    missing = dramatiq.missing()

    def sent(fsync: bool) -> float:
        with dramatiq.dramatiq(fsync=fsync) as peer:
            return JOBS / peer.send(JOBS)

    with zookeeper() as hosts, engine(hosts) as running:
        running.engine.stop("executor")
        none_of(running)
        systems = {OURS: lambda: bulk(running)}
        if not missing:
            systems[dramatiq.name(fsync=True)] = lambda: sent(True)
            systems[dramatiq.name(fsync=False)] = lambda: sent(False)
        found = medians(interleaved(scale.pick(2, 5), systems))
        single = one_by_one(running)
    ours = found.pop(OURS)
    durabilities = {dramatiq.name(fsync=f): text for f, text in dramatiq.DURABILITY.items()}
    return Figure(
        what=f"jobs created by one request of {JOBS:,}",
        value=ours,
        unit="jobs/s",
        higher_is_better=True,
        jobs=JOBS,
        threads=1,
        peers=[Peer(name, value, durabilities[name]) for name, value in found.items()],
        missing=missing,
        bounds=[Bound("jobs/s", ours, 5000, at_least=True)],
        details={"one by one, jobs/s": single, "ids in order": True, "all or nothing": True},
    )
