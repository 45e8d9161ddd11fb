"""Runs the checks of a check50 problem on a submission; needs check50 in the image.

Its settings are a JSON file with the paths `bundle` and `results`. It runs where the submission
is, and exits with 3 when the checks are at fault, or with 127 when there is no check50.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any

_STUDENTS_ERRORS = (
    *("MissingFilesError", "TooManyFilesError", "FileTooLargeError"),
    # A program has killed the process that ran its check.
    "BrokenProcessPool",
)
"""Errors of check50 that are about what was handed in."""
_MAX_LOG = 4_000


def main(settings_file: str) -> int:
    """Run check50, and write each check as a line of the results."""
    with open(settings_file, encoding="utf-8") as file:
        settings = json.load(file)
    if shutil.which("check50") is None:
        sys.stderr.write("check50: command not found\n")
        return 127
    with tempfile.TemporaryDirectory() as scratch:
        # It writes into the directory of the checks.
        checks, output = os.path.join(scratch, "checks"), os.path.join(scratch, "results.json")
        shutil.copytree(settings["bundle"], checks)
        done = subprocess.run(
            ["check50", "--dev", "--output", "json", "--output-file", output, checks],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        try:
            with open(output, encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            found = {}
    if done.returncode < 0:
        # By a program of the submission, whose checks would show nothing better.
        ended = f"check50 was ended by signal {-done.returncode} while the submission ran"
        found = {"error": {"type": "BrokenProcessPool", "value": ended}}
    tests = tests_of(found)
    sys.stderr.write(done.stdout.decode("utf-8", "replace")[-_MAX_LOG:])
    if tests is None:
        error = found.get("error") or {}
        sys.stderr.write(f"check50 could not run: {error.get('value', 'it told no results')}\n")
        return 3
    with open(settings["results"], "w", encoding="utf-8") as results:
        results.writelines(json.dumps(test) + "\n" for test in tests)
    return 0


def tests_of(found: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the tests that check50's output makes; None when the checks could not be run."""
    if isinstance(found.get("results"), list):
        return [test_of(check) for check in found["results"]]
    error = found.get("error") or {}
    if error.get("type") not in _STUDENTS_ERRORS:
        return None
    name = "the submission can be checked"
    return [{"name": name, "score": 0, "max_score": 1, "output": str(error.get("value", ""))}]


def test_of(check: dict[str, Any]) -> dict[str, Any]:
    """Return the test of one check: a point, if it passed; one that was skipped did not."""
    cause = check.get("cause") or {}
    lines = [cause.get("rationale"), cause.get("help"), *(check.get("log") or [])]
    passed = check.get("passed") is True
    return {
        "name": str(check.get("description") or check.get("name") or "check"),
        "score": 1 if passed else 0,
        "max_score": 1,
        "status": "passed" if passed else "failed",
        "output": "\n".join(str(line) for line in lines if line)[:_MAX_LOG],
        "output_format": "text",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
