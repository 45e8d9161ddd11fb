"""The assignments that hostile programs are submitted to.

| kind     | the program is                                                        |
|----------|-----------------------------------------------------------------------|
| plain    | the test phase's command; exit code 0 is the full mark                |
| build    | the build phase's command; its test passes whatever was built         |
| writer   | the test phase's command, and writes `results.json` itself            |
| harness  | started by a harness, which gives the mark for the right answer       |
| imported | imported by the harness into its own process                          |
| reported | the test phase's command; a report command looks at what it left      |
| split    | run in a sandbox of its own, for the same harness                     |
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from tests.hostile.corpus.rows import Row

SECRET: Final = "the-tests-are-a-secret-5d1c"
"""Stands in the tests of every assignment."""
WALL_TIME_S: Final = 15
FLAVOUR: Final = {
    "cpus": 1.0,
    "cpu_time_s": 8,
    "wall_time_s": WALL_TIME_S,
    "memory_bytes": "96MiB",
    "processes": 32,
    "file_size_bytes": "8MiB",
    "output_bytes": "64KiB",
    "disk_bytes": "16MiB",
    "inodes": 2000,
}
"""Small, so that a hole does little harm; roomy in time, as many are graded at once."""

_COMMANDS: Final = {
    "py": ["python3", "solution.py"],
    "sh": ["sh", "solution.sh"],
    "c": ["./solution"],
}
_COMPILE: Final = "gcc -w -O1 -pthread -o solution solution.c"
_HARNESS: Final = """\
import json, subprocess, sys

def write(score):
    with open("/mnt/results/results.json", "w") as file:
        json.dump({"tests": [{"name": "answer", "score": score, "max_score": 1}]}, file)

"""
_OUTSIDE: Final = """
done = subprocess.run(sys.argv[1:], capture_output=True, text=True, timeout=20)
print(done.stdout[-2000:], done.stderr[-2000:])
write(float(done.stdout.strip() == "42"))
"""
_INSIDE: Final = """
sys.path.insert(0, "/mnt/submission")
try:
    import solution
    right = solution.answer() == 42
except Exception:
    right = False
write(float(right))
"""
_LOOK: Final = """\
# What a build left behind, and what its daemons have stolen.
rm -f beat
sleep 0.1
cat stolen 2>/dev/null
for file in beat /tmp/left /dev/shm/left /dev/mqueue/left; do
    [ ! -e "$file" ] || echo "ESCAPED: $file outlived its phase"
done
[ "$(wc -l < /proc/sysvipc/shm)" -le 1 ] || echo "ESCAPED: a segment outlived its phase"
ls /proc | grep -c '^[0-9]'
"""
_REPORT: Final = """\
import json, os, shutil, socket, urllib.request
print("reported", os.path.exists("/mnt/results"))
"""
ORDINARY: Final = {"files": {"solution.sh": "echo $(($1 + $2))\n"}}
"""A submission that gets the full mark of the ordinary assignment."""


def write_assignment(row: Row, directory: Path) -> None:
    """Write the bundle that `row` is submitted to."""
    harness = _HARNESS + (_INSIDE if row.assignment == "imported" else _OUTSIDE)
    _write(directory, _document(row), {"run.py": harness, "look.sh": _LOOK, "secret": SECRET})


def write_ordinary(directory: Path) -> None:
    """Write an assignment for submissions that mean no harm."""
    document = {
        "name": directory.name,
        "flavour": "hostile",
        "phases": {"build": "sh -n solution.sh", "test": "sh /mnt/tests/run.sh"},
        "results": {"format": "stdout"},
    }
    _write(directory, document, {"run.sh": '[ "$(sh solution.sh 2 3)" = 5 ]\n', "secret": SECRET})


def _document(row: Row) -> dict[str, Any]:
    command: list[str] = _COMMANDS[row.language]
    phases: dict[str, Any] = {}
    if row.language == "c":
        phases["build"] = _COMPILE
    own: dict[str, Any] = {"command": command, "limits": row.limits}
    results: dict[str, Any] = {"format": "stdout", "output_visible": True}
    if row.assignment == "build":
        phases["build"] = {**own, "reach": row.reach}
        own = {"command": ["sh", "/mnt/tests/look.sh"]}
    elif row.assignment == "reported":
        phases["report"] = {"command": ["python3", "-c", _REPORT]}
    elif row.assignment != "plain":
        results = {"format": "gradescope"}
    if row.assignment == "split":
        run = ["python3", "/mnt/tests/run.py", "/mnt/program/run"]
        own = {"command": run, "program": {"command": command, "limits": row.limits}}
    if row.assignment in ("harness", "imported"):
        own["command"] = ["python3", "/mnt/tests/run.py", *command]
    return {
        "name": row.name,
        "flavour": "hostile",
        "phases": {**phases, "test": {**own, "profile": row.profile}},
        "results": results,
    }


def _write(directory: Path, document: dict[str, Any], tests: dict[str, str]) -> None:
    (directory / "tests").mkdir(parents=True)
    # JSON is YAML.
    (directory / "assignment.yaml").write_text(json.dumps(document))
    for name, text in tests.items():
        (directory / "tests" / name).write_text(text)
