"""A harness and a program in two sandboxes of one slot: joined by FIFOs, and by nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from job_engine.grading.split import JOIN, TOOLS, TREES, contents, serve_command
from job_engine.sandbox.base import (
    WORKSPACE,
    Handover,
    Inputs,
    Mount,
    PhaseResult,
    PhaseSpec,
    PhaseStarted,
    Tree,
    Verdict,
)
from tests.contract.sandbox.conftest import Backend
from tests.contract.sandbox.runner import HOME, LIMITS, MIB, TREE, run_all, tar

MOUNT = "/mnt/program"
SHARED = f"{MOUNT}.join"
TESTS = Tree(name="tests", size_bytes=MIB, inodes=100)
RESULTS = Tree(name="results", size_bytes=MIB, inodes=100)
REST = (TESTS, RESULTS, *TREES)
PROGRAM = PhaseSpec(
    name="program",
    command=serve_command(MOUNT, ("python3", "program.py")),
    limits=replace(LIMITS, cpu_time_s=8),
    mounts=(
        Mount(tree=WORKSPACE, target=HOME),
        Mount(tree=JOIN, target=SHARED, read_only=True),
    ),
    workdir=HOME,
)
HARNESS = PhaseSpec(
    name="test",
    command=("python3", "/mnt/tests/harness.py"),
    limits=LIMITS,
    mounts=(
        Mount(tree="tests", target="/mnt/tests", read_only=True),
        Mount(tree="results", target="/mnt/results"),
        Mount(tree=JOIN, target=SHARED),
        Mount(tree=TOOLS, target=MOUNT, read_only=True),
    ),
    workdir="/mnt/results",
    handover=(Handover(tree="results"),),
    companion=PROGRAM,
)
PRELUDE = """
import json, os, signal, subprocess, sys, time
RUN = "/mnt/program/run"
def run(*words, stdin=b"", timeout=5):
    return subprocess.run([RUN, *words], input=stdin, capture_output=True, timeout=timeout)
told = {}
"""
TOLD = "\njson.dump(told, open('/mnt/results/told.json', 'w'))\n"


def split(
    backend: Backend, label: str, harness: str, program: str, phase: PhaseSpec = HARNESS
) -> tuple[Any, list[PhaseResult]]:
    """Run both; return what the harness told, and the results of phase and companion."""
    inputs = Inputs(
        trees={
            WORKSPACE: tar({"program.py": program.encode()}),
            "tests": tar({"harness.py": (PRELUDE + harness + TOLD).encode(), "secret": b"42"}),
            **contents(),
        }
    )
    trees = (TREE, *REST)
    found = run_all(backend.sandbox, label, phase, trees=trees, inputs=inputs)
    told = found[0].files.get("results/told.json")
    assert told is not None, found
    return json.loads(told), found


def test_a_run_is_like_running_the_program(backend: Backend, label: str) -> None:
    harness = """
words = ["", "a b", "it's", "two\\nlines\\n", "$(x) `y` \\\\ *", "é"]
done = run(*words, stdin=b"in\\0put" * 40_000)
told["code"], told["err"] = done.returncode, done.stderr.decode()
told["out"] = json.loads(done.stdout) == [words, 6 * 40_000]
told["signal"] = run("die").returncode
told["missing"] = run("missing").returncode
told["many"] = sorted(
    p.communicate()[0].decode()
    for p in [subprocess.Popen([RUN, "say", str(n)], stdout=subprocess.PIPE) for n in range(4)]
)
talk = subprocess.Popen([RUN, "double"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
told["talk"] = []
for n in (3, 5, 8):
    talk.stdin.write(b"%d\\n" % n); talk.stdin.flush()
    told["talk"].append(int(talk.stdout.readline()))
talk.stdin.close()
told["end"] = talk.wait(5)
told["left"] = os.listdir("/mnt/program.join/runs")
"""
    program = """
import json, os, sys
match sys.argv[1:]:
    case ["die"]: os.kill(os.getpid(), 9)
    case ["missing"]: os.execvp("sh", ["sh", "-c", "exec /absent"])
    case ["say", word]: print(word, end="")
    case ["double"]:
        for line in sys.stdin: print(2 * int(line), flush=True)
    case words:
        json.dump([words, len(sys.stdin.buffer.read())], sys.stdout)
        print("oops", end="", file=sys.stderr)
        sys.exit(7)
"""
    told, found = split(backend, label, harness, program)
    assert told == {
        "code": 7,
        "err": "oops",
        "out": True,
        "signal": 137,
        "missing": 127,
        "many": ["0", "1", "2", "3"],
        "talk": [6, 10, 16],
        "end": 0,
        "left": [],
    }
    assert [(result.phase, result.verdict) for result in found] == [
        ("test", Verdict.OK),
        ("program", Verdict.OK),
    ]
    assert all(result.cpu_time_s > 0 for result in found)


def test_neither_side_sees_or_reaches_the_other(backend: Backend, label: str) -> None:
    harness = """
told["own"] = sorted(os.listdir("/mnt"))
told["workspace"] = os.path.exists("/mnt/submission")
marked = subprocess.Popen(["sleep", "30"], env={"MARK": "harness"})
open("/tmp/harness", "w").close()
import socket
listener = socket.socket(socket.AF_UNIX); listener.bind("\\0harness"); listener.listen()
port = socket.create_server(("127.0.0.1", 4567))
told["theirs"] = json.loads(run(timeout=15).stdout)
marked.kill()
told["results"] = os.listdir("/mnt/results")
told["scripts"] = [os.listdir("/mnt/program"), sorted(os.listdir("/mnt/program.join"))]
"""
    program = """
import contextlib, ctypes, json, os, socket, subprocess, sys
sys.stdout.flush()
def fails(call):
    try: call()
    except OSError as error: return error.errno
    return 0
join = "/mnt/program.join"
run = f"{join}/runs/{os.listdir(f'{join}/runs')[0]}"
def connect(family, address):
    with socket.socket(family) as s: s.connect(address)
environments = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    with contextlib.suppress(OSError):
        environments.append(open(f"/proc/{pid}/environ").read())
print(json.dumps({
    "mnt": sorted(os.listdir("/mnt")),
    "tmp": os.path.exists("/tmp/harness"),
    "harness": any("MARK=harness" in e for e in environments),
    "refused": [bool(fails(call)) for call in (
        lambda: open(f"{join}/new", "w"),
        lambda: os.mkdir(f"{join}/runs/x"),
        lambda: os.unlink(f"{join}/serve"),
        lambda: os.rename(f"{run}/out", f"{run}/in"),
        lambda: os.symlink("/etc/passwd", f"{run}/link"),
        lambda: os.chmod(f"{run}/out", 0),
        lambda: os.utime(f"{join}/serve"),
        lambda: open(f"{join}/serve", "a"),
        lambda: os.truncate(f"{run}/arguments", 0),
        lambda: os.setxattr(f"{join}/serve", "user.a", b"b"),
        lambda: open(f"{run}/alive", "w"),
        lambda: connect(socket.AF_UNIX, "\\0harness"),
        lambda: connect(socket.AF_INET, ("127.0.0.1", 4567)),
    )],
}))
"""
    told, _ = split(backend, label, harness, program)
    assert told == {
        "own": ["program", "program.join", "results", "tests"],
        "workspace": False,
        "theirs": {
            "mnt": ["program.join", "submission"],
            "tmp": False,
            "harness": False,
            "refused": [True] * 13,
        },
        "results": [],
        "scripts": [["run"], ["life", "met", "requests", "runs", "serve"]],
    }


def test_a_run_that_is_killed_is_killed_at_both_ends(backend: Backend, label: str) -> None:
    harness = """
try:
    run("hang", timeout=1)
except subprocess.TimeoutExpired:
    told["timeout"] = True
end = time.monotonic() + 5
while "hang" in run("list").stdout.decode() and time.monotonic() < end:
    time.sleep(0.1)
told["list"] = run("list").stdout.decode()
told["left"] = os.listdir("/mnt/program.join/runs")
"""
    program = """
import os, sys, time
if sys.argv[1] == "hang":
    os.fork()
    time.sleep(600)
for pid in filter(str.isdigit, os.listdir("/proc")):
    try: words = open(f"/proc/{pid}/cmdline").read().split("\\0")
    except OSError: continue
    if "hang" in words and "serve" not in words[1]: print("hang", words)
"""
    told, _ = split(backend, label, harness, program)
    assert told == {"timeout": True, "list": "", "left": []}


@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        # All that it can, which is the other end of the join.
        ("import os; os.kill(-1, 9)", Verdict.SIGNAL),
        ("import os\nwhile True: os.fork()", Verdict.PROCESSES),
        ("x = b'x'\nwhile True: x += x", Verdict.MEMORY),
        ("while True: pass", Verdict.CPU_TIME),
    ],
)
def test_a_program_that_dies_badly_ends_itself_only(
    backend: Backend, label: str, program: str, verdict: Verdict
) -> None:
    harness = """
told["codes"] = []
for _ in range(2):
    try:
        told["codes"].append(run(timeout=6).returncode)
    except subprocess.TimeoutExpired:
        told["codes"].append(None)
"""
    companion = replace(PROGRAM, limits=replace(PROGRAM.limits, cpu_time_s=1))
    told, found = split(backend, label, harness, program, replace(HARNESS, companion=companion))
    assert 0 not in told["codes"]
    assert len(told["codes"]) == 2
    assert found[0].verdict is Verdict.OK
    assert found[1].verdict is verdict


def test_a_forged_message_at_the_join_is_only_output_of_the_program(
    backend: Backend, label: str
) -> None:
    """It floods, lies about its exit code, holds on to its output, and calls for more runs."""
    harness = """
flood = subprocess.Popen([RUN, "flood"], stdout=subprocess.PIPE)
told["flood"] = len(flood.stdout.read(2**20))
flood.kill()
told["flooded"] = len(flood.communicate(timeout=5)[0]) < 2**22
told["lie"] = run("lie").returncode
start = time.monotonic()
try:
    run("hold", timeout=1)
except subprocess.TimeoutExpired:
    told["held"] = time.monotonic() - start < 4
told["after"] = run("fine").stdout.decode()
lease = subprocess.Popen([RUN, "lease"], stdout=subprocess.PIPE)
lease.stdout.readline()
start = time.monotonic()
told["leased"] = run("fine").stdout.decode(), time.monotonic() - start < 4
lease.kill()
lease.communicate(timeout=5)
def names():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try: yield open(f"/proc/{pid}/comm").read().strip()
        except OSError: pass
def mine(): return [name for name in names() if name in ("cat", "head", "run", "sleep")]
end = time.monotonic() + 5
while mine() and time.monotonic() < end: time.sleep(0.1)
told["mine"] = mine()
"""
    program = """
import glob, os, sys, time
word = sys.argv[1]
def mine(name): return max(glob.glob(f"/mnt/program.join/runs/*/{name}"), key=os.path.getctime)
if word == "flood":
    while True: os.write(1, b"x" * 65536)
if word == "lie":
    status = os.open(mine("status"), os.O_WRONLY)
    os.write(status, b"9" * 60_000)
if word == "hold":
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(600)
        os._exit(0)
    calls = os.open("/mnt/program.join/requests", os.O_WRONLY | os.O_NONBLOCK)
    os.write(calls, b"../../submission\\n\\nabsent\\n" * 10)
if word == "lease":
    # Whoever opens a file with a lease on it waits for who has that, up to 45 s.
    import fcntl, signal
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    held = []
    for place in glob.glob("/mnt/program*/*"):
        try:
            held.append(os.open(place, os.O_RDONLY | os.O_NONBLOCK))
            fcntl.fcntl(held[-1], fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError: pass
    print("held", flush=True)
    time.sleep(600)
print("fine")
"""
    told, found = split(backend, label, harness, program)
    assert told == {
        "flood": 2**20,
        "flooded": True,
        "lie": 137,
        "held": True,
        "after": "fine\n",
        "leased": ["fine\n", True],
        "mine": [],
    }
    assert found[0].verdict is Verdict.OK


def test_a_kill_ends_both(backend: Backend, label: str) -> None:
    harness = replace(HARNESS, command=("sleep", "600"))
    slot = backend.sandbox.prepare(label=label, phases=(harness,), trees=(TREE, *REST))
    try:
        slot.go(Inputs(trees={**contents()}))
        for event in slot.collect():
            if isinstance(event, PhaseStarted):
                slot.kill()
            else:
                assert isinstance(event, PhaseResult)
                # Of the companion it can be that its phase's end came first.
                assert event.verdict is Verdict.KILLED or event.phase == "program"
    finally:
        slot.destroy()
    assert backend.leftovers(label) == []
