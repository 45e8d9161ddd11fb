"""Hostile submissions, graded for real: each gets its verdict, and the next grades normally.

What the sandboxes themselves must hold is in `tests/contract/sandbox`; here it is what
staff and students are told of it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_engine.grading.results import Outcome
from job_engine.sandbox.base import Verdict
from tests.contract.sandbox.test_isolation import KNOCK, Ear, host_addresses, make_ear
from tests.integration.grading.conftest import Desk, desk, git_server, repositories, sandbox

__all__ = ["desk", "git_server", "repositories", "sandbox"]

ASSIGNMENT = """
name: hostile
limits: {wall_time_s: 8, cpu_time_s: 4, memory_bytes: 320MiB, processes: 64}
phases:
  test: {command: python3 solution.py, limits: {file_size_bytes: 1GiB}}
results: {format: stdout}
"""

FORK = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
MEMORY = "held = []\nwhile True: held.append(bytearray(1 << 20))"
DISK = "f = open('big', 'wb')\nwhile True: f.write(b'x' * (1 << 20)); f.flush()"
FLOOD = "while True: print('x' * 1000)"
SLEEP = "import time\ntime.sleep(600)"
SPIN = "while True: pass"
GOOD = "print('fine')"


@pytest.fixture
def assignment(desk: Desk, tmp_path: Path) -> str:
    directory = tmp_path / "hostile"
    (directory / "tests").mkdir(parents=True)
    (directory / "tests" / "note").write_text("x")
    (directory / "assignment.yaml").write_text(ASSIGNMENT)
    return desk.blobs.add_assignment(directory)


def _files(program: str) -> dict[str, object]:
    return {"files": {"solution.py": program}}


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("program", "verdict", "said"),
    [
        (FORK, Verdict.PROCESSES, "more than 64 processes"),
        (MEMORY, Verdict.MEMORY, "more than 320 MiB of memory"),
        (DISK, Verdict.DISK, "filled its disk"),
        (FLOOD, Verdict.OUTPUT, "printed more than"),
        (SLEEP, Verdict.WALL_TIME, "longer than 8 s"),
        (SPIN, Verdict.CPU_TIME, "more than 4 s of CPU time"),
    ],
    ids=["fork", "memory", "disk", "flood", "sleep", "spin"],
)
def test_each_bomb_has_its_verdict(
    desk: Desk, assignment: str, program: str, verdict: Verdict, said: str
) -> None:
    results = desk.grade(assignment, _files(program))
    assert results.outcome is Outcome.LIMIT
    assert results.score == 0
    assert results.phases[-1].verdict is verdict
    assert said in results.message
    assert desk.grade(assignment, _files(GOOD)).score == 1


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = make_ear()
    with made.tcp, made.udp:
        yield made


def test_the_network_is_not_there(desk: Desk, assignment: str, ear: Ear) -> None:
    with socket.create_connection(("127.0.0.1", ear.port)):
        ear.tcp.accept()[0].close()
    targets = [(address, ear.port) for address in host_addresses()]
    results = desk.grade(assignment, _files(KNOCK.format(targets=targets)))
    assert "connected" not in results.phases[-1].output
    assert ear.listen() == []


def test_another_submission_is_not_to_be_found(desk: Desk, assignment: str) -> None:
    """The word that one leaves everywhere it can write, the next one looks for."""
    leave = (
        "import os\n"
        "for d in ('/tmp', '/dev/shm', '/var/tmp', '/mnt/submission', '/mnt/results', '/run'):\n"
        "  try: open(d + '/marmot', 'w').write('marmot')\n"
        "  except OSError: pass\n"
    )
    look = (
        "import os\n"
        "found = [r for r, d, f in os.walk('/') for n in f + d if n == 'marmot']\n"
        "raise SystemExit(str(found) if found else 0)\n"
    )
    desk.grade(assignment, _files(leave))
    results = desk.grade(assignment, _files(look))
    assert results.score == 1, results.phases[-1].output
