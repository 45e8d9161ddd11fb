"""A file is told of while the phase that writes it runs, and nothing else is."""

from __future__ import annotations

import os

import pytest

from job_engine.errors import SandboxRefusedError
from job_engine.sandbox.base import (
    WORKSPACE,
    FileGrew,
    Follow,
    Handover,
    Inputs,
    Mount,
    PhaseResult,
    PhaseSpec,
    Tree,
    Verdict,
)
from job_engine.sandbox.growth import LOOK_BYTES, MAX_BYTES
from tests.conftest import require
from tests.contract.sandbox.conftest import Backend
from tests.contract.sandbox.runner import HOME, TREE, python, sh, tar

FOLLOW = Follow(tree=WORKSPACE, path="out/tests.jsonl")


@pytest.fixture(autouse=True)
def _in_sight(backend: Backend) -> None:
    require(backend.name != "docker" or os.geteuid() == 0, "needs root, to see the slots of Docker")


def told(
    backend: Backend, label: str, spec: PhaseSpec, *, kill_at: bytes | None = None
) -> tuple[bytes, PhaseResult]:
    """Run a phase; return what was told of its file, and how it ended."""
    secret = Tree(name="secret")
    slot = backend.sandbox.prepare(label=label, phases=(spec,), trees=(TREE, secret))
    data = b""
    try:
        slot.go(Inputs(trees={"secret": tar({"tests.jsonl": b"secret\n"})}))
        for event in slot.collect():
            if isinstance(event, FileGrew):
                data += event.data
                assert len(event.data) <= LOOK_BYTES
                if data == kill_at:
                    slot.kill()
            elif isinstance(event, PhaseResult):
                return data, event
    finally:
        slot.destroy()
    raise AssertionError("no result")


def test_a_file_is_told_of_while_the_phase_runs(backend: Backend, label: str) -> None:
    """The phase would go on: what was told is what ends it."""
    script = "mkdir out; echo one >> out/tests.jsonl; sleep 1; echo two >> out/tests.jsonl; sleep 9"
    data, result = told(backend, label, sh(script, follow=FOLLOW), kill_at=b"one\ntwo\n")
    assert data == b"one\ntwo\n"
    assert result.verdict is Verdict.KILLED


def test_nothing_but_a_regular_file_of_the_tree_is_told_of(backend: Backend, label: str) -> None:
    """Links lead to a tree that the phase sees, and to the root of whoever looks."""
    mounts = (
        Mount(tree=WORKSPACE, target=HOME),
        Mount(tree="secret", target="/mnt/secret", read_only=True),
    )
    script = """
    wait() { sleep 0.3; }
    mkdir out; cd out
    for to in ../../secret/tests.jsonl /trees/secret/tests.jsonl /mnt/secret/tests.jsonl \
        /proc/self/environ /etc/passwd; do
        ln -sf $to tests.jsonl; wait
    done
    rm tests.jsonl; mkfifo tests.jsonl; wait
    rm tests.jsonl; python3 -c 'import socket; socket.socket(1).bind("tests.jsonl")'; wait
    cd ..; rm -r out; ln -s ../secret out; wait
    rm out; ln -s /mnt/secret out; wait
    rm out; mkdir out; echo fine > out/tests.jsonl; wait
    """
    data, result = told(backend, label, sh(script, mounts=mounts, follow=FOLLOW))
    assert (data, result.verdict) == (b"fine\n", Verdict.OK)


def test_a_followed_file_that_changes_its_kind_does_not_affect_the_phase(
    backend: Backend, label: str
) -> None:
    """Regular file, FIFO and links into another tree take turns as fast as they can."""
    script = """
import os, time
os.mkdir("out"); os.chdir("out")
open("file", "w").write("fine\\n")
end = time.monotonic() + 2
while time.monotonic() < end:
    for make in (
        lambda: os.symlink("/mnt/secret/tests.jsonl", "new"),
        lambda: os.mkfifo("new"),
        lambda: os.symlink("/trees/secret/tests.jsonl", "new"),
        lambda: os.link("file", "new"),
    ):
        make()
        os.rename("new", "tests.jsonl")
        if os.path.exists("new"): os.unlink("new")
"""
    data, result = told(backend, label, python(script, follow=FOLLOW))
    assert data in (b"", b"fine\n")
    assert result.verdict is Verdict.OK, result


def test_growth_without_end_is_told_to_a_bound(backend: Backend, label: str) -> None:
    """The hand-over, which is what counts, reads the file as if nobody had followed it."""
    handover = Handover(tree=WORKSPACE, path="out", max_bytes=10)
    script = (
        "mkdir out; truncate -s 1G out/tests.jsonl 2>/dev/null || truncate -s 8M out/tests.jsonl;"
        " sleep 1; echo fine > out/tests.jsonl; sleep 0.5"
    )
    data, result = told(backend, label, sh(script, follow=FOLLOW, handover=(handover,)))
    assert 0 < len(data) <= MAX_BYTES
    assert not data.strip(b"\0")
    assert result.verdict is Verdict.OK
    assert result.files == {"workspace/out/tests.jsonl": b"fine\n"}


@pytest.mark.parametrize(
    "follow",
    [
        Follow(tree="other", path="f"),
        Follow(tree=WORKSPACE, path="../f"),
        Follow(tree=WORKSPACE, path="/f"),
        Follow(tree=WORKSPACE, path="./"),
    ],
)
def test_following_a_path_outside_a_tree_is_refused(
    backend: Backend, label: str, follow: Follow
) -> None:
    with pytest.raises(SandboxRefusedError):
        backend.sandbox.prepare(label=label, phases=(sh("true", follow=follow),), trees=(TREE,))
