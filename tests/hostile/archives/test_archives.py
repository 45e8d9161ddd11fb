"""Archives that climb, bomb, overlap, link out, lie or collide: each refused, and saying why."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from job_engine.errors import ArchiveError
from job_engine.grading.archive import ArchiveLimits, unpack

SMALL = ArchiveLimits(
    max_entries=50, max_bytes=200_000, max_file_bytes=100_000, ratio_free_bytes=50_000, max_ratio=10
)


def tar_of(*members: tuple[tarfile.TarInfo, bytes], fmt: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=fmt) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def zip_of(
    *files: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def zip_entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def refused(data: bytes, limits: ArchiveLimits = SMALL) -> str:
    with pytest.raises(ArchiveError) as caught:
        unpack(io.BytesIO(data), limits=limits)
    return caught.value.message


CLIMBING = [
    ("/etc/passwd", "absolute"),
    ("../x", "climbs"),
    ("a/../../x", "climbs"),
    ("a/..", "climbs"),
    ("..\\x", "backslash"),
    ("C:/x", "drive"),
    ("c:x", "drive"),
    ("a\x01b", "control"),
    ("a\x1b[31mb", "control"),
    ("a\nb", "control"),
    ("evil\u202ec.exe", "control"),
    ("x" * 256, "too long"),
    ("d/" * 40 + "x", "deep"),
]


@pytest.mark.parametrize(("name", "why"), CLIMBING)
def test_names_are_refused_in_tar(name: str, why: str) -> None:
    assert why in refused(tar_of((member(name), b"x")))


@pytest.mark.parametrize(("name", "why"), CLIMBING)
def test_names_are_refused_in_zip(name: str, why: str) -> None:
    assert why in refused(zip_of((name, b"x")))


def test_a_name_cut_by_nul_is_refused() -> None:
    data = zip_of(("good.cXbad", b"x")).replace(b"good.cXbad", b"good.c\0bad")
    assert "control" in refused(data)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.GNUTYPE_SPARSE, "sparse"),
        (b"Z", "kind"),
    ],
)
def test_members_that_are_no_files_are_refused(kind: bytes, why: str) -> None:
    data = tar_of((member("ok"), b"x"), (member("bad", kind, "ok"), b""), fmt=tarfile.GNU_FORMAT)
    assert why in refused(data)


@pytest.mark.parametrize("mode", [0o010644, 0o020644, 0o060644, 0o140644])
def test_devices_in_a_zip_are_refused(mode: int) -> None:
    assert "device" in refused(zip_of((zip_entry("x", mode), b"")))


@pytest.mark.parametrize(
    "links",
    [
        [("a", "/etc/passwd")],
        [("a", "../x")],
        [("d/a", "../../x")],
        [("a", "")],
        [("a", "b\\c")],
        [("a", "x\x1b")],
        # Lexically inside, really outside: the first step is a link that leads up.
        [("p/q/r", "../.."), ("a", "p/q/r/../x")],
        [("b", "c"), ("a", "b/../..")],
    ],
)
def test_links_out_are_refused(links: list[tuple[str, str]]) -> None:
    entries = [(member(name, tarfile.SYMTYPE, to), b"") for name, to in links]
    assert "link" in refused(tar_of((member("c/file"), b"x"), *entries))
    zipped = [(zip_entry(name, 0o120777), to.encode()) for name, to in links]
    assert "link" in refused(zip_of(("c/file", b"x"), *zipped))


def test_nothing_is_written_through_a_link() -> None:
    data = tar_of((member("d", tarfile.SYMTYPE, "c"), b""), (member("d/x"), b"x"))
    assert "twice" in refused(data)


def test_a_link_that_climbs_out_of_the_stripped_top_is_refused() -> None:
    data = tar_of((member("top/x"), b"x"), (member("top/l", tarfile.SYMTYPE, "../top/x"), b""))
    unpack(io.BytesIO(data)).stream.close()
    with pytest.raises(ArchiveError, match="link"):
        unpack(io.BytesIO(data), strip=True)


@pytest.mark.parametrize(
    ("one", "two", "why"),
    [
        ("a", "a", "twice"),
        ("Makefile", "makefile", "same on some systems"),
        ("D/x", "d/y", "same on some systems"),
        ("caf\u00e9", "cafe\u0301", "same on some systems"),
        ("\u00df", "ss", "same on some systems"),
        ("a", "a/b", "twice"),
        ("a//b", "a/./b", "twice"),
    ],
)
def test_collisions_are_refused(one: str, two: str, why: str) -> None:
    assert why in refused(tar_of((member(one), b"1"), (member(two), b"2")))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_a_zip_is_refused() -> None:
    assert "twice" in refused(zip_of(("a", b"1"), ("a", b"2")))


BOMB = bytes(5_000_000)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(tar_of((member("x"), BOMB))),
        lzma.compress(tar_of((member("x"), BOMB))),
        zstandard.compress(tar_of((member("x"), BOMB))),
        zip_of(("x", BOMB)),
        zip_of(*((f"x{n}", bytes(90_000)) for n in range(40))),
        gzip.compress(tar_of(*((member(f"x{n}"), bytes(90_000)) for n in range(40)))),
    ],
    ids=["gz", "xz", "zst", "zip", "zip-many", "gz-many"],
)
def test_bombs_are_refused(data: bytes) -> None:
    message = refused(data)
    assert "larger than" in message or "more than" in message or "bomb" in message


def test_headers_without_members_are_counted() -> None:
    long_name = tar_of((member("x" * 300), b""), fmt=tarfile.GNU_FORMAT)[:1024]
    assert "too many" in refused(gzip.compress(long_name * 500))


def test_data_after_the_end_of_a_tar_is_never_decompressed() -> None:
    data = gzip.compress(tar_of((member("x"), b"x")) + BOMB)
    with unpack(io.BytesIO(data), limits=SMALL) as unpacked:
        assert unpacked.files == ("x",)


def test_too_many_entries_are_refused() -> None:
    assert "entries" in refused(tar_of(*((member(f"f{n}"), b"") for n in range(60))))
    assert "entries" in refused(zip_of(*((f"f{n}", b"") for n in range(60))))


def test_an_extended_header_of_any_size_is_not_taken_into_memory() -> None:
    info = member("pax", tarfile.XHDTYPE)
    info.size = 8 * 2**30
    assert "extended header" in refused(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))


def test_extended_headers_are_limited_together() -> None:
    record = b"5 a=\n"
    pax = (member("pax", tarfile.XHDTYPE), record * 10_000)
    assert "extended headers" in refused(gzip.compress(tar_of(pax, pax)))
    with unpack(io.BytesIO(gzip.compress(tar_of(pax, (member("x"), b"")))), limits=SMALL) as small:
        assert small.files == ("x",)


def test_a_global_header_cannot_rename_what_follows() -> None:
    record = b"18 path=../climber\n"
    record = b"%d path=../climber\n" % (len(record))
    data = tar_of((member("g", tarfile.XGLTYPE), record), (member("x"), b"x"))
    assert "global" in refused(data) or "damaged" in refused(data)


def test_a_zip_that_lies_about_its_sizes_is_refused() -> None:
    honest = zip_of(("x", b"y" * 1000))
    for declared in (10, 5000):
        lying = honest.replace(struct.pack("<L", 1000), struct.pack("<L", declared))
        assert "declares" in refused(lying)
    wrong = honest.replace(struct.pack("<L", zlib.crc32(b"y" * 1000)), b"\1\2\3\4")
    assert "declares" in refused(wrong)


def overlapping() -> bytes:
    """Two records of the central directory that name one local member."""
    one = zip_of(("x", b"kernel" * 100))
    directory = one.index(b"PK\x01\x02")
    end = one.index(b"PK\x05\x06")
    record = one[directory:end]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, 2 * len(record), directory, 0)
    return one[:directory] + record * 2 + tail


def test_overlapping_members_are_refused() -> None:
    assert "overlaps" in refused(overlapping())


@pytest.mark.parametrize("at", [2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_member_beyond_all_files_is_refused(at: int, tmp_path: Path) -> None:
    extra = struct.pack("<HHQ", 1, 8, at)
    fixed = struct.pack("<4s4B4H3L", b"PK\x01\x02", 45, 3, 45, 0, 0, 0, 0, 0, 0, 1, 1)
    record = fixed + struct.pack("<5H2L", 1, len(extra), 0, 0, 0, 0, 0xFFFFFFFF) + b"a" + extra
    local = zip_of(("a", b"x"))[:32]
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(record), len(local), 0)
    assert "beyond" in refused(local + record + end)
    # A file answers otherwise than memory does.
    file = tmp_path / "far.zip"
    file.write_bytes(local + record + end)
    with file.open("rb") as source, pytest.raises(ArchiveError, match="beyond"):
        unpack(source, limits=SMALL)


def test_a_member_with_two_names_is_refused() -> None:
    data = zip_of(("one.c", b"x"))
    assert "two different names" in refused(data.replace(b"one.c", b"two.c", 1))


def test_encryption_and_odd_compression_are_refused() -> None:
    data = bytearray(zip_of(("x", b"x")))
    at = data.index(b"PK\x01\x02") + 8
    data[at] |= 1
    assert "password" in refused(bytes(data))
    assert "deflate" in refused(zip_of(("x", b"x" * 100), method=zipfile.ZIP_LZMA))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no archive"),
        (b"hello", "no archive"),
        (b"Rar!\x1a\x07\x00", "RAR"),
        (b"BZh91AY&SY", "bzip2"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04 and no more", "damaged"),
        (b"\x1f\x8b\x08\x00garbage", "damaged"),
        (b"\xfd7zXZ\x00garbage", "damaged"),
        (b"\x28\xb5\x2f\xfdgarbage", "damaged"),
        (gzip.compress(b"no tar inside" * 100), "damaged"),
        (gzip.compress(tar_of((member("x"), b"x" * 9000)))[:80], "damaged"),
        (tar_of((member("x"), b"x" * 9000))[:4000], "damaged"),
        (tar_of(), "no archive"),
        (zip_of(), "no files"),
    ],
)
def test_data_that_is_no_archive_is_refused(data: bytes, why: str) -> None:
    assert why in refused(data)


COMPRESSORS: list[Callable[[bytes], bytes]] = [
    bytes,
    gzip.compress,
    lzma.compress,
    zstandard.compress,
]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), pack=st.sampled_from(COMPRESSORS))
def test_no_damage_gets_past(data: st.DataObject, pack: Callable[[bytes], bytes]) -> None:
    """Whatever is flipped, there is a clean tree or an `ArchiveError`, nothing else."""
    make = data.draw(st.sampled_from(["tar", "zip"]))
    base = (
        pack(tar_of((member("d/x"), b"one" * 50), (member("l", tarfile.SYMTYPE, "d/x"), b"")))
        if make == "tar"
        else zip_of(("d/x", b"one" * 50), (zip_entry("l", 0o120777), b"d/x"))
    )
    raw = bytearray(base)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpacked = unpack(io.BytesIO(bytes(raw)), limits=SMALL)
    except ArchiveError:
        return
    with unpacked, tarfile.open(fileobj=unpacked.stream) as tar:
        for info in tar:
            assert info.isreg() or info.isdir() or info.issym()
            assert not info.name.startswith("/")
            assert ".." not in info.name.split("/")
            assert info.mode & 0o7022 == 0 or info.issym()
            assert (info.uid, info.gid, info.mtime) == (0, 0, 0)
