"""What only the bubblewrap backend promises: uids, root file systems, its own processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from job_engine.errors import ImageUnavailableError, JobEngineError, SandboxError
from job_engine.sandbox.base import WORKSPACE, Inputs, Mount, PhaseStarted, Tree, Verdict
from job_engine.sandbox.bubblewrap.backend import BubblewrapSandbox
from job_engine.settings import SandboxSettings
from tests.conftest import require
from tests.contract.sandbox import bubblewrap_host
from tests.contract.sandbox.runner import (
    HOME,
    LIMITS,
    TREE,
    assert_grades_normally,
    phase,
    python,
    results,
    run,
    run_all,
    sh,
    tar,
)

pytestmark = pytest.mark.bubblewrap
LABEL = f"bubblewrap-{os.getpid()}"
_MEMORY_LIMITS = ("memory.max", "memory.limit_in_bytes")
"""Of both versions of control groups."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BubblewrapSandbox]:
    with closing(BubblewrapSandbox(bubblewrap_host.settings())) as made:
        try:
            made.check()
        except JobEngineError as error:
            require(False, error.message)
        yield made
    assert bubblewrap_host.leftovers(LABEL) == []


def wait_for_command(label: str, name: str) -> list[psutil.Process]:
    """Return every process in the label's slots, once one of them runs a program."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [process for process in psutil.process_iter() if label in _cgroup(process)]
        if any(_name(process) == name for process in found):
            return found
        time.sleep(0.005)
    raise AssertionError(f"no {name} in the slots of {label}")


def _cgroup(process: psutil.Process) -> str:
    try:
        return Path(f"/proc/{process.pid}/cgroup").read_text()
    except OSError:
        return ""


def _name(process: psutil.Process) -> str | None:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return None


def test_nothing_in_a_slot_is_host_root_and_no_two_share_a_uid(sandbox: BubblewrapSandbox) -> None:
    slots = []
    try:
        for number in range(3):
            label = f"{LABEL}-{number}"
            slot = sandbox.prepare(label=label, phases=(sh("sleep 60"),), trees=(TREE,))
            slots.append(slot)
            slot.go(Inputs())
            assert isinstance(next(slot.collect()), PhaseStarted)
        seen: set[int] = set()
        for number in range(3):
            members = wait_for_command(f"{LABEL}-{number}", "sleep")
            assert len(members) >= 3
            uids = {uid for process in members for uid in process.uids()}
            assert min(uids) >= 2_000_000
            assert not uids & seen
            seen |= uids
    finally:
        for slot in slots:
            slot.destroy()


def test_a_uid_is_free_again_after_its_slot(sandbox: BubblewrapSandbox) -> None:
    first = run(sandbox, LABEL, sh("cat /proc/self/uid_map"))
    assert first.stdout == run(sandbox, LABEL, sh("cat /proc/self/uid_map")).stdout


FIRST_PROCESS = {
    "signals it": "import os\nfor n in (19, 15, 9): os.kill(1, n)\nprint('done')",
    "stops it by tracing": (
        "import ctypes, os, time\n"
        "assert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0\n"
        "if os.fork() == 0: time.sleep(1000)\n"
        "print('done', flush=True); time.sleep(1000)"
    ),
}


@pytest.mark.parametrize("how", FIRST_PROCESS)
def test_a_phase_ends_whatever_it_does_to_its_first_process(
    sandbox: BubblewrapSandbox, how: str
) -> None:
    """It has the student's uid, so it can be signalled and traced; nothing relies on it."""
    result = run(sandbox, LABEL, python(FIRST_PROCESS[how], limits=replace(LIMITS, wall_time_s=2)))
    assert result.stdout == b"done\n", result
    assert result.wall_time_s < 4
    assert_grades_normally(sandbox, LABEL)


def test_a_phase_that_waits_is_out_of_reach_of_the_one_that_runs(
    sandbox: BubblewrapSandbox,
) -> None:
    """It was set up before, and has the same uid."""
    first = phase("first", "sh", "-c", "ls -d /proc/[0-9]*; kill -9 -1; exec kill -9 $$")
    second = phase("second", "sh", "-c", "echo whole", always=True)
    [killed, result] = run_all(sandbox, LABEL, replace(first, always=True), second)
    assert len(killed.stdout.split()) <= 3, killed
    assert (result.verdict, result.stdout) == (Verdict.OK, b"whole\n")


def test_a_tree_inside_another_one_is_where_the_submission_has_its_place(
    sandbox: BubblewrapSandbox,
) -> None:
    inner = Tree(name="inner")
    mounts = (
        Mount(tree=WORKSPACE, target=HOME),
        Mount(tree="inner", target=f"{HOME}/place", read_only=True),
    )
    result = run(
        sandbox,
        LABEL,
        sh("cat place/t; ls", mounts=mounts),
        trees=(TREE, inner),
        inputs=Inputs(
            trees={WORKSPACE: tar({"place/hidden": b"", "a": b""}), "inner": tar({"t": b"in "})}
        ),
    )
    assert result.stdout == b"in a\nplace\n", result


def test_inputs_of_go_reach_a_waiting_phase(sandbox: BubblewrapSandbox) -> None:
    inputs = Inputs(env={"sh": {"SAID": "late"}}, stdin={"sh": b"and read"})
    result = run(sandbox, LABEL, replace(sh('echo "$SAID"; cat'), name="sh"), inputs=inputs)
    assert result.stdout == b"late\nand read"


def test_leak_checker_of_the_address_sanitizer_works(sandbox: BubblewrapSandbox) -> None:
    program = "#include <stdlib.h>\\nint main(void){ volatile char *p = malloc(7); p = 0; }"
    build = f"printf '{program}' > a.c && gcc -g -fsanitize=address a.c -o a || exit 77; ./a"
    result = run(sandbox, LABEL, sh(build))
    if result.exit_code == 77:
        pytest.skip("no address sanitizer here")
    assert b"7 byte(s) leaked" in result.stderr, result


def test_a_phase_inherits_three_descriptors_and_no_more(sandbox: BubblewrapSandbox) -> None:
    program = "import os; print(sorted(os.listdir('/proc/self/fd')))"
    # The fourth is that of the directory being listed.
    assert run(sandbox, LABEL, python(program)).stdout == b"['0', '1', '2', '3']\n"


def test_the_environment_is_not_in_the_hosts_process_list(sandbox: BubblewrapSandbox) -> None:
    spec = sh("sleep 60", env={"TOKEN": "very-secret"})
    slot = sandbox.prepare(label=LABEL, phases=(spec,), trees=(TREE,))
    try:
        slot.go(Inputs())
        assert isinstance(next(slot.collect()), PhaseStarted)
        found = wait_for_command(LABEL, "sleep")
        lines = [" ".join(process.cmdline()) for process in found]
        assert not [line for line in lines if "very-secret" in line]
    finally:
        slot.destroy()


def test_foreign_system_call_tables_are_killed(sandbox: BubblewrapSandbox) -> None:
    x32 = "import ctypes; ctypes.CDLL(None).syscall(0x40000000 | 39)"
    require(os.uname().machine == "x86_64", "x32 exists on x86_64 only")
    result = run(sandbox, LABEL, python(x32))
    assert (result.verdict, result.signal) == (Verdict.SIGNAL, signal.SIGSYS)


def test_a_zygote_that_dies_breaks_its_slots_and_is_replaced() -> None:
    # Other tests' helper processes, such as the module's own sandbox, may be there too.
    others = set(psutil.Process().children())
    with closing(BubblewrapSandbox(bubblewrap_host.settings())) as sandbox:
        slot = sandbox.prepare(label=LABEL, phases=(sh("sleep 60"),), trees=(TREE,))
        slot.go(Inputs())
        events = slot.collect()
        assert isinstance(next(events), PhaseStarted)
        [zygote] = set(psutil.Process().children()) - others
        zygote.kill()
        with pytest.raises(SandboxError, match="died"):
            list(events)
        slot.destroy()
        with pytest.raises(SandboxError, match="zygote"):
            sandbox.prepare(label=LABEL, phases=(sh("true"),), trees=(TREE,))
        assert_grades_normally(sandbox, LABEL)


def test_many_slots_at_once(sandbox: BubblewrapSandbox) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    answers: list[bytes] = []

    def grade(number: int) -> None:
        for _ in range(5):
            answers.append(run(sandbox, LABEL, sh(f"echo {number}")).stdout)

    threads = [threading.Thread(target=grade, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted(b"%d\n" % number for number in range(8) for _ in range(5))
    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with a static-enough shell: the host's own, copied file by file."""
    place = tmp_path_factory.mktemp("rootfs")
    place.chmod(0o755)
    for parent in place.parents:
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
            parent.chmod(0o755)
    image = place / "tiny"
    for path in ("/bin/sh", "/bin/cat", "/bin/ls"):
        _copy_with_libraries(Path(path), image)
    (image / "etc").mkdir()
    (image / "etc" / "motd").write_text("tiny\n")
    (image / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (place / "link").symlink_to("/")
    return place


def _copy_with_libraries(program: Path, image: Path) -> None:
    command = ["ldd", str(program.resolve())]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    libraries = [word for word in listed.split() if word.startswith("/")]
    for source in (str(program), *libraries):
        target = image / source.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def rootfs_settings(rootfs: Path) -> SandboxSettings:
    return bubblewrap_host.settings().model_copy(update={"rootfs_dir": rootfs})


def test_a_named_root_file_system(sandbox: BubblewrapSandbox, rootfs: Path) -> None:
    with closing(BubblewrapSandbox(rootfs_settings(rootfs))) as other:
        spec = sh("cat /etc/motd /etc/passwd; ls /; echo x > /motd")
        slot = other.prepare(label=LABEL, phases=(spec,), trees=(TREE,), image="tiny")
        try:
            slot.go(Inputs())
            [result] = results(slot)
        finally:
            slot.destroy()
        lines = result.stdout.decode().splitlines()
        assert lines[0] == "tiny"
        assert any(line.startswith("student:") for line in lines)
        assert "usr" not in lines or not (rootfs / "tiny" / "usr" / "share").exists()
        assert b"Read-only" in result.stderr
        for image in ("other", "../tiny", "link", ".."):
            with pytest.raises(ImageUnavailableError):
                other.prepare(label=LABEL, phases=(spec,), trees=(TREE,), image=image)


def test_kvm_is_there_for_phases_that_ask_where_the_operator_allows_it() -> None:
    require(Path("/dev/kvm").exists(), "needs /dev/kvm")
    settings = bubblewrap_host.settings().model_copy(update={"allow_kvm": True})
    probe = "import os, fcntl; print(fcntl.ioctl(os.open('/dev/kvm', os.O_RDWR), 0xAE00))"
    with closing(BubblewrapSandbox(settings)) as sandbox:
        # KVM_GET_API_VERSION has answered 12 since Linux 2.6.22.
        assert run(sandbox, LABEL, python(probe, kvm=True)).stdout == b"12\n"
        assert b"FileNotFoundError" in run(sandbox, LABEL, python(probe)).stderr


def test_a_host_without_memory_is_no_verdict(sandbox: BubblewrapSandbox) -> None:
    # A group around the slot has too little, as a host may; the phase's own limit is not met.
    label = f"{LABEL}-starved"
    slot = sandbox.prepare(label=label, phases=(python("bytearray(64 << 20)"),), trees=(TREE,))
    try:
        groups = [Path(at) for at, _, _ in os.walk("/sys/fs/cgroup") if Path(at).name == label]
        files = [group / name for group in groups for name in _MEMORY_LIMITS]
        (limit,) = (file for file in files if file.exists())
        limit.write_text(str(32 << 20))
        slot.go(Inputs())
        with pytest.raises(SandboxError, match="the host ran out of memory"):
            results(slot)
    finally:
        slot.destroy()
