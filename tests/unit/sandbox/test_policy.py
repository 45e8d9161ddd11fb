"""What is asked beyond the operator's maxima is refused by name."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from job_engine.errors import SandboxRefusedError
from job_engine.sandbox.base import Handover, Inputs, Limits, Mount, PhaseSpec, Reach, Tree
from job_engine.sandbox.policy import check_inputs, check_request, phase_environment
from job_engine.settings import SandboxSettings

SETTINGS = SandboxSettings(max_memory_bytes=2**30, max_cpus=2, max_disk_bytes=2**28)
PHASE = PhaseSpec(name="test", command=("true",), mounts=(Mount(tree="work", target="/mnt/w"),))
TREE = Tree(name="work")


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        (replace(PHASE, limits=Limits(memory_bytes=2**31)), "memory_bytes: 2147483648 asked"),
        (replace(PHASE, limits=Limits(cpus=2.5)), "cpus: 2.5 asked"),
        (replace(PHASE, limits=Limits(cpus=math.nan)), "cpus: nan asked"),
        (replace(PHASE, limits=Limits(processes=0)), "processes: 0 asked"),
        (replace(PHASE, limits=Limits(wall_time_s=-1)), "wall_time_s: -1 asked"),
        (replace(PHASE, kvm=True), "/dev/kvm"),
        (replace(PHASE, command=()), "empty command"),
        (replace(PHASE, command=("a\0b",)), "NUL"),
        (replace(PHASE, command=("x" * 200_000,)), "bytes of command"),
        (replace(PHASE, env={"A=B": "1"}), "environment variable"),
        (replace(PHASE, mounts=(Mount(tree="other", target="/x"),)), "no tree 'other'"),
        (replace(PHASE, handover=(Handover(tree="other"),)), "no tree 'other'"),
        (replace(PHASE, handover=(Handover(tree="work", path="../x"),)), "leaves its tree"),
        (replace(PHASE, handover=(Handover(tree="work", path="/x"),)), "leaves its tree"),
        (replace(PHASE, mounts=(Mount(tree="work", target="/mnt/../etc"),)), "plain absolute"),
        (replace(PHASE, mounts=(Mount(tree="work", target="/"),)), "cover '/'"),
        (replace(PHASE, mounts=(Mount(tree="work", target="/proc/x"),)), "cover '/proc/x'"),
        (replace(PHASE, mounts=(Mount(tree="work", target="/usr"),)), "cover '/usr'"),
        (replace(PHASE, workdir="relative"), "plain absolute"),
        (replace(PHASE, reach=(Reach(host="h", port=0),)), "cannot reach"),
        (replace(PHASE, name="a/b"), "phase name"),
    ],
)
def test_phase_is_refused(phase: PhaseSpec, message: str) -> None:
    with pytest.raises(SandboxRefusedError, match=message.replace("(", r"\(")):
        check_request(SETTINGS, (phase,), (TREE,))


def test_a_malformed_exception_for_a_private_host_is_refused() -> None:
    settings = SETTINGS.model_copy(update={"allow_private_hosts": ["gitlab.example"]})
    check_request(settings, (PHASE,), (TREE,))
    reaching = replace(PHASE, reach=(Reach(host="h", port=80),))
    with pytest.raises(SandboxRefusedError, match="is not host:port"):
        check_request(settings, (reaching,), (TREE,))


def test_names_are_unique() -> None:
    with pytest.raises(SandboxRefusedError, match="phase names are not unique"):
        check_request(SETTINGS, (PHASE, PHASE), (TREE,))
    with pytest.raises(SandboxRefusedError, match="tree names are not unique"):
        check_request(SETTINGS, (PHASE,), (TREE, TREE))


def test_tree_is_refused() -> None:
    with pytest.raises(SandboxRefusedError, match="size_bytes"):
        check_request(SETTINGS, (PHASE,), (replace(TREE, size_bytes=2**29),))
    with pytest.raises(SandboxRefusedError, match="inodes"):
        check_request(SETTINGS, (PHASE,), (replace(TREE, inodes=10**9),))


def test_requests_within_the_limits_pass() -> None:
    check_request(SETTINGS, (PHASE,), (TREE,))


def test_inputs_name_what_there_is_and_fit() -> None:
    check_inputs(Inputs(stdin={"test": b"x" * 65_536}), (PHASE,), (TREE,))
    with pytest.raises(SandboxRefusedError, match="65537 bytes of stdin"):
        check_inputs(Inputs(stdin={"test": b"x" * 65_537}), (PHASE,), (TREE,))
    with pytest.raises(SandboxRefusedError, match="unknown"):
        check_inputs(Inputs(stdin={"other": b""}), (PHASE,), (TREE,))


def test_proxy_variables_come_with_reach_only() -> None:
    assert "http_proxy" not in phase_environment(PHASE)
    reaching = phase_environment(replace(PHASE, reach=(Reach(host="h", port=80),), env={"A": "b"}))
    assert reaching["https_proxy"] == "http://127.0.0.1:3128"
    assert reaching["A"] == "b"
