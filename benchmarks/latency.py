"""How long an idle engine takes from the 201 of a create to the action's first line."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from benchmarks.common import engine, percentile, show, zookeeper
from job_engine.client import Api
from tests.support.engine import eventually
from tests.support.trace import ACTIONS_DIR, read_trace


def measure(api: Api, trace: Path, jobs: int) -> list[float]:
    """Create jobs one by one, each on an idle engine; returns milliseconds."""
    found = []
    for _ in range(jobs):
        body = {"action": "trace", "payload": json.dumps({"file": str(trace)})}
        response = api.session.post(f"{api.endpoint}/api/job", json=body)
        answered_at = time.monotonic()
        job = response.json()["resource-id"]
        eventually(lambda job=job: trace.exists() and job in read_trace(trace))  # type: ignore[misc]
        started_at = read_trace(trace)[job][0].started_at
        found.append((started_at - answered_at) * 1000)
        trace.unlink()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    jobs = parser.parse_args().jobs
    with zookeeper() as hosts, engine(hosts, actions_dir=ACTIONS_DIR) as (_, api, directory):
        found = measure(api, directory / "trace", jobs)
    row = [f"{percentile(found, p):.1f}" for p in (50, 90, 99)]
    show("create to first line, ms", ["jobs", "p50", "p90", "p99"], [[str(jobs), *row]])


if __name__ == "__main__":
    main()
