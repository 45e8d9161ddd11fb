"""How many jobs a second are created, one by one and in bulk, each durable when answered."""

from __future__ import annotations

import argparse
import time

from benchmarks.common import engine, show, zookeeper


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bulk", type=int, default=10_000)
    parser.add_argument("--single", type=int, default=200)
    wanted = parser.parse_args()
    with zookeeper() as hosts, engine(hosts) as (made, api, _):
        made.stop("executor")
        url = f"{api.endpoint}/api/job"
        started = time.monotonic()
        body = {"jobs": [{"action": "noop"}] * wanted.bulk}
        api.session.post(url, json=body, headers={"bulk": "yes"}).raise_for_status()
        bulk = wanted.bulk / (time.monotonic() - started)
        started = time.monotonic()
        for _ in range(wanted.single):
            api.session.post(url, json={"action": "noop"}).raise_for_status()
        single = wanted.single / (time.monotonic() - started)
    show(
        "jobs created a second",
        ["how", "jobs/s", "ratio"],
        [["one by one", f"{single:.0f}", "1"], ["in bulk", f"{bulk:.0f}", f"{bulk / single:.1f}"]],
    )


if __name__ == "__main__":
    main()
