"""What a phase is given and what it gives back, when nobody attacks."""

from __future__ import annotations

import pytest

from job_engine.errors import SandboxError, SandboxRefusedError
from job_engine.sandbox.base import (
    WORKSPACE,
    Handover,
    Inputs,
    Limits,
    Mount,
    PhaseResult,
    PhaseStarted,
    Tree,
    Verdict,
)
from tests.contract.sandbox.conftest import Backend
from tests.contract.sandbox.runner import HOME, TREE, phase, python, run, run_all, sh, tar


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code(backend: Backend, label: str, code: int) -> None:
    result = run(backend.sandbox, label, sh(f"exit {code}"))
    assert (result.exit_code, result.signal) == (code, None)
    assert result.verdict is (Verdict.OK if code == 0 else Verdict.EXIT)
    assert result.ok is (code == 0)


@pytest.mark.parametrize("number", [6, 9, 11, 15])
def test_signal(backend: Backend, label: str, number: int) -> None:
    result = run(backend.sandbox, label, python(f"import os; os.kill(os.getpid(), {number})"))
    assert (result.exit_code, result.signal, result.verdict) == (None, number, Verdict.SIGNAL)


def test_output_is_captured_apart(backend: Backend, label: str) -> None:
    result = run(backend.sandbox, label, sh("printf out; printf err >&2"))
    assert (result.stdout, result.stderr) == (b"out", b"err")


def test_output_up_to_the_limit_is_kept_whole(backend: Backend, label: str) -> None:
    result = run(backend.sandbox, label, python("print('x' * 65535)"))
    assert (result.verdict, len(result.stdout)) == (Verdict.OK, 65_536)


def test_stdin(backend: Backend, label: str) -> None:
    data = bytes(range(256)) * 256
    result = run(backend.sandbox, label, sh("cat"), inputs=Inputs(stdin={"run": data}))
    assert result.stdout == data


def test_no_stdin_is_an_empty_one(backend: Backend, label: str) -> None:
    assert run(backend.sandbox, label, sh("cat; echo end")).stdout == b"end\n"


def test_measures(backend: Backend, label: str) -> None:
    program = "x = bytearray(60_000_000)\nwhile __import__('time').process_time() < 0.3: pass"
    result = run(backend.sandbox, label, python(program))
    assert 0.3 <= result.cpu_time_s < 5
    assert result.wall_time_s >= 0.3
    assert result.peak_memory_bytes == 0 or 60_000_000 < result.peak_memory_bytes < 128 * 2**20


def test_environment_is_the_phases_own(backend: Backend, label: str) -> None:
    result = run(backend.sandbox, label, sh("env", env={"GREETING": "a b=c"}))
    lines = result.stdout.decode().splitlines()
    assert "GREETING=a b=c" in lines
    names = {line.partition("=")[0] for line in lines}
    assert names <= {"PATH", "HOME", "LANG", "GREETING", "PWD", "SHLVL", "_", "HOSTNAME", "OLDPWD"}


def test_an_ordinary_user_without_privilege(backend: Backend, label: str) -> None:
    result = run(backend.sandbox, label, sh("id -u; grep -E '^(Cap|NoNewPrivs)' /proc/self/status"))
    uid, *lines = result.stdout.decode().split("\n")
    assert int(uid) > 0
    for line in filter(None, lines):
        name, value = line.split()
        assert int(value, 16) == (1 if name == "NoNewPrivs:" else 0), line


def test_the_usual_tools_work(backend: Backend, label: str) -> None:
    build = sh(
        "printf '#include <stdio.h>\\nint main(void){puts(\"built\");}' > a.c"
        " && gcc a.c -o a && ./a && python3 -c 'import ssl, ctypes, sqlite3; print(1)'"
        " && echo x > /tmp/x && cat /tmp/x && echo y > /dev/shm/y && head -c2 /dev/urandom | wc -c"
    )
    result = run(backend.sandbox, label, build)
    assert (result.stderr, result.stdout) == (b"", b"built\n1\nx\n2\n")


def test_trees_are_filled_and_writable(backend: Backend, label: str) -> None:
    inputs = Inputs(trees={WORKSPACE: tar({"a/b.txt": b"hello", "run.sh": b"echo $1"})})
    script = "cat a/b.txt && echo more >> a/b.txt && mkdir a/c && rm run.sh && ls"
    result = run(backend.sandbox, label, sh(script), inputs=inputs)
    assert (result.stdout, result.stderr) == (b"helloa\n", b"")


def test_trees_last_from_phase_to_phase_but_tmp_does_not(backend: Backend, label: str) -> None:
    first = phase("first", "sh", "-c", "echo kept > f; echo gone > /tmp/f; echo gone > /dev/shm/f")
    second = phase("second", "sh", "-c", "cat f; ls -A /tmp /dev/shm")
    [_, result] = run_all(backend.sandbox, label, first, second)
    assert result.stdout == b"kept\n/dev/shm:\n\n/tmp:\n"


def test_read_only_tree(backend: Backend, label: str) -> None:
    tests = Tree(name="tests")
    mounts = (
        Mount(tree=WORKSPACE, target=HOME),
        Mount(tree="tests", target="/mnt/tests", read_only=True),
    )
    script = (
        "cat /mnt/tests/t; echo x > /mnt/tests/t; rm -f /mnt/tests/t; touch /mnt/tests/u;"
        " chmod 777 /mnt/tests/t; cat /mnt/tests/t"
    )
    result = run(
        backend.sandbox,
        label,
        sh(script, mounts=mounts),
        trees=(TREE, tests),
        inputs=Inputs(trees={"tests": tar({"t": b"secret"})}),
    )
    assert result.stdout == b"secretsecret"
    assert result.stderr.count(b"Read-only file system") == 4


def test_a_tree_that_is_not_mounted_is_nowhere(backend: Backend, label: str) -> None:
    script = "find / -name needle-in-tests 2>/dev/null; cat /proc/self/mountinfo | grep -c tests"
    [build, test] = run_all(
        backend.sandbox,
        label,
        phase("build", "sh", "-c", script, always=True),
        phase(
            "test",
            "sh",
            "-c",
            "ls /mnt/tests",
            mounts=(Mount(tree="tests", target="/mnt/tests", read_only=True),),
            workdir="/",
            always=True,
        ),
        trees=(TREE, Tree(name="tests")),
        inputs=Inputs(trees={"tests": tar({"needle-in-tests": b"secret"})}),
    )
    assert build.stdout == b"0\n"
    assert test.stdout == b"needle-in-tests\n"


def test_phases_in_order_and_only_always_after_a_failure(backend: Backend, label: str) -> None:
    phases = (
        phase("one", "true"),
        phase("two", "false"),
        phase("three", "true"),
        phase("four", "true", always=True),
    )
    slot = backend.sandbox.prepare(label=label, phases=phases, trees=(TREE,))
    try:
        slot.go(Inputs())
        events = list(slot.collect())
    finally:
        slot.destroy()
    assert [(type(event), event.phase) for event in events] == [
        (kind, name) for name in ("one", "two", "four") for kind in (PhaseStarted, PhaseResult)
    ]


def test_handover_reads_files_by_tree_and_path(backend: Backend, label: str) -> None:
    spec = sh(
        "mkdir -p out/sub; echo 1 > out/a; echo 2 > out/sub/b; echo 3 > other",
        handover=(Handover(tree=WORKSPACE, path="out"),),
    )
    result = run(backend.sandbox, label, spec)
    assert result.files == {"workspace/out/a": b"1\n", "workspace/out/sub/b": b"2\n"}
    assert result.left_out == ()


def test_a_command_that_is_not_there_is_a_result(backend: Backend, label: str) -> None:
    result = run(backend.sandbox, label, phase("run", "no-such-command"))
    assert (result.verdict, result.exit_code) == (Verdict.EXIT, 127)
    assert b"no-such-command" in result.stderr


def test_a_slot_is_for_one_submission(backend: Backend, label: str) -> None:
    slot = backend.sandbox.prepare(label=label, phases=(sh("true"),), trees=(TREE,))
    try:
        slot.go(Inputs())
        assert [event.phase for event in slot.collect()] == ["run", "run"]
        with pytest.raises(SandboxError, match="one"):
            slot.go(Inputs())
    finally:
        slot.destroy()
    with pytest.raises(SandboxError):
        slot.go(Inputs())


def test_requests_beyond_the_operators_policy_are_refused(backend: Backend, label: str) -> None:
    too_much = backend.settings.max_memory_bytes + 1
    with pytest.raises(SandboxRefusedError, match="memory_bytes"):
        run(backend.sandbox, label, sh("true", limits=Limits(memory_bytes=too_much)))
    with pytest.raises(SandboxRefusedError, match="kvm"):
        run(backend.sandbox, label, sh("true", kvm=True))


def test_an_image_that_is_not_there(backend: Backend, label: str) -> None:
    with pytest.raises(SandboxError, match="no-such-image"):
        backend.sandbox.prepare(
            label=label, phases=(sh("true"),), trees=(TREE,), image="no-such-image"
        )
