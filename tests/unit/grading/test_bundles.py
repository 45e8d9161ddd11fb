"""The cache of bundles: whole, private, bounded, and fetched once."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import threading
import time
from pathlib import Path

import pytest

from job_engine.errors import AssignmentError, PlatformFaultError
from job_engine.grading.archive import ArchiveLimits, pack_directory
from job_engine.grading.bundles import ABANDONED_S, BundleCache, document_of


class Blobs:
    """Blobs in memory; can hold a download back."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.downloads = 0
        self.gate = threading.Event()
        self.gate.set()

    def add(self, data: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return digest

    def download_blob(self, digest: str, target: Path) -> None:
        self.downloads += 1
        assert self.gate.wait(10)
        target.write_bytes(self.blobs[digest])


def bundle(tmp_path: Path, name: str = "a", filler: int = 10) -> bytes:
    root = tmp_path / f"bundle-{name}"
    (root / "tests" / "data").mkdir(parents=True)
    (root / "assignment.yaml").write_text(f"name: {name}\n")
    (root / "README.md").write_text("not for the sandbox")
    (root / "tests" / "run.sh").write_text("#!/bin/sh\n")
    (root / "tests" / "run.sh").chmod(0o755)
    (root / "tests" / "data" / "x").write_bytes(b"x" * filler)
    with pack_directory(root) as packed:
        return packed.stream.read()


def cache(tmp_path: Path, max_bytes: int = 2**20) -> BundleCache:
    return BundleCache(tmp_path / "cache", max_bytes, ArchiveLimits())


def test_a_bundle_is_downloaded_once_and_split(tmp_path: Path) -> None:
    blobs, bundles = Blobs(), cache(tmp_path)
    digest = blobs.add(bundle(tmp_path))
    for _ in range(3):
        with bundles.open(digest, blobs) as opened:
            assert opened.document == b"name: a\n"
            with tarfile.open(fileobj=opened.tests) as tar:
                modes = {info.name: info.mode for info in tar}
        assert modes == {"data": 0o755, "data/x": 0o644, "run.sh": 0o755}
    assert blobs.downloads == 1


def test_nobody_else_can_read_the_cache(tmp_path: Path) -> None:
    blobs, bundles = Blobs(), cache(tmp_path)
    with bundles.open(blobs.add(bundle(tmp_path)), blobs):
        pass
    directory = tmp_path / "cache"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert all(
        stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
        for path in directory.rglob("*")
        if path.is_dir()
    )


def test_threads_share_one_download(tmp_path: Path) -> None:
    blobs = Blobs()
    digest = blobs.add(bundle(tmp_path))
    blobs.gate.clear()
    waiting = threading.Semaphore(0)
    seen: list[bytes] = []

    def sleep(_: float) -> None:
        waiting.release()
        threading.Event().wait(0.01)

    def use() -> None:
        # Each with a cache of its own, as processes have.
        with cache(tmp_path).open(digest, blobs, sleep) as opened:
            seen.append(opened.document)

    threads = [threading.Thread(target=use) for _ in range(5)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        assert waiting.acquire(timeout=10)
    blobs.gate.set()
    for thread in threads:
        thread.join(10)
    assert seen == [b"name: a\n"] * 5
    assert blobs.downloads == 1


def test_one_that_waits_can_be_interrupted(tmp_path: Path) -> None:
    blobs, bundles = Blobs(), cache(tmp_path)
    digest = blobs.add(bundle(tmp_path))
    blobs.gate.clear()

    def first() -> None:
        with bundles.open(digest, blobs):
            pass

    thread = threading.Thread(target=first)
    thread.start()
    try:
        while not blobs.downloads:
            threading.Event().wait(0.01)

        def interrupted(_: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), bundles.open(digest, blobs, interrupted):
            pass
    finally:
        blobs.gate.set()
        thread.join(10)


def test_the_least_recently_used_goes_first_and_stays_readable(tmp_path: Path) -> None:
    blobs, bundles = Blobs(), cache(tmp_path, max_bytes=250_000)
    digests = [blobs.add(bundle(tmp_path, f"b{n}", 100_000)) for n in range(3)]
    with bundles.open(digests[0], blobs) as held:
        with bundles.open(digests[1], blobs):
            pass
        with bundles.open(digests[0], blobs):
            pass
        with bundles.open(digests[2], blobs):
            pass
        assert blobs.downloads == 3
        with bundles.open(digests[0], blobs):
            assert blobs.downloads == 3
        with bundles.open(digests[1], blobs):
            assert blobs.downloads == 4
        assert len(held.tests.read()) > 100_000
    assert not list((tmp_path / "cache").glob("old-*"))


def test_a_damaged_download_is_a_fault_and_leaves_nothing(tmp_path: Path) -> None:
    blobs, bundles = Blobs(), cache(tmp_path)
    digest = blobs.add(bundle(tmp_path))
    good = blobs.blobs[digest]
    blobs.blobs[digest] = good[:-1] + b"!"
    with pytest.raises(PlatformFaultError, match="damaged"), bundles.open(digest, blobs):
        pass
    blobs.blobs[digest] = good
    with bundles.open(digest, blobs) as opened:
        assert opened.document
    assert not list((tmp_path / "cache").glob("new-*"))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["tests/run.sh"], "no assignment.yaml"),
        (["assignment.yaml"], "no files in tests/"),
        (["deep/er/assignment.yaml", "tests/x"], "no assignment.yaml"),
        (["../assignment.yaml"], "climbs"),
    ],
)
def test_a_blob_that_is_no_bundle_is_refused(tmp_path: Path, names: list[str], why: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    blobs, bundles = Blobs(), cache(tmp_path)
    digest = blobs.add(out.getvalue())
    with pytest.raises(AssignmentError, match=why), bundles.open(digest, blobs):
        pass


def test_a_digest_that_is_none_never_becomes_a_path(tmp_path: Path) -> None:
    with pytest.raises(AssignmentError), cache(tmp_path).open("sha256:../../x", Blobs()):
        pass


def test_a_bundle_is_checked_before_it_is_uploaded(tmp_path: Path) -> None:
    assert document_of(io.BytesIO(bundle(tmp_path))) == b"name: a\n"


def test_entries_left_by_killed_processes_are_removed(tmp_path: Path) -> None:
    blobs, bundles = Blobs(), cache(tmp_path)
    for name, age_s in (("new-killed", ABANDONED_S + 60), ("old-killed", ABANDONED_S + 60)):
        left = tmp_path / "cache" / name
        left.mkdir(parents=True)
        (left / "blob").write_bytes(b"half of one")
        for path in (left / "blob", left):
            os.utime(path, (time.time() - age_s, time.time() - age_s))
    (tmp_path / "cache" / "new-alive").mkdir()
    with bundles.open(blobs.add(bundle(tmp_path)), blobs):
        pass
    left_over = {path.name for path in (tmp_path / "cache").iterdir() if "-" in path.name}
    assert left_over == {"new-alive"}
