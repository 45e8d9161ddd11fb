"""Jobs created a second one by one, over one connection, each durable when it is answered.

The peer is the least that such an API can be: the same web framework and server, a route
that commits one row to the same database, and no login, no validation, no events and no
rights. What is between the two is what ours does besides; what bounds the peer bounds ours too.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Mapping
from typing import Final

from benchmarks.figures import Bound, Figure, Peer, Scale, interleaved, medians
from benchmarks.peers.bare_route import PEER, bare_route
from benchmarks.servers import api, durability

OURS: Final = "job engine"
BODY: Final = json.dumps({"action": "noop", "payload": {"seconds": 1}, "name": "one of many"})
LEAST: Final = 400
"""Jobs a second that one connection has to create."""


def creates(port: int, path: str, headers: Mapping[str, str], seconds: float) -> float:
    """Create for some seconds, one after the other; returns how many a second.

    The client is the standard library's: anything more comfortable costs as much as the
    server. Raises `ValueError` for an answer that is not 201.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port)
    asked = {"Content-Type": "application/json", **headers}
    done = 0
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        connection.request("POST", path, BODY, asked)
        reply = connection.getresponse()
        text = reply.read()
        if reply.status != 201:
            raise ValueError(f"{reply.status}: {text.decode()}")
        done += 1
    took = time.monotonic() - started
    connection.close()
    return done / took


def run(scale: Scale) -> Figure:
    """Measure both in turns."""
    seconds = scale.pick(2.0, 10.0)
    with api(scale.database_url) as engine, bare_route(scale.database_url) as bare:
        admin = engine.admin()
        cookie = {"Cookie": "; ".join(f"{c.name}={c.value}" for c in admin.session.cookies)}
        before = admin.search("job", last=0).count
        systems: dict[str, Callable[[], float]] = {
            OURS: lambda: creates(engine.port, "/api/job", cookie, seconds),
            PEER: lambda: creates(bare, "/row", {}, seconds),
        }
        for create in systems.values():
            create()  # nobody's first requests count
        rounds = interleaved(scale.pick(2, 5), systems)
        created = admin.search("job", last=0).count - before
        admin.close()
    found = medians(rounds)
    durable = durability(scale.database_url)
    return Figure(
        what="jobs created one by one over one connection",
        value=found[OURS],
        unit="jobs/s",
        higher_is_better=True,
        jobs=created,
        threads=1,
        peers=[Peer(PEER, found[PEER], durable)],
        bounds=[Bound("jobs/s", found[OURS], LEAST, at_least=True)],
        details={"rounds, jobs/s": [round(rate) for rate in rounds[OURS]]},
        durability=durable,
    )
