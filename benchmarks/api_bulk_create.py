"""Jobs created a second by requests of 10,000, by the API alone, on either database.

`bulk_create` measures the same beside a whole engine that runs them. Here the first and the
last id of each request are read back, so that what is counted is there, and in order.
"""

from __future__ import annotations

import json
import time
from typing import Final

from benchmarks.bulk_create import numbered
from benchmarks.figures import Bound, Figure, Scale, interleaved, medians
from benchmarks.servers import api, durability
from job_engine.client import Api

JOBS: Final = 10_000
OURS: Final = "job engine"
LEAST: Final = 5000
"""Jobs a second that bulk creates have to reach."""


def bulk(client: Api) -> float:
    """Create `JOBS` in one request; returns jobs a second. Raises `ValueError` on a wrong id."""
    jobs = numbered(JOBS)
    body = json.dumps({"jobs": jobs})
    headers = {"bulk": "yes", "Content-Type": "application/json"}
    started = time.monotonic()
    reply = client.session.post(f"{client.endpoint}/api/job", data=body, headers=headers)
    took = time.monotonic() - started
    reply.raise_for_status()
    ids = reply.json()["resource-ids"]
    for place in (0, -1):
        if client.get(ids[place]).data["name"] != jobs[place]["name"]:
            raise ValueError("the ids that were answered are not those of the jobs, in order")
    return JOBS / took


def run(scale: Scale) -> Figure:
    """Measure it some times."""
    with api(scale.database_url) as engine:
        client = engine.admin()
        bulk(client)
        rounds = interleaved(scale.pick(3, 10), {OURS: lambda: bulk(client)})
        client.close()
    value = medians(rounds)[OURS]
    return Figure(
        what=f"jobs created by requests of {JOBS:,}, by the API alone",
        value=value,
        unit="jobs/s",
        higher_is_better=True,
        jobs=JOBS,
        threads=1,
        bounds=[Bound("jobs/s", value, LEAST, at_least=True)],
        details={"rounds, jobs/s": [round(rate) for rate in rounds[OURS]], "in order": True},
        durability=durability(scale.database_url),
    )
