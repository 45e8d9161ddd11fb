"""The parts of the bubblewrap backend that need neither root nor bubblewrap."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from job_engine.errors import ImageUnavailableError, SandboxError
from job_engine.sandbox.base import Mount, OwnRoot, PhaseSpec, Reach
from job_engine.sandbox.bubblewrap import walk
from job_engine.sandbox.bubblewrap.command import bwrap_options, image_binds
from job_engine.sandbox.bubblewrap.launch import may_wait
from job_engine.sandbox.bubblewrap.own_root import KeptRoots
from job_engine.sandbox.bubblewrap.uids import UidPool
from job_engine.sandbox.bubblewrap.walk import MAX_DEPTH, Harvest, holds_file_of
from job_engine.sandbox.bubblewrap.wire import Channel

PHASE = PhaseSpec(
    name="test",
    command=("sh", "-c", "exit 0"),
    mounts=(
        Mount(tree="results", target="/mnt/submission/results"),
        Mount(tree="workspace", target="/mnt/submission", read_only=True),
    ),
    workdir="/mnt/submission",
)


def roots(directory: Path | None) -> KeptRoots:
    return KeptRoots(Path("/nonexistent"), directory)


def joined(phase: PhaseSpec) -> str:
    return " ".join(bwrap_options(phase, ("--ro-bind", "/usr", "/usr")))


def test_command_isolates_everything_but_the_network_that_is_already_its_own() -> None:
    line = joined(PHASE)
    for words in (
        "--unshare-all --unshare-user --share-net",
        "--uid 1000 --gid 1000",
        "--die-with-parent --new-session",
        "--remount-ro /dev --remount-ro / --clearenv",
        "--chdir /mnt/submission",
    ):
        assert words in line
    assert "kvm" not in line
    assert "proxy" not in line


def test_outer_trees_are_bound_before_inner_ones() -> None:
    outer = "--ro-bind /slot/trees/workspace /mnt/submission "
    inner = "--bind /slot/trees/results /mnt/submission/results "
    assert outer + inner in joined(PHASE)


def test_reach_shows_in_the_environment_only() -> None:
    reaching = PhaseSpec(name="clone", command=("git",), reach=(Reach(host="h", port=443),))
    assert "--setenv https_proxy http://127.0.0.1:3128" in joined(reaching)


def test_a_phase_waits_unless_what_it_is_made_of_may_still_change() -> None:
    side_by_side = (Mount(tree="a", target="/mnt/a"), Mount(tree="b", target="/mnt/ab"))
    assert may_wait(PhaseSpec(name="test", command=("true",), mounts=side_by_side))
    assert not may_wait(PHASE)  # one tree is inside another
    assert not may_wait(PhaseSpec(name="test", command=("true",), own_root=OwnRoot()))


@pytest.mark.parametrize("image", ["absent", "", "a/b", "..", "."])
def test_images_are_names_of_directories(tmp_path: Path, image: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(ImageUnavailableError):
        image_binds(roots(tmp_path), image)
    with pytest.raises(ImageUnavailableError, match="rootfs_dir"):
        image_binds(roots(None), image)


def test_image_brings_its_own_system_but_no_places_of_ours(tmp_path: Path) -> None:
    for name in ("usr", "proc", "tmp", "mnt", "opt"):
        (tmp_path / "debian" / name).mkdir(parents=True)
    (tmp_path / "debian" / "bin").symlink_to("usr/bin")
    assert image_binds(roots(tmp_path), "debian") == (
        *("--symlink", "usr/bin", "/bin"),
        *("--ro-bind", "/images/debian/opt", "/opt"),
        *("--ro-bind", "/images/debian/usr", "/usr"),
        *("--dir", "/run"),
    )


def test_uids_are_leased_once_and_again_after_release(tmp_path: Path) -> None:
    pool, other = UidPool(tmp_path, 5000, 2), UidPool(tmp_path, 5000, 2)
    first, second = pool.lease(), other.lease()
    assert (first.first, second.first) == (5000, 5002)
    with pytest.raises(SandboxError, match="all 2 uid ranges"):
        pool.lease()
    first.release()
    first.release()
    again = other.lease()
    assert again.first == 5000
    again.release()
    second.release()


def test_a_lease_lasts_as_long_as_any_copy_of_its_lock(tmp_path: Path) -> None:
    pool = UidPool(tmp_path, 5000, 1)
    lease = pool.lease()
    survivor = os.dup(lease.lock)
    lease.release()
    with pytest.raises(SandboxError):
        pool.lease()
    os.close(survivor)
    pool.lease().release()


def test_wire_carries_heads_bodies_and_descriptors() -> None:
    one, other = Channel.pair()
    read, write = os.pipe()
    one.send({"op": "run"}, b"a\nb\0", [write])
    os.close(write)
    message = other.receive()
    assert message is not None
    assert (message.head, message.body) == ({"op": "run"}, b"a\nb\0")
    assert not os.get_inheritable(message.fds[0])
    os.write(message.fds[0], b"through")
    assert os.read(read, 10) == b"through"
    os.close(read)
    os.close(message.fds[0])
    one.close()
    assert other.receive() is None
    other.close()


def harvest(tree: Path, path: str = ".", size: int = 100, count: int = 10) -> Harvest:
    found = Harvest(size, count)
    for _, length, chunks in found.files(str(tree), path):
        assert sum(map(len, chunks)) == length
    return found


def test_directories_count_as_entries_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "MAX_LOOKED_AT", 20)
    # One below the other, so that whatever order they come in the file is the last one.
    deep = tmp_path.joinpath(*["d"] * (MAX_DEPTH - 2))
    deep.mkdir(parents=True)
    (deep / "f").write_text("x" * 9)
    assert not holds_file_of([str(tmp_path)], 9)
    assert harvest(tmp_path).left_out == ["(and more)"]
    assert holds_file_of([str(deep)], 9)


def test_harvest_stops_at_depth_and_at_names(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * (MAX_DEPTH + 2))
    deep.mkdir(parents=True)
    (deep / "f").write_text("x")
    [name] = harvest(tmp_path).left_out
    assert name.count("/d") == MAX_DEPTH + 1
    for number in range(1_200):
        (tmp_path / f"{number}").write_text("")
    left_out = harvest(tmp_path, count=0).left_out
    assert (len(left_out), left_out[-1]) == (1_001, "(and more)")


def test_harvest_never_leaves_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("x")
    (tmp_path / "tree" / "link").symlink_to("../outside")
    for path in ("link", "link/.", "./link"):
        assert harvest(tmp_path / "tree", path).left_out == ["tree/link"]
    assert harvest(tmp_path / "tree").left_out == ["tree/link"]


def test_a_file_cut_at_the_limit_is_found(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(bytes(100))
    (tmp_path / "l").symlink_to("d/f")
    assert holds_file_of([str(tmp_path)], 100)
    assert not holds_file_of([str(tmp_path)], 99)
