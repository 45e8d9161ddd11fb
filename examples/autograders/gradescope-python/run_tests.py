"""Runs the unit tests, and writes what Gradescope reads: results.json."""

import io
import json
import time
import unittest


def main():
    suite = unittest.defaultTestLoader.discover("tests")
    started = time.time()
    tests = []
    for test in flatten(suite):
        method = getattr(test, getattr(test, "_testMethodName", ""), None)
        weight = getattr(method, "weight", 1)
        printed = io.StringIO()
        passed = unittest.TextTestRunner(stream=printed).run(test).wasSuccessful()
        tests.append(
            {
                "name": (test.shortDescription() or str(test)),
                "score": weight if passed else 0,
                "max_score": weight,
                "status": "passed" if passed else "failed",
                "output": "" if passed else printed.getvalue(),
                "visibility": getattr(method, "visibility", "visible"),
                "tags": getattr(method, "tags", []),
            }
        )
    results = {
        "tests": tests,
        "execution_time": f"{time.time() - started:.2f}",
        "stdout_visibility": "hidden",
        "leaderboard": [{"name": "Tests passed", "value": sum(t["score"] > 0 for t in tests)}],
    }
    with open("/autograder/results/results.json", "w") as file:
        json.dump(results, file, indent=4)


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


if __name__ == "__main__":
    main()
