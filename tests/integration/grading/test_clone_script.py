"""The clone phase's script with the real git, without a sandbox: what a host that is away says."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from job_engine.grading.clone import clone_env, clone_phase, is_away
from job_engine.grading.submission import GitSource
from job_engine.sandbox.base import Limits
from job_engine.testing.git_server import GitServer, make_repository


def clone(
    source: GitSource, into: Path, *, stalls_s: int = 20
) -> subprocess.CompletedProcess[bytes]:
    """Run the script in a new directory, with other patience than the 20 s that it has."""
    into.mkdir()
    spec = clone_phase(source, target="/", limits=Limits(), image=None, expected=())
    command = [part.replace("lowSpeedTime=20", f"lowSpeedTime={stalls_s}") for part in spec.command]
    env = {"PATH": os.environ["PATH"], **clone_env(source, keep_git=False)}
    return subprocess.run(
        command, cwd=into, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )


def test_a_host_that_accepts_and_stalls_is_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stalled:
        source = GitSource(url=f"http://127.0.0.1:{stalled.getsockname()[1]}/a.git")
        done = clone(source, tmp_path / "clone", stalls_s=1)
    assert done.returncode == 1
    assert is_away(done.stderr), done.stderr


def test_of_a_commit_only_the_last_fetch_counts(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "a").write_text("x")
    make_repository(files, tmp_path / "there.git")
    with GitServer(tmp_path) as server:
        # Which answers 500 to a commit that it lacks, and then gives its branches.
        source = GitSource(url=server.url("there.git"), commit="1" * 40)
        done = clone(source, tmp_path / "clone")
    assert b"reference is not a tree" in done.stderr
    assert not is_away(done.stderr), done.stderr
