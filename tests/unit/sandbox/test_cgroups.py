"""Finding the hierarchies, and the files of version 2 (version 1 runs in the contract suite).

The directories stand in for the kernel's; what the kernel makes of them is not tested here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from job_engine.errors import SandboxRefusedError
from job_engine.sandbox.bubblewrap.cgroups import Group, Hierarchies

V1 = """\
30 29 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 29 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
32 29 0:28 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
33 29 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_version_1_with_controllers_mounted_together() -> None:
    found = Hierarchies("job-engine", V1)
    found.check()
    assert not found.unified
    assert found.roots() == [
        Path("/sys/fs/cgroup/memory/job-engine"),
        Path("/sys/fs/cgroup/pids/job-engine"),
        Path("/sys/fs/cgroup/cpu,cpuacct/job-engine"),
    ]


def test_a_missing_controller_is_named() -> None:
    without_pids = "\n".join(line for line in V1.splitlines() if "pids" not in line)
    with pytest.raises(SandboxRefusedError, match="not mounted: pids"):
        Hierarchies("job-engine", without_pids).check()
    with pytest.raises(SandboxRefusedError, match="memory, pids, cpu, cpuacct"):
        Hierarchies("job-engine", "").check()


@pytest.fixture
def unified(tmp_path: Path) -> Hierarchies:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    for path in ("job-engine", "job-engine/label", "job-engine/label/slot"):
        (tmp_path / path).mkdir()
        (tmp_path / path / "cgroup.subtree_control").write_text("")
    return Hierarchies("job-engine", f"1 2 0:3 / {tmp_path} rw - cgroup2 cgroup2 rw\n")


def test_version_2_must_offer_the_controllers(unified: Hierarchies, tmp_path: Path) -> None:
    unified.check()
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu\n")
    with pytest.raises(SandboxRefusedError, match="does not offer: memory, pids"):
        unified.check()


def test_version_2_delegates_down_to_the_group(unified: Hierarchies, tmp_path: Path) -> None:
    group = Group(unified, "label/slot/phase-0")
    group.create()
    for path in ("", "job-engine", "job-engine/label", "job-engine/label/slot"):
        control = tmp_path / path / "cgroup.subtree_control"
        assert control.read_text() == "+cpu +memory +pids"
    assert unified.slots("label") == {"slot"}


def test_version_2_limits_and_usage(unified: Hierarchies, tmp_path: Path) -> None:
    group = Group(unified, "label/slot/phase-0")
    group.create()
    place = tmp_path / "job-engine/label/slot/phase-0"
    (place / "memory.swap.max").write_text("max")
    group.limit(memory_bytes=1000, processes=5, cpus=1.5)
    written = {path.name: path.read_text() for path in place.iterdir()}
    assert written == {
        "memory.max": "1000",
        "memory.swap.max": "0",
        "pids.max": "5",
        "cpu.max": "150000 100000",
    }
    (place / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (place.parent / "memory.events").write_text("low 0\nmax 0\noom_kill 2\n")
    (place / "memory.events").write_text("low 0\nmax 4\noom 3\noom_kill 2\n")
    (place / "memory.peak").write_text("900\n")
    (place / "pids.events").write_text("max 7\n")
    usage = group.usage()
    assert (usage.cpu_time_s, usage.peak_memory_bytes) == (2.5, 900)
    assert (usage.oom_kills, usage.process_limit_hits, usage.starved) == (2, 7, False)
    (place / "memory.events").write_text("low 0\nmax 0\noom 3\noom_kill 2\n")
    assert group.usage().starved
    # The slot's limit binds its phases too.
    (place.parent / "memory.events").write_text("low 0\nmax 1\noom_kill 2\n")
    assert not group.usage().starved
