"""The clone phase's script with the real git, without a sandbox: hosts that are away, and links."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from job_engine.grading.clone import MISSING_FILES, clone_env, clone_phase, commit_of, is_away
from job_engine.grading.submission import GitSource
from job_engine.sandbox.base import Limits
from job_engine.testing.git_server import GitServer, make_repository


def clone(
    source: GitSource, into: Path, *, stalls_s: int = 20, expected: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Run the script in a new directory, with other patience than the 20 s that it has."""
    into.mkdir()
    spec = clone_phase(source, target="/", limits=Limits(), image=None, expected=expected)
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


_INSIDE = {
    "ok": "sub/../README",
    "gone": "nowhere/../README",
    "sub/up": "..",
    "sub/deep/root": ".././..//README",
    "sub/deep/through": "../up/README",
    "-rf": "a b",
    "a b": "README",
    "lib64": "lib",
}
_OUT = {
    "absolute": "/mnt/tests/secret",
    "root": "/",
    "above": "..",
    "sub/climbs": "../../tests/secret",
    "sub/deep/late": "../../sub/../../tests/secret",
    # What the text says is inside: `link` leads up.
    "link": "sub/up",
    "sub/by-another": "../link/../../tests/secret",
    "sub/deep/by-last": "../up/../tests/secret",
    "odd\nfatal: timed out": "/etc/passwd",
}


def repository(at: Path, links: dict[str, str]) -> None:
    """Make a repository with these links."""
    files = at.with_suffix(".files")
    (files / "sub" / "deep").mkdir(parents=True)
    (files / "lib").mkdir()
    for name in ("README", "sub/deep/file", "lib/x"):
        (files / name).write_text(name)
    for name, target in links.items():
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).symlink_to(target)
    make_repository(files, at)


def test_links_out_are_removed_and_no_others(tmp_path: Path) -> None:
    repository(tmp_path / "there.git", _INSIDE | _OUT)
    with GitServer(tmp_path) as server:
        done = clone(GitSource(url=server.url("there.git")), tmp_path / "clone")
    place = tmp_path / "clone"
    left = {
        str(path.relative_to(place)): os.readlink(path)
        for path in place.rglob("*")
        if path.is_symlink()
    }
    assert done.returncode == 0, done.stderr
    assert left == _INSIDE | {"link": _OUT["link"]}
    said = done.stderr.decode().splitlines()
    assert "removed, for it leads out of the repository: ./sub/by-another" in said
    # `link` is not among them, and one of the names has two lines.
    assert len(said) == len(_OUT)
    assert all(line.startswith("removed, ") for line in said)
    assert commit_of(done.stdout)


def test_what_is_told_of_links_is_bounded(tmp_path: Path) -> None:
    """And a file that is needed and was such a link is missing, which its submitter sees why."""
    repository(tmp_path / "there.git", {f"link-{n}": "/bin/sh" for n in range(100)})
    with GitServer(tmp_path) as server:
        source = GitSource(url=server.url("there.git"))
        done = clone(source, tmp_path / "clone", expected=("link-7",))
    assert done.returncode == MISSING_FILES
    *removed, more, missing = done.stderr.decode().splitlines()
    assert (len(removed), more, missing) == (20, "and more", "missing: link-7")
    assert sorted(path.name for path in (tmp_path / "clone").iterdir()) == ["README", "lib", "sub"]
