"""The executor's cache of assignment bundles, by digest.

A bundle is downloaded and parsed once, and kept as `assignment.yaml` and a clean tar of its
tests. Threads and processes of one user share the directory. Entries are renamed into place,
so they are complete; other users may not read them. An entry in use may be evicted, because its
users have the files open.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from job_engine.errors import ArchiveError, AssignmentError, PlatformFaultError
from job_engine.grading.archive import ArchiveLimits, Collector, unpack
from job_engine.grading.assignment import FILE_NAME, TESTS_DIRECTORY
from job_engine.grading.locks import locked
from job_engine.settings import GradingSettings

DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

ABANDONED_S: Final = 3600.0
"""Seconds without a change after which an unfinished entry counts as a killed process's."""
_CHUNK: Final = 256 * 1024
_TESTS_FILE: Final = "tests.tar"


class BlobSource(Protocol):
    """Where blobs come from; `job_engine.client.Api` is one."""

    def download_blob(self, digest: str, target: Path) -> None:
        """Write the blob `sha256:<hex>` to `target`."""


@dataclass(frozen=True)
class Bundle:
    """One assignment bundle, open."""

    digest: str
    document: bytes
    """`assignment.yaml` as it was uploaded."""
    tests: IO[bytes]
    """Clean tar of the directory `tests/`, positioned at its start."""


class BundleCache:
    """A cache of bundles on disk, limited in bytes; evicts the least recently used."""

    def __init__(self, directory: Path, max_bytes: int, limits: ArchiveLimits) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._limits = limits

    @classmethod
    def from_settings(cls, settings: GradingSettings) -> BundleCache:
        """Make the cache that an executor's settings describe."""
        limits = ArchiveLimits(
            max_entries=50_000,
            max_bytes=settings.max_bundle_bytes,
            max_file_bytes=settings.max_bundle_bytes,
            # Bundles are written by staff, and may contain large files of zeros.
            ratio_free_bytes=settings.max_bundle_bytes,
        )
        return cls(settings.bundle_cache_dir, settings.bundle_cache_bytes, limits)

    @contextmanager
    def open(
        self,
        digest: str,
        source: BlobSource,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[Bundle]:
        """Open the bundle, from the cache or from `source`.

        `sleep` is called while another thread or process downloads the same bundle, and
        may raise to give up. Raises `AssignmentError` for an invalid bundle, and
        `PlatformFaultError` for an incomplete download.
        """
        if not DIGEST.fullmatch(digest):
            raise AssignmentError(f"{digest!r} is no digest of an assignment (sha256:<64 hex>).")
        bundle = self._cached(digest)
        if bundle is None:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self._directory / f"{self._entry(digest).name}.lock", sleep):
                bundle = self._cached(digest) or self._fetch(digest, source)
            self._evict(keep=digest)
        try:
            yield bundle
        finally:
            bundle.tests.close()

    def _entry(self, digest: str) -> Path:
        return self._directory / digest.removeprefix("sha256:")

    def _cached(self, digest: str) -> Bundle | None:
        entry = self._entry(digest)
        try:
            document = (entry / FILE_NAME).read_bytes()
            tests = (entry / _TESTS_FILE).open("rb")
        except FileNotFoundError:
            return None
        with contextlib.suppress(FileNotFoundError):
            # An explicit time, because the kernel's clock for files has a coarse resolution.
            now = time.time_ns()
            os.utime(entry, ns=(now, now))
        return Bundle(digest, document, tests)

    def _fetch(self, digest: str, source: BlobSource) -> Bundle:
        new = Path(tempfile.mkdtemp(prefix="new-", dir=self._directory))
        try:
            blob = new / "blob"
            source.download_blob(digest, blob)
            _verify(blob, digest)
            with blob.open("rb") as file:
                self._convert(file, new)
            blob.unlink()
            try:
                new.rename(self._entry(digest))
            except OSError as error:
                raise PlatformFaultError(f"The bundle cache cannot be written: {error}") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
        bundle = self._cached(digest)
        if bundle is None:
            raise PlatformFaultError("The bundle was evicted at once; the cache is too small.")
        return bundle

    def _convert(self, blob: IO[bytes], entry: Path) -> None:
        """Split the bundle into `assignment.yaml` and the tar of tests in `entry`."""
        try:
            with unpack(blob, limits=self._limits, strip=True, spool_dir=entry) as whole:
                document, tests = _split(whole.stream, self._limits, entry)
        except ArchiveError as error:
            raise AssignmentError(f"The assignment's bundle: {error.message}") from error
        (entry / FILE_NAME).write_bytes(document)
        with tests, os.fdopen(_create(entry / _TESTS_FILE), "wb") as out:
            shutil.copyfileobj(tests, out, _CHUNK)

    def _evict(self, keep: str) -> None:
        """Remove the least recently used entries until the cache fits, and left-overs."""
        self._clear_abandoned()
        entries: list[tuple[float, int, Path]] = []
        for entry in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir() and not entry.name.startswith(("new-", "old-")):
                    size = sum(file.stat().st_size for file in entry.iterdir())
                    entries.append((entry.stat().st_mtime, size, entry))
        excess = sum(size for _, size, _ in entries) - self._max_bytes
        for _, size, entry in sorted(entries):
            if excess <= 0:
                return
            if entry != self._entry(keep):
                excess -= size
                # Renamed first, so that no reader sees a partly deleted entry.
                gone = Path(tempfile.mkdtemp(prefix="old-", dir=self._directory))
                with contextlib.suppress(FileNotFoundError):
                    entry.rename(gone / "entry")
                shutil.rmtree(gone, ignore_errors=True)

    def _clear_abandoned(self) -> None:
        """Remove what processes that were killed left behind."""
        for left in [*self._directory.glob("new-*"), *self._directory.glob("old-*")]:
            with contextlib.suppress(FileNotFoundError):
                touched = max(path.stat().st_mtime for path in (left, *left.iterdir()))
                if time.time() - touched > ABANDONED_S:
                    shutil.rmtree(left, ignore_errors=True)


def document_of(bundle: IO[bytes], limits: ArchiveLimits | None = None) -> bytes:
    """Return the `assignment.yaml` of a bundle that is not cached, for checks before upload."""
    limits = limits or ArchiveLimits()
    with unpack(bundle, limits=limits, strip=True) as whole:
        document, tests = _split(whole.stream, limits, None)
        tests.close()
        return document


def _split(
    stream: IO[bytes], limits: ArchiveLimits, spool_dir: Path | None
) -> tuple[bytes, IO[bytes]]:
    document: bytes | None = None
    tests = Collector(limits, limits.max_bytes, spool_dir)
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for info in tar:
                top, _, below = info.name.partition("/")
                if info.name == FILE_NAME and info.isreg():
                    file = tar.extractfile(info)
                    document = file.read() if file is not None else None
                elif top == TESTS_DIRECTORY and below:
                    tests.copy(tar, info, below)
        if document is None:
            raise AssignmentError(
                f"The bundle has no {FILE_NAME} at its top. Pack the assignment's directory."
            )
        try:
            return document, tests.finish().stream
        except ArchiveError as error:
            if "no files" not in error.message:
                raise
            raise AssignmentError(f"The bundle has no files in {TESTS_DIRECTORY}/.") from None
    finally:
        tests.close()


def _verify(blob: Path, digest: str) -> None:
    with blob.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if f"sha256:{actual}" != digest:
        raise PlatformFaultError(f"The bundle {digest} arrived damaged.")


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
