"""Open files: as many as the process may have."""

from __future__ import annotations

import resource
import subprocess
import sys

from job_engine.open_files import raise_limit


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_limit_that_is_too_low_is_said() -> None:
    # In a process of its own, for a hard limit is never raised again.
    lowered = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)); "
        "from job_engine import log, open_files; log.configure('INFO', 'text'); "
        "open_files.raise_limit()"
    )
    done = subprocess.run([sys.executable, "-c", lowered], capture_output=True, text=True)
    assert "open_files.few limit=200 → " in done.stderr
