"""Archives, repositories and payloads that are hostile before anything of them has run."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from job_engine.errors import GradingError
from job_engine.sandbox.factory import make_sandbox
from job_engine.settings import SandboxSettings
from job_engine.testing.git_server import GitServer
from tests.conftest import require
from tests.hostile.archives.test_archives import member, overlapping, tar_of, zip_entry, zip_of
from tests.hostile.corpus.assignments import write_assignment
from tests.hostile.corpus.bench import Bench
from tests.hostile.corpus.rows import Row

pytestmark = pytest.mark.timeout(300)

ROW: Final = Row(name="handed-in", why="", kind="submissions", sh="true")
"""The assignment that all are handed in to: a `solution.sh` that ends well gets the mark."""
GOOD: Final = ("solution.sh", b"true\n")


@pytest.fixture
def assignment(bench: Bench) -> str:
    directory = bench.desk.directory / uuid.uuid4().hex / ROW.name
    write_assignment(ROW, directory)
    return bench.desk.blobs.add_assignment(directory)


def zip_bomb() -> bytes:
    """Made when it is asked for: that takes seconds, and collecting tests should not."""
    return zip_of(GOOD, ("zeros", bytes(300 << 20)))


ARCHIVES: Final[dict[str, tuple[bytes | Callable[[], bytes], str]]] = {
    "a zip that climbs": (zip_of(GOOD, ("../../etc/cron.d/x", b"x")), "climbs"),
    "a tar with an absolute name": (tar_of((member("/etc/passwd"), b"x")), "absolute"),
    "a link out of the workspace": (
        tar_of((member("l", tarfile.SYMTYPE, "../../etc"), b""), (member("l/x"), b"x")),
        "(link|twice)",
    ),
    "a hard link": (tar_of((member("l", tarfile.LNKTYPE, "/etc/shadow"), b"")), "hard link"),
    "a device": (tar_of((member("d", tarfile.BLKTYPE), b"")), "device"),
    "a device in a zip": (zip_of(GOOD, (zip_entry("d", 0o020666), b"")), "device"),
    "a pipe": (tar_of((member("p", tarfile.FIFOTYPE), b"")), "pipe"),
    "names that differ by case": (zip_of(GOOD, ("SOLUTION.SH", b"false\n")), "same on some"),
    "names that look the same": (zip_of(("\u00e9", b"1"), ("e\u0301", b"2")), "same on some"),
    "a line break in a name": (zip_of(GOOD, ("a\nb", b"")), "control"),
    "a name that reads backwards": (zip_of(GOOD, ("\u202etxt.exe", b"")), "control"),
    "members that overlap": (overlapping(), "overlaps"),
    "a zip bomb": (zip_bomb, "(large|ratio|more than|expands)"),
    "the same name twice": (tar_of((member("a"), b"1"), (member("a"), b"2")), "twice"),
    "no archive": (b"MZ" + bytes(1000), "no archive"),
    "more directories than the workspace has room for": (
        zip_of(GOOD, *((f"{number}/" * 30 + "x", b"") for number in range(70))),
        "too large for this assignment",
    ),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_refused_with_a_reason(bench: Bench, assignment: str, name: str) -> None:
    archive, why = ARCHIVES[name]
    blob = bench.desk.blobs.add(archive() if callable(archive) else archive)
    with pytest.raises(GradingError, match=why):
        bench.desk.grade(assignment, {"archive": {"blob": blob}})


def test_names_of_the_shell_are_names(bench: Bench, assignment: str) -> None:
    names = ["$(reboot)", "`id`", "; rm -rf .", "-rf", "a b'c\"d", "*", "%n%s", "~root", "|cat"]
    blob = bench.desk.blobs.add(zip_of(GOOD, *((name, b"x") for name in names)))
    assert bench.desk.grade(assignment, {"archive": {"blob": blob}}).score == 1


@pytest.mark.parametrize(
    "git",
    [
        {"url": "ext::sh -c 'touch /tmp/pwned'"},
        {"url": "file:///etc"},
        {"url": "ssh://-oProxyCommand=x/y"},
        {"url": "http://127.0.0.1:80@10.0.0.1/x"},
        {"url": "http://host/x", "ref": "--upload-pack=touch /tmp/pwned"},
        {"url": "http://host/x", "ref": "-c"},
        {"url": "http://host/x", "ref": "a..b"},
        {"url": "http://host/x", "commit": "--help"},
        {"url": "http://host/x\nHost: other"},
    ],
    ids=str,
)
def test_configuration_that_git_would_execute_is_refused(
    bench: Bench, assignment: str, git: dict[str, str]
) -> None:
    with pytest.raises(ValidationError):
        bench.desk.grade(assignment, {"git": git})


Repository = Callable[[Path], list[tuple[str, str, str]]]


def _git(at: Path, *words: str, data: bytes | None = None) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    command = ["git", "-C", str(at), *identity, *words]
    return (
        subprocess.run(command, input=data, check=True, capture_output=True).stdout.decode().strip()
    )


def _tree(at: Path, *entries: tuple[str, str, str]) -> str:
    """Write a tree from (mode, name, object), as no honest git would let it be made."""
    # As git sorts them, which it insists on.
    ordered = sorted(entries, key=lambda e: f"{e[1]}{'/' * (e[0] == '40000')}".encode())
    raw = b"".join(
        f"{mode} {name}".encode() + b"\0" + bytes.fromhex(sha) for mode, name, sha in ordered
    )
    return _git(at, "hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=raw)


def _blob(at: Path, data: bytes) -> str:
    return _git(at, "hash-object", "-w", "--stdin", data=data)


def _plain(at: Path) -> list[tuple[str, str, str]]:
    return [("100644", "solution.sh", _blob(at, b"[ ! -e pwned ]\n"))]


def _submodules(at: Path) -> list[tuple[str, str, str]]:
    text = b'[submodule "x"]\n\tpath = x\n\turl = ext::sh -c "touch pwned"\n'
    return [
        ("100644", ".gitattributes", _blob(at, b"* filter=evil ident eol=crlf\n")),
        ("100644", ".gitmodules", _blob(at, text)),
        ("100644", ".lfsconfig", _blob(at, b"[lfs]\n\turl = http://169.254.169.254/\n")),
        (
            "100644",
            "large.bin",
            _blob(
                at,
                b"version https://git-lfs.github.com/spec/v1\noid sha256:"
                + b"0" * 64
                + b"\nsize 9\n",
            ),
        ),
        *_plain(at),
    ]


def _update_commands(at: Path) -> list[tuple[str, str, str]]:
    text = b'[submodule "x"]\n\tpath = x\n\turl = ./x\n\tupdate = !touch pwned\n'
    return [("100644", ".gitmodules", _blob(at, text)), *_plain(at)]


def _names(at: Path) -> list[tuple[str, str, str]]:
    odd = sorted(["--help", "-rf", "a\nb", "\u202ec.exe", "$(touch pwned)", "a;b"])
    empty = _blob(at, b"")
    return [*(("100644", name, empty) for name in odd), *_plain(at)]


def _link(target: bytes, *, stays: bool = False) -> Repository:
    """Return what writes a tree with a link two directories deep, and one to its root."""

    def write(at: Path) -> list[tuple[str, str, str]]:
        deep = _tree(at, ("120000", "link", _blob(at, target)), ("120000", "up", _blob(at, b"..")))
        test = b"[ -L a/b/up ] && [ %s -L a/b/link ]\n" % (b"" if stays else b"!")
        tree = _tree(at, ("40000", "b", deep))
        return [("40000", "a", tree), ("100644", "solution.sh", _blob(at, test))]

    return write


def _own_git(at: Path) -> list[tuple[str, str, str]]:
    hook = _tree(at, ("100755", "post-checkout", _blob(at, b"#!/bin/sh\ntouch pwned\n")))
    return [("40000", ".GIT", _tree(at, ("40000", "hooks", hook))), *_plain(at)]


def _climbing(at: Path) -> list[tuple[str, str, str]]:
    return [("40000", "..", _tree(at, ("100644", "x", _blob(at, b"x")))), *_plain(at)]


def _deep(at: Path) -> list[tuple[str, str, str]]:
    tree = _tree(at, ("100644", "x", _blob(at, b"x")))
    for _ in range(40):
        tree = _tree(at, ("40000", "a", tree))
    return [("40000", "a", tree), *_plain(at)]


def _huge(at: Path) -> list[tuple[str, str, str]]:
    return [("100644", "huge", _blob(at, bytes(64 << 20))), *_plain(at)]


REPOSITORIES: Final[dict[str, tuple[Repository, float | str]]] = {
    "filters, submodules and LFS": (_submodules, 1.0),
    "submodules with commands": (_update_commands, "Cannot fetch"),
    "names": (_names, 1.0),
    "links": (_link(b".././../solution.sh", stays=True), 1.0),
    "a link that goes down and up": (_link(b"../b/../../solution.sh", stays=True), 1.0),
    "a link that is absolute": (_link(b"/mnt/tests/secret"), 1.0),
    "a link that climbs": (_link(b"../../../tests/secret"), 1.0),
    "a link that climbs by another": (_link(b"up/../../tests/secret"), 1.0),
    "hooks in the tree": (_own_git, "Cannot fetch"),
    "a tree that climbs": (_climbing, "Cannot fetch"),
    "a tree that is deep": (_deep, "more than 32 directories deep"),
    "an object larger than the disk": (_huge, "Cloning|Cannot fetch"),
}


@pytest.fixture
def hosting(
    bench: Bench, settings: SandboxSettings, tmp_path: Path
) -> Iterator[tuple[Bench, GitServer, Path]]:
    """A bench that may reach a git server, and that server."""
    require(shutil.which("git") is not None, "git is not installed")
    with GitServer(tmp_path) as server:
        bench.ears.expect(server.port)
        own = settings.model_copy(update={"allow_private_hosts": [server.address]})
        sandbox = make_sandbox(own)
        try:
            yield bench.on(sandbox), server, tmp_path
        finally:
            sandbox.close()


def test_a_repository_has_nothing_run_while_it_is_cloned(
    hosting: tuple[Bench, GitServer, Path], assignment: str
) -> None:
    bench, server, directory = hosting
    bench.ears.forget()
    for name, (write, wanted) in REPOSITORIES.items():
        at = directory / f"{uuid.uuid4().hex}.git"
        at.mkdir()
        _git(at, "init", "--quiet", "--bare")
        tree = _tree(at, *write(at))
        commit = _git(at, "commit-tree", "-m", name, tree)
        _git(at, "update-ref", "refs/heads/main", commit)
        _git(at, "symbolic-ref", "HEAD", "refs/heads/main")
        submission: dict[str, Any] = {"git": {"url": server.url(at.name)}}
        if isinstance(wanted, str):
            with pytest.raises(GradingError, match=wanted):
                bench.desk.grade(assignment, submission)
        else:
            assert bench.desk.grade(assignment, submission).score == wanted, name
    assert bench.ears.heard() == []
    assert bench.desk.leftovers("corpus") == []
