"""The profile `own-root`: what a phase may do as root of its own root, and what not."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from job_engine.errors import SandboxRefusedError
from job_engine.sandbox.base import (
    KEPT_PREFIX,
    Handover,
    Inputs,
    OwnRoot,
    PhaseOutput,
    PhaseResult,
    Sandbox,
    Verdict,
)
from tests.contract.sandbox.conftest import Backend
from tests.contract.sandbox.runner import LIMITS, MIB, TREE, python, run, run_all, sh, tar

OWN = OwnRoot(size_bytes=32 * MIB, inodes=4_000)


@pytest.fixture(scope="module")
def granted(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox whose operator grants the profile."""
    sandbox = backend.make(
        allow_profiles=["own-root"], kept_roots_dir=tmp_path_factory.mktemp("roots") / "kept"
    )
    yield sandbox
    sandbox.close()


def as_root(sandbox: Sandbox, label: str, script: str, **fields: object) -> PhaseResult:
    return run(sandbox, label, sh(script, own_root=OWN, **fields))


def test_it_is_refused_unless_granted(backend: Backend, label: str) -> None:
    with pytest.raises(SandboxRefusedError, match="allow_profiles"):
        as_root(backend.sandbox, label, "true")


def test_it_is_root_of_a_root_of_its_own(granted: Sandbox, label: str) -> None:
    script = """
        set -e
        [ "$(id -u)" = 0 ] && [ "$HOME" = /root ]
        echo 127.0.0.1 grader >>/etc/motd && mkdir -p /opt/tool /autograder && touch /usr/lib/new
        rm -r /usr/share/base-passwd && mkdir /usr/share/base-passwd
        [ -z "$(ls /usr/share/base-passwd)" ]
        chown 1234:1234 /opt/tool && [ "$(stat -c %u /opt/tool)" = 1234 ]
        chmod 600 /etc/motd
        echo fine
    """
    result = as_root(granted, label, script)
    assert result.stdout == b"fine\n", result
    again = as_root(
        granted, label, "ls -d /opt/tool /usr/lib/new; [ -e /usr/share/base-passwd/passwd.master ]"
    )
    assert (again.verdict, again.stdout) == (Verdict.OK, b"")


def test_it_becomes_other_users_for_good(granted: Sandbox, label: str) -> None:
    program = """
        import os, sys
        os.makedirs("/srv/secret", mode=0o700)
        pid = os.fork()
        if pid == 0:
            os.setgroups([]); os.setgid(1500); os.setuid(1500)
            for attempt in (lambda: os.listdir("/srv/secret"), lambda: os.setuid(0),
                            lambda: os.kill(os.getppid(), 9)):
                try:
                    attempt()
                except PermissionError:
                    continue
                os._exit(1)
            os._exit(0)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    lines = "\n".join(line[8:] for line in program.splitlines())
    result = as_root(granted, label, f"python3 - <<'EOF'\n{lines}\nEOF")
    assert result.ok, result


def test_su_and_useradd_work(granted: Sandbox, label: str) -> None:
    script = "useradd -m student && su student -c 'id -un; cd ~ && touch mine && ls' </dev/null"
    result = as_root(granted, label, script)
    assert result.stdout == b"student\nmine\n", result


def test_it_has_no_other_privilege(granted: Sandbox, label: str) -> None:
    script = """
        for forbidden in 'mount -t tmpfs x /mnt' 'mknod /tmp/disk b 8 0' 'chroot / true' \\
            'unshare -m true' 'hostname other' 'date -s 2020-01-01'
        do
            $forbidden >/dev/null 2>&1 && echo "may:	$forbidden"
        done
        for setting in kernel/panic kernel/msgmax kernel/domainname fs/mqueue/msg_max
        do
            (cat /proc/sys/$setting >/proc/sys/$setting) 2>/dev/null && echo "may:	$setting"
        done
        grep -E '^(CapPrm|CapEff|NoNewPrivs)' /proc/self/status
    """
    result = as_root(granted, label, script)
    status = dict(line.split(":\t") for line in result.stdout.decode().splitlines())
    # CHOWN 0, DAC_OVERRIDE 1, FOWNER 3, FSETID 4, KILL 5, SETGID 6, SETUID 7.
    assert status == {"CapPrm": f"{0xFB:016x}", "CapEff": f"{0xFB:016x}", "NoNewPrivs": "1"}


def test_it_uses_up_nothing_of_the_hosts_root(granted: Sandbox, label: str) -> None:
    """On Docker it is the host's uid 0, and the kernel counts some of its stocks by uid."""
    program = """if True:
        import ctypes, os, signal, time
        libc = ctypes.CDLL(None)
        while libc.inotify_init() >= 0:
            pass
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
        while libc.sigqueue(os.getpid(), signal.SIGRTMIN, None) == 0:
            pass
        print("used up", flush=True)
        time.sleep(60)
    """
    slot = granted.prepare(
        label=label, phases=(python(program, own_root=OWN, live=True),), trees=(TREE,)
    )
    try:
        slot.go(Inputs())
        assert any(isinstance(event, PhaseOutput) for event in slot.collect())
        check = "import ctypes; print(ctypes.CDLL(None).inotify_init() >= 0)"
        check += "; import os, signal; signal.pthread_sigmask(signal.SIG_BLOCK, [40])"
        check += "; print(ctypes.CDLL(None).sigqueue(os.getpid(), 40, None) == 0)"
        ours = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
        assert ours.stdout.split() == ["True", "True"]
    finally:
        slot.destroy()


def test_it_reaches_nothing(granted: Sandbox, label: str) -> None:
    result = as_root(granted, label, "cat /proc/net/route /proc/net/dev")
    assert result.ok
    assert len(result.stdout.splitlines()) <= 4  # two headings, and loopback


def test_written_bytes_are_limited(granted: Sandbox, label: str) -> None:
    script = (
        "for n in 1 2 3 4 5 6 7 8 9; do head -c 7M /dev/zero >/opt/$n || exit 1; sleep .3; done"
    )
    result = as_root(granted, label, script)
    assert result.verdict is Verdict.DISK, result


def test_written_bytes_of_removed_files_are_limited(granted: Sandbox, label: str) -> None:
    program = """if True:
        import mmap, os, time
        os.chdir("/opt")
        mapped = []
        for number in range(12):
            fd = os.open("gone", os.O_CREAT | os.O_RDWR)
            os.unlink("gone")
            os.write(fd, bytes(7 << 20))
            if number % 2:
                mapped.append(mmap.mmap(fd, 7 << 20))
                os.close(fd)
            time.sleep(0.3)
        raise SystemExit(1)
    """
    result = run(granted, label, python(program, own_root=OWN))
    assert result.verdict is Verdict.DISK, result


def test_trees_are_filled_and_handed_over(granted: Sandbox, label: str) -> None:
    script = """
        cat given && stat -c %u given && echo out >result && chmod 644 result
        mkdir locked && echo mine >locked/others && chown -R 1234 locked && chmod -R 0 locked
    """
    spec = sh(script, own_root=OWN, handover=(Handover(tree="workspace"),))
    inputs = Inputs(trees={"workspace": tar({"given": b"given\n"})})
    [result] = run_all(granted, label, spec, inputs=inputs)
    assert result.files == {
        "workspace/given": b"given\n",
        "workspace/result": b"out\n",
        "workspace/locked/others": b"mine\n",
    }
    assert result.stdout.startswith(b"given\n")
    assert granted.name == "bubblewrap" or result.stdout.split()[1] != b"0"


def test_a_kept_root_is_an_image(granted: Sandbox, label: str) -> None:
    name = f"{KEPT_PREFIX}{uuid.uuid4().hex[:12]}"
    keeping = OwnRoot(size_bytes=32 * MIB, inodes=4_000, keep_as=name)
    script = (
        "echo one >/opt/one && useradd -m student && rm -r /usr/share/base-passwd && touch ~/.rc"
    )
    assert granted.kept_bytes(name) is None
    failed = run(granted, label, sh(f"{script}; exit 3", own_root=keeping))
    assert failed.exit_code == 3
    assert granted.kept_bytes(name) is None
    try:
        assert run(granted, label, sh(script, own_root=keeping)).ok
        assert granted.kept_bytes(name)
        script = """
            cat /opt/one && [ ! -e /usr/share/base-passwd ] && [ -e ~/.rc ] && rm /opt/one &&
            stat -c %U /home/student && su student -c 'touch ~/mine' </dev/null
        """
        for _ in range(2):
            result = as_root(granted, label, script, image=name)
            assert result.stdout == b"one\nstudent\n", result
    finally:
        granted.drop_kept(name)
        granted.drop_kept(name)
    assert granted.kept_bytes(name) is None


def test_images_are_told_apart(granted: Sandbox, backend: Backend) -> None:
    digest = granted.image_digest(None)
    assert digest == granted.image_digest(backend.image)
    assert "sha256:" in digest


def test_one_phase_of_a_slot_may_have_it(granted: Sandbox, label: str) -> None:
    one, other = sh("true", own_root=OWN), sh("true", own_root=OWN)
    other = type(other)(name="other", command=("true",), own_root=OWN, limits=LIMITS)
    with pytest.raises(SandboxRefusedError, match="only one phase"):
        granted.prepare(label=label, phases=(one, other), trees=())
