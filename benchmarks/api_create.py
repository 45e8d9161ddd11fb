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
from contextlib import closing
from typing import Final

from benchmarks.connection import LeanConnection, Request
from benchmarks.figures import Bound, Figure, Peer, Scale, interleaved, medians
from benchmarks.peers.bare_route import PEER, bare_route
from benchmarks.servers import api, durability

OURS: Final = "job engine"
BODY: Final = json.dumps({"action": "noop", "payload": {"seconds": 1}, "name": "one of many"})
LEAST: Final = 400
"""Jobs a second that one connection has to create."""


def creates(port: int, path: str, headers: Mapping[str, str], seconds: float) -> float:
    """Create for some seconds, one after the other; returns how many a second.

    Raises `ValueError` for an answer that is not 201.
    """
    request = Request(path, headers, BODY)
    done = 0
    with closing(LeanConnection(port)) as connection:
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            status, text = connection.send(request)
            _require_created(status, text)
            done += 1
        return done / (time.monotonic() - started)


def creates_by_http_client(
    port: int, path: str, headers: Mapping[str, str], seconds: float
) -> float:
    """Do the same with the standard library's client, whose time a client in Python pays too."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    asked = {"Content-Type": "application/json", **headers}
    done = 0
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        connection.request("POST", path, BODY, asked)
        reply = connection.getresponse()
        _require_created(reply.status, reply.read())
        done += 1
    took = time.monotonic() - started
    connection.close()
    return done / took


def _require_created(status: int, text: bytes) -> None:
    if status != 201:
        raise ValueError(f"{status}: {text.decode(errors='replace')}")


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
        in_python = creates_by_http_client(engine.port, "/api/job", cookie, seconds)
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
        details={
            "rounds, jobs/s": [round(rate) for rate in rounds[OURS]],
            "through Python's http.client, jobs/s": round(in_python),
        },
        durability=durable,
    )
