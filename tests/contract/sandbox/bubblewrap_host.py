"""How the contract suite configures the bubblewrap backend, and sees what it left behind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from job_engine.settings import SandboxSettings


def settings() -> SandboxSettings:
    """Return settings for a backend under test."""
    return SandboxSettings(sandbox="bubblewrap")


def leftovers(label: str) -> list[str]:
    """Return the cgroups, run-time files, mounts and processes that carry the label."""
    # Others' groups go while they are walked through.
    groups = (Path(at) / name for at, below, _ in os.walk("/sys/fs/cgroup") for name in below)
    found = [f"cgroup {path}" for path in groups if path.name == label]
    found += [f"file {path}" for path in Path("/run/job-engine").glob(f"**/*{label}*")]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if label in line]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if label in (process / "cgroup").read_text():
                found.append(f"process {(process / 'cmdline').read_bytes()!r}")
    return found
