"""A file is followed for what it gains, whatever is done to it meanwhile."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from job_engine.sandbox.growth import LOOK_BYTES, MAX_BYTES, Growth

Look = Callable[[], bytes]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree, with a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret\n")
    (tmp_path / "tree" / "out").mkdir(parents=True)
    return tmp_path / "tree"


@pytest.fixture
def look(tree: Path) -> Iterator[Look]:
    """Looks at `out/tests.jsonl` of the tree."""
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    growth = Growth("./out/tests.jsonl")
    yield lambda: growth.look(root)
    os.close(root)


def test_each_look_returns_new_bytes(tree: Path, look: Look) -> None:
    assert look() == b""
    with (tree / "out" / "tests.jsonl").open("ab", buffering=0) as file:
        file.write(b"one\ntw")
        assert (look(), look()) == (b"one\ntw", b"")
        file.write(b"o\n")
        assert (look(), look()) == (b"o\n", b"")


def test_no_link_is_followed_on_the_way_nor_at_the_end(tree: Path, look: Look) -> None:
    (tree / "out" / "tests.jsonl").symlink_to("../../secret")
    assert look() == b""
    (tree / "out" / "tests.jsonl").unlink()
    (tree / "out").rmdir()
    (tree.parent / "tests.jsonl").write_bytes(b"secret\n")
    (tree / "out").symlink_to("..")
    assert look() == b""
    (tree / "out").unlink()
    (tree / "out").write_bytes(b"no directory")
    assert look() == b""
    (tree / "out").unlink()
    (tree / "out").mkdir()
    (tree / "out" / "tests.jsonl").write_bytes(b"at last\n")
    assert look() == b"at last\n"


def test_only_regular_files_are_opened(tree: Path, look: Look) -> None:
    path = tree / "out" / "tests.jsonl"
    os.mkfifo(path)
    # Goes on as soon as somebody opens it to read.
    writer = threading.Thread(target=lambda: os.close(os.open(path, os.O_WRONLY)))
    writer.start()
    assert {look() for _ in range(200)} == {b""}
    assert writer.is_alive()
    os.close(os.open(path, os.O_RDONLY))
    writer.join()
    path.unlink()
    path.mkdir()
    assert look() == b""


def test_a_lease_does_not_delay_reading(tree: Path, look: Look) -> None:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    path = tree / "out" / "tests.jsonl"
    path.write_bytes(b"one\n")
    try:
        with path.open("r+b") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            assert look() == b""
        assert look() == b"one\n"
    finally:
        signal.signal(signal.SIGIO, before)


def test_a_file_in_place_of_another_is_read_on(tree: Path, look: Look) -> None:
    path = tree / "out" / "tests.jsonl"
    path.write_bytes(b"one\n")
    assert look() == b"one\n"
    (tree / "new").write_bytes(b"one\ntwo\n")
    (tree / "new").rename(path)
    assert look() == b"two\n"


def test_a_file_that_was_cut_is_not_followed_any_more(tree: Path, look: Look) -> None:
    path = tree / "out" / "tests.jsonl"
    path.write_bytes(b"one\ntwo\n")
    assert look() == b"one\ntwo\n"
    path.write_bytes(b"one\n")
    assert look() == b""
    path.write_bytes(b"one\ntwo\nthree\n")
    assert look() == b""


def test_growth_without_end_is_read_to_its_bound(tree: Path, look: Look) -> None:
    with (tree / "out" / "tests.jsonl").open("wb") as file:
        file.truncate(2**30)
    looks = [look() for _ in range(MAX_BYTES // LOOK_BYTES)]
    assert {len(data) for data in looks} == {LOOK_BYTES}
    assert look() == b""
