import json
import os
import sys

import report

with open("/grade/data/data.json") as file:
    data = json.load(file)
if not os.path.exists("/grade/student/fib.py"):
    report.refuse("fib.py is missing")
    sys.exit(0)
from fib import fib

points = int(os.environ["GRADER_POINTS"])
tests = []
for n, expected in [(0, 0), (1, 1), (10, 55), (int(data["params"].get("n", 20)), 6765)]:
    got = fib(n)
    tests.append(
        {
            "name": f"fib({n})",
            "points": points if got == expected else 0,
            "max_points": points,
            "output": f"\x1b[32m{got}\x1b[0m",
        }
    )
report.write(tests, message=f"seed {data['variant_seed']}")
