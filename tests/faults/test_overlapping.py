"""Every kind of fault, several at once, from a seed: nothing lost, nothing run twice at once.

The seed is printed; `pytest tests/faults/test_overlapping.py --seed N` draws the same
faults again. `scripts/soak` is the same run, as long as one likes.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from job_engine.errors import JobEngineError
from job_engine.queue.local import find_zookeeper
from tests.conftest import require
from tests.faults.bed.boxes import BUSYBOX
from tests.faults.bed.checker import check
from tests.faults.bed.docker import has_docker
from tests.faults.bed.kinds import possible_kinds
from tests.faults.bed.report import commit, explain, report
from tests.faults.bed.run import Plan, run

JOBS = 1000
TIMES_EACH = 3
GAP_S = 3.2


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What all faults are drawn from."""
    # Not known where more than this directory was collected.
    given = request.config.getoption("--seed", default=None)
    return random.SystemRandom().randrange(1 << 31) if given is None else int(given)


@pytest.fixture
def needs() -> None:
    """Root, for scratch file systems and slots; ZooKeeper, bubblewrap and busybox."""
    require(os.geteuid() == 0, "needs root")
    require(shutil.which("bwrap") is not None, "bubblewrap is not installed")
    require(BUSYBOX.exists(), "busybox-static is not installed")
    if os.environ.get("CI"):
        require(has_docker(), "dockerd is not installed; elsewhere, its faults are left out")
    try:
        find_zookeeper()
    except JobEngineError as error:
        require(False, error.message)


@pytest.mark.zookeeper
@pytest.mark.bubblewrap
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("needs")
def test_a_thousand_jobs_under_every_fault(tmp_path: Path, seed: int) -> None:
    sys.stdout.write(f"seed {seed}\n")
    kinds = possible_kinds()
    plan = Plan(seed, JOBS, TIMES_EACH * len(kinds), GAP_S, kinds)
    evidence = run(plan, tmp_path, lambda text: print(text, flush=True))  # noqa: T201
    violations = check(evidence)
    summary = report(plan, evidence, violations, 0.0, commit()) + explain(
        violations, evidence, tmp_path
    )
    assert not violations, summary
    counts = Counter(fault.kind for fault in evidence.faults)
    assert all(counts[kind] >= TIMES_EACH for kind in kinds), counts
