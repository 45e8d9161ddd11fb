"""`python -m tests.faults.bed`: a run by hand, of any length, with a report."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.bed.checker import check
from tests.faults.bed.kinds import KINDS, possible_kinds
from tests.faults.bed.report import commit, explain, report
from tests.faults.bed.run import Plan, run


def main() -> int:
    """Run it; the exit code is 1 where a rule was broken."""
    parser = argparse.ArgumentParser("soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--faults", type=int, default=1_000)
    parser.add_argument("--gap", type=float, default=4.0, help="mean seconds between two faults")
    parser.add_argument(
        "--kind", action="append", choices=KINDS, help="only faults of this kind; repeatable"
    )
    parser.add_argument("--report", type=Path, help="write a report in Markdown to this file")
    parser.add_argument("--directory", type=Path, help="keep logs, trace and journal there")
    arguments = parser.parse_args()
    kinds = tuple(arguments.kind or possible_kinds())
    plan = Plan(arguments.seed, arguments.jobs, arguments.faults, arguments.gap, kinds)
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="soak-"))
    directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    # So that everything is stopped, and unmounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:8.1f} s  {text}\n")
        sys.stdout.flush()

    say(f"seed {plan.seed}, {len(kinds)} kinds of faults, everything in {directory}")
    code = commit()  # before somebody commits, in the hours that this may take
    evidence = run(plan, directory, say)
    violations = check(evidence)
    text = report(plan, evidence, violations, time.monotonic() - began, code)
    if arguments.report:
        arguments.report.write_text(text)
    sys.stdout.write(text)
    if violations:
        sys.stdout.write(explain(violations, evidence, directory))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
