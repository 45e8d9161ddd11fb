"""Runs ./wc on each case, compares what it prints, and writes Gradescope's results.json."""

import json
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
RESULTS = Path("/mnt/results/results.json")
TIMEOUT_S = 2
OUTPUT_LIMIT = 2000


def run_case(case):
    """Run one case of cases.json; return a test of results.json."""
    test = {"name": case["name"], "score": 0, "max_score": case["points"]}
    test["visibility"] = case.get("visibility", "visible")
    try:
        done = subprocess.run(
            ["./wc"],
            input=case["input"].encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {**test, "status": "failed", "output": f"no answer within {TIMEOUT_S} s"}
    except OSError as error:
        return {**test, "status": "failed", "output": f"cannot run ./wc: {error}"}
    printed = done.stdout.decode("utf-8", "replace")[:OUTPUT_LIMIT].split()
    expected = case["expected"].split()
    if done.returncode != 0:
        return {**test, "status": "failed", "output": f"ended with exit code {done.returncode}"}
    if printed != expected:
        told = f"expected {' '.join(expected)}, printed {' '.join(printed)}"
        return {**test, "status": "failed", "output": told}
    return {**test, "status": "passed", "score": case["points"]}


def main():
    """Run all cases; the exit code only says whether the harness itself worked."""
    cases = json.loads((TESTS / "cases.json").read_text())
    tests = [run_case(case) for case in cases]
    RESULTS.write_text(json.dumps({"tests": tests}))
    passed = sum(test["status"] == "passed" for test in tests)
    sys.stdout.write(f"{passed} of {len(tests)} tests passed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
