"""What honest archives become: the same clean tar, whatever they were packed with."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from job_engine.errors import ArchiveError
from job_engine.grading.archive import (
    Unpacked,
    is_plain,
    pack_directory,
    pack_submission,
    unpack,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    (root / "src").mkdir(parents=True)
    (root / "src" / "main.c").write_text("int main(void) { return 0; }\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o4755)
    (root / "empty").mkdir()
    (root / "link").symlink_to("src/main.c")
    (root / ("l" * 150 + "é")).write_text("long name")
    return root


def contents(unpacked: Unpacked) -> dict[str, tuple[bytes, int, bytes | str | None]]:
    found: dict[str, tuple[bytes, int, bytes | str | None]] = {}
    with unpacked, tarfile.open(fileobj=unpacked.stream) as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isreg() else None
            found[info.name] = (info.type, info.mode, file.read() if file else info.linkname)
    return found


def as_tar(tree: Path, fmt: int = tarfile.PAX_FORMAT, top: str = ".") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as tar:
        tar.add(tree, top)
    return out.getvalue()


def test_every_format_gives_the_same_tree(tree: Path) -> None:
    expected = pack_directory(tree)
    for data in (
        as_tar(tree),
        as_tar(tree, tarfile.GNU_FORMAT),
        gzip.compress(as_tar(tree)),
        lzma.compress(as_tar(tree)),
        zstandard.compress(as_tar(tree)),
        lzma.compress(as_tar(tree)[:700]) + lzma.compress(as_tar(tree)[700:]),
        gzip.compress(as_tar(tree)[:700]) + gzip.compress(as_tar(tree)[700:]),
    ):
        with unpack(io.BytesIO(data)) as unpacked:
            assert unpacked.digest == expected.digest
            assert unpacked.files == expected.files
    found = contents(expected)
    assert found["run.sh"] == (tarfile.REGTYPE, 0o755, b"#!/bin/sh\n")
    assert found["src/main.c"][1] == 0o644
    assert found["link"] == (tarfile.SYMTYPE, 0o777, "src/main.c")
    assert found["empty"][0] == tarfile.DIRTYPE
    assert list(found)[-1] == "link"


def test_zip_gives_the_same_tree(tmp_path: Path) -> None:
    root = tmp_path / "w"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a.py").write_text("x = 1\n")
    (root / "go").write_text("#!/bin/sh\n")
    (root / "go").chmod(0o755)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, path.relative_to(root))
        archive.writestr("__MACOSX/._go", b"noise")
        archive.writestr("src/.DS_Store", b"noise")
    with unpack(out) as unpacked, pack_directory(root) as packed:
        assert unpacked.digest == packed.digest


def test_a_streamed_zip_with_data_descriptors_is_read() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"aaa")
        archive.writestr("b", b"bbb")
    with unpack(io.BytesIO(bytes(pipe.data))) as unpacked:
        assert unpacked.files == ("a", "b")


def test_strip_drops_a_single_top_level_directory(tree: Path) -> None:
    data = as_tar(tree, top="submission-main")
    with unpack(io.BytesIO(data), strip=True) as stripped, pack_directory(tree) as packed:
        assert stripped.digest == packed.digest
    with unpack(io.BytesIO(data)) as kept:
        assert "submission-main/run.sh" in kept.files


def test_strip_leaves_a_flat_archive_alone() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("main.c", b"x")
    with unpack(out, strip=True) as unpacked:
        assert unpacked.files == ("main.c",)


def test_a_bundle_has_one_digest_whatever_the_machine(tree: Path, tmp_path: Path) -> None:
    with pack_directory(tree) as one:
        first = one.digest, one.stream.read()
    for path in tree.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__" / "x.pyc").write_bytes(b"machine")
    with pack_directory(tree) as two:
        assert (two.digest, two.stream.read()) == first


def test_a_packed_submission_unpacks_to_the_same(tree: Path) -> None:
    out = io.BytesIO()
    digest = pack_submission(tree, out)
    with unpack(out) as unpacked:
        assert unpacked.digest == digest


def test_packing_refuses_what_unpacking_would(tree: Path) -> None:
    (tree / "out").symlink_to("/etc/passwd")
    with pytest.raises(ArchiveError, match="link"):
        pack_directory(tree)


def test_large_trees_spill_to_unlinked_files(tmp_path: Path) -> None:
    out = io.BytesIO()
    content = os.urandom(9 * 2**20)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("big", content)
    spool = tmp_path / "spool"
    spool.mkdir()
    with unpack(out, spool_dir=spool) as unpacked:
        assert unpacked.size_bytes == len(content)
        assert list(spool.iterdir()) == []


def test_a_single_file_is_distinguished_from_archives_and_refused_formats(
    tree: Path, tmp_path: Path
) -> None:
    def plain(data: bytes) -> bool:
        (tmp_path / "file").write_bytes(data)
        return is_plain(tmp_path / "file")

    assert all(map(plain, (b"", b"int main(void) {}\n" * 100, b"print(1)", b"\x89PNG\r\n")))
    tar = as_tar(tree)
    archives = (tar, gzip.compress(tar), lzma.compress(tar), zstandard.compress(tar), b"PK\3\4x")
    assert not any(map(plain, (*archives, b"Rar!\x1a\x07", b"%PDF-1.7", b"\x7fELF")))
