"""Shared by the questions of the course: writes what PrairieLearn reads."""

import json
import os


def write(tests, message=""):
    points = sum(test["points"] for test in tests)
    most = sum(test["max_points"] for test in tests)
    os.makedirs("/grade/results", exist_ok=True)
    with open("/grade/results/results.json", "w") as file:
        json.dump({"score": points / most, "message": message, "tests": tests}, file)


def refuse(reason):
    os.makedirs("/grade/results", exist_ok=True)
    with open("/grade/results/results.json", "w") as file:
        json.dump({"gradable": False, "format_errors": [reason]}, file)
