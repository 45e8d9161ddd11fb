"""Each limit, with the program that runs into it; and the one after it, which must not care."""

from __future__ import annotations

from dataclasses import replace

import pytest

from job_engine.sandbox.base import WORKSPACE, Limits, Tree, Verdict
from tests.contract.sandbox.conftest import Backend
from tests.contract.sandbox.runner import (
    LIMITS,
    MIB,
    assert_grades_normally,
    phase,
    python,
    run,
    run_all,
    sh,
)

SHORT = replace(LIMITS, wall_time_s=2)
ROOMY = replace(LIMITS, wall_time_s=3, memory_bytes=512 * MIB)

PROGRAMS = {
    "fork-bomb": (
        python("import os\nwhile True: os.fork()", limits=ROOMY),
        Verdict.PROCESSES,
    ),
    "fork-bomb-that-does-not-give-up": (
        python(
            "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass",
            limits=replace(ROOMY, cpu_time_s=60),
        ),
        Verdict.PROCESSES,
    ),
    "thread-bomb": (
        python(
            "import threading, time\n"
            "while True: threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            limits=ROOMY,
        ),
        Verdict.PROCESSES,
    ),
    "memory-hog": (
        python("x = []\nwhile True: x.append(bytearray(1_000_000))"),
        Verdict.MEMORY,
    ),
    "memory-hog-in-a-child": (
        sh("python3 -c 'x = bytearray(10**9)' || exit 3"),
        Verdict.MEMORY,
    ),
    "disk-filler": (
        sh("i=0; while head -c 4000000 /dev/zero > f$i; do i=$((i+1)); done; exit 1"),
        Verdict.DISK,
    ),
    "inode-filler": (
        python("i = 0\nwhile True: open(str(i), 'w').close(); i += 1"),
        Verdict.DISK,
    ),
    "tmp-filler": (
        sh("i=0; while head -c 4000000 /dev/zero > /tmp/$i; do i=$((i+1)); done; exit 1",
           limits=replace(LIMITS, memory_bytes=512 * MIB)),
        Verdict.DISK,
    ),
    "file-too-large": (
        sh("exec head -c 9000000 /dev/zero > f"),
        Verdict.FILE_SIZE,
    ),
    "file-too-large-with-the-signal-ignored": (
        python("f = open('f', 'wb')\nwhile True: f.write(bytes(100_000))"),
        Verdict.FILE_SIZE,
    ),
    "cpu-loop": (
        python("while True: pass", limits=replace(LIMITS, cpu_time_s=1)),
        Verdict.CPU_TIME,
    ),
    "cpu-loop-in-children": (
        sh("for i in 1 2 3 4; do (while :; do :; done) & done; wait",
           limits=replace(LIMITS, cpu_time_s=1)),
        Verdict.CPU_TIME,
    ),
    "sleeper": (sh("sleep 1000", limits=SHORT), Verdict.WALL_TIME),
    "sleeper-deaf-to-signals": (
        python(
            "import signal, time\n"
            "for n in set(signal.valid_signals()) - {9, 19}: signal.signal(n, signal.SIG_IGN)\n"
            "while True: time.sleep(1000)",
            limits=SHORT,
        ),
        Verdict.WALL_TIME,
    ),
    "flood": (sh("yes"), Verdict.OUTPUT),
    "flood-on-stderr": (sh("yes >&2"), Verdict.OUTPUT),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_verdict_and_the_next_one_grades_normally(backend: Backend, label: str, name: str) -> None:
    spec, verdict = PROGRAMS[name]
    result = run(backend.sandbox, label, spec)
    assert result.verdict is verdict, result
    assert result.wall_time_s < spec.limits.wall_time_s + 2
    assert len(result.stdout) + len(result.stderr) <= spec.limits.output_bytes
    assert_grades_normally(backend.sandbox, label)


def test_the_first_bytes_of_a_flood_are_kept(backend: Backend, label: str) -> None:
    result = run(backend.sandbox, label, sh("echo first; yes"))
    assert result.stdout.startswith(b"first\ny\ny\n")
    assert len(result.stdout) == LIMITS.output_bytes


def test_output_without_end_of_line_or_reader(backend: Backend, label: str) -> None:
    # Both streams count together.
    result = run(backend.sandbox, label, sh("head -c 40000 /dev/zero; head -c 40000 /dev/zero >&2"))
    assert result.verdict is Verdict.OUTPUT


def test_swap_and_page_cache_do_not_widen_memory(backend: Backend, label: str) -> None:
    result = run(
        backend.sandbox,
        label,
        sh("head -c 200000000 /dev/zero > f", limits=replace(LIMITS, file_size_bytes=10**9)),
        trees=(Tree(name=WORKSPACE, size_bytes=256 * MIB),),
    )
    assert result.verdict is Verdict.MEMORY
    assert result.peak_memory_bytes <= LIMITS.memory_bytes


# Fills the buffers of connections to itself, and says how much they took, in MiB.
_FILL_BUFFERS = """
import contextlib, socket
server = socket.create_server(("127.0.0.1", 0), backlog=64)
taken, kept = 0, []
for _ in range(48):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    client.connect(server.getsockname())
    kept += [client, server.accept()[0]]
    client.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True: taken += client.send(bytes(65536))
print(taken >> 20)
"""


def test_buffers_of_sockets_do_not_widen_memory(backend: Backend, label: str) -> None:
    result = run(backend.sandbox, label, python(_FILL_BUFFERS))
    taken = int(result.stdout or b"0")
    assert (taken + result.peak_memory_bytes // MIB) <= LIMITS.memory_bytes // MIB


_FILL_TREE = """
import contextlib, os
with contextlib.suppress(OSError):
    for i in range(131_072):
        if i % 1000 == 0: os.mkdir(str(i // 1000))
        open(f"{i // 1000}/{i}{'x' * 240}", "w").close()
with contextlib.suppress(OSError), open(f"0/1{'x' * 240}", "wb", buffering=0) as file:
    while True: file.write(bytes(1 << 20))
"""
# Most of its memory, in processes each smaller than whatever watches over the slot.
_TAKE_MEMORY = """
import os, time
for _ in range(100):
    if os.fork() == 0:
        held = bytearray(3 << 19)
        time.sleep(1)
        os._exit(0)
for i in range(25):
    with open(f"/tmp/{i}", "wb") as file: file.write(bytes(2 << 20))
"""


def test_a_crowd_of_files_leaves_the_next_phase_its_memory(backend: Backend, label: str) -> None:
    limits = replace(LIMITS, memory_bytes=320 * MIB, processes=128, file_size_bytes=64 * MIB)
    ended = run_all(
        backend.sandbox,
        label,
        phase("build", "python3", "-c", _FILL_TREE, limits=limits),
        phase("test", "python3", "-c", _TAKE_MEMORY, limits=limits),
        trees=(Tree(name=WORKSPACE, size_bytes=32 * MIB, inodes=131_072),),
    )
    assert [result.verdict for result in ended] == [Verdict.OK, Verdict.OK]


def test_cpu_share(backend: Backend, label: str) -> None:
    limits = Limits(cpus=0.2, cpu_time_s=30, wall_time_s=1.5, memory_bytes=128 * MIB)
    result = run(backend.sandbox, label, python("while True: pass", limits=limits))
    assert result.verdict is Verdict.WALL_TIME
    assert result.cpu_time_s < 0.7


def test_a_survived_limit_is_no_failure(backend: Backend, label: str) -> None:
    result = run(backend.sandbox, label, sh("python3 -c 'x = bytearray(10**9)'; echo survived"))
    assert (result.verdict, result.stdout) == (Verdict.OK, b"survived\n")


def test_daemons_do_not_outlive_their_phase(backend: Backend, label: str) -> None:
    daemon = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "while True:\n  open('beat', 'a').write('x'); time.sleep(0.005)"
    )
    script = f'python3 -c "{daemon}"; while [ ! -s beat ]; do sleep 0.01; done'
    second = "cat beat > a; sleep 0.2; cmp beat a && echo still"
    [first, result] = run_all(
        backend.sandbox,
        label,
        phase("first", "sh", "-c", script),
        phase("second", "sh", "-c", second),
    )
    assert first.wall_time_s < 5
    assert result.stdout == b"still\n"
