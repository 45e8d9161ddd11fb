"""Finds the cases, runs them group by group, and writes the result of each."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

from .checkers import BrokenError, build, judge, read
from .runs import NotStartedError, start
from .talk import talk_with
from .vpl import judge_vpl

Rules = dict[str, Any]
DEFAULTS = {
    "checker": None,
    "interactor": None,
    "points": 1.0,
    "time_s": 5.0,
    "output_bytes": 1 << 20,
    "visibility": "visible",
    "exit_code": 0,
    "shown": True,
    "title": None,
}


def main(settings_file: str) -> int:
    """Run every case; write each as a line of the results as it is done.

    The settings are JSON: `cases` of the assignment, and `run`, `tests` and `results`, which are
    paths. It returns 3 when the assignment is at fault.
    """
    with open(settings_file, encoding="utf-8") as file:
        settings = json.load(file)
    try:
        run_all(settings)
    except (BrokenError, OSError) as error:
        # Partial results would count.
        if os.path.exists(settings["results"]):
            os.unlink(settings["results"])
        sys.stderr.write(f"The assignment is broken: {error}\n")
        return 3
    return 0


def run_all(settings: Rules) -> None:
    """Run the cases group by group."""
    root = os.path.normpath(os.path.join(settings["tests"], settings["cases"]["directory"]))
    names = find_cases(root)
    if not names:
        raise BrokenError(f"there is no case (NAME.in with NAME.out) below {root}")
    rules = {name: rules_of(settings["cases"], name) for name in names}
    unknown = set(settings["cases"]["cases"]) - set(names)
    if unknown:
        raise BrokenError(f"there is no case {', '.join(sorted(unknown))} below {root}")
    note_groups(settings["cases"]["groups"], rules)
    build_all(rules.values())
    total = settings["cases"].get("deduct_from")
    if total is not None:
        run_deducting(settings, root, rules, total)
        return
    total = sum(rules[name]["points"] for name in names)
    with open(settings["results"], "w", encoding="utf-8") as results:
        write_line(results, {"planned": len(names), "max_score": total})
        if settings["cases"].get("all_or_nothing"):
            run_to_first_wrong(settings["run"], root, names, rules, results)
            return
        for group in dict.fromkeys(group_of(name) for name in names):
            members = [name for name in names if group_of(name) == group]
            how = settings["cases"]["groups"].get(group, {})
            run_group(settings["run"], root, members, rules, how, results)


def note_groups(groups: Rules, rules: Rules) -> None:
    """Have each case whose group counts by its worst know the points of the group."""
    totals: dict[str, float] = {}
    for name, rule in rules.items():
        totals[group_of(name)] = totals.get(group_of(name), 0.0) + rule["points"]
    for name, rule in rules.items():
        worst = groups.get(group_of(name), {}).get("worst_counts", False)
        rule["group_points"] = totals[group_of(name)] if worst else None


def build_all(rules: Iterable[Rules]) -> None:
    """Run the build commands of checkers and interactors, each once."""
    known = []
    for rule in rules:
        for program in (rule["checker"], rule["interactor"]):
            command = (program or {}).get("build")
            if command is not None and command not in known:
                known.append(command)
                build(command)


def run_group(
    run: str, root: str, names: list[str], rules: Rules, how: Rules, results: TextIO
) -> None:
    """Run one group; if its cases count together, results are written at its end."""
    strict, worst = how.get("all_or_nothing", False), how.get("worst_counts", False)
    tests = []
    for name in names:
        test = run_case(run, os.path.join(root, name), name, rules[name])
        tests.append(test)
        if not (strict or worst):
            write_line(results, test)
    if strict or worst:
        fractions = [test["score"] / test["max_score"] for test in tests if test["max_score"]]
        least = min(fractions, default=1.0)
        fraction = least if worst or least >= 1 else 0.0
        for test in tests:
            if test["score"] > fraction * test["max_score"]:
                test["score"] = fraction * test["max_score"]
                test["output"] = test["output"] or "right, but another case of its group is not"
            write_line(results, test)


def run_deducting(settings: Rules, root: str, rules: Rules, total: float) -> None:
    """Run all cases; those that are wrong take their points off the total, down to 0."""
    tests = [
        run_case(settings["run"], os.path.join(root, name), name, rules[name]) for name in rules
    ]
    lost = sum(test["max_score"] - test["score"] for test in tests)
    earned = sum(test["score"] for test in tests)
    left = max(0.0, total - lost)
    with open(settings["results"], "w", encoding="utf-8") as results:
        write_line(results, {"planned": len(tests), "max_score": total})
        for test in tests:
            score = test["score"] * left / earned if earned else left / len(tests)
            write_line(results, {**test, "score": score})


def run_to_first_wrong(
    run: str, root: str, names: list[str], rules: Rules, results: TextIO
) -> None:
    """Run cases up to the first wrong one, as judges of contests do: all points, or none."""
    tests: list[Rules] = []
    for name in names:
        tests.append(run_case(run, os.path.join(root, name), name, rules[name]))
        if tests[-1]["status"] != "passed":
            break
    passed = len(tests) == len(names) and tests[-1]["status"] == "passed"
    for test in tests:
        write_line(results, test if passed else {**test, "score": 0})
    for name in names[len(tests) :]:
        test = {"name": name, "score": 0, "max_score": rules[name]["points"], "status": "failed"}
        test["output"] = "not run: a case before it is not right"
        write_line(results, {**test, "visibility": rules[name]["visibility"]})


def write_line(results: TextIO, value: object) -> None:
    """Write one line, whole."""
    results.write(json.dumps(value) + "\n")
    results.flush()


def find_cases(root: str) -> list[str]:
    """Return the names of all cases, in natural order."""
    names = set()
    for directory, _, files in os.walk(root):
        for file in files:
            stem, kind = os.path.splitext(file)
            if kind in (".in", ".args"):
                names.add(os.path.relpath(os.path.join(directory, stem), root))
    return sorted(names, key=natural)


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key that puts 2 before 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def group_of(name: str) -> str:
    """Return the directory that a case is in; empty for none."""
    return os.path.dirname(name)


def rules_of(cases: Rules, name: str) -> Rules:
    """Return the rules of one case: its own before its group's before those of all."""
    layers = (cases, cases["groups"].get(group_of(name), {}), cases["cases"].get(name, {}))
    rules: Rules = dict(DEFAULTS)
    for layer in layers:
        rules.update({key: layer[key] for key in DEFAULTS if layer.get(key) is not None})
    if rules["checker"] is None and rules["interactor"] is None:
        rules["checker"] = {"kind": "tokens"}
    return rules


def run_case(run: str, path: str, name: str, rules: Rules) -> Rules:
    """Run one case; return its test result."""
    started = time.monotonic()
    fraction, problem, ended = outcome(run, path, rules)
    seconds = time.monotonic() - started
    return {
        "name": rules["title"] or name,
        "score": rules["points"] * fraction,
        "max_score": rules["points"],
        "status": "passed" if fraction >= 1 else "failed",
        "output": problem or "",
        "visibility": rules["visibility"],
        "extra_data": {"wall_time_s": round(seconds, 3), **({"ended": ended} if ended else {})},
    }


def outcome(run: str, path: str, rules: Rules) -> tuple[float, str | None, str]:
    """Run and judge one case; return fraction, problem or message, and the verdict of its end."""
    arguments = (read(f"{path}.args") or b"").decode().splitlines()
    try:
        if rules["interactor"] is not None or rules["checker"].get("interactive", False):
            return talk_with([run, *arguments], path, rules)
        result = start([run, *arguments], read(f"{path}.in") or b"", rules)
    except NotStartedError as error:
        return 0.0, str(error), "runtime-error"
    if rules["checker"]["kind"] == "vpl":
        return judge_vpl(rules, path, result)
    if result.problem is not None:
        return 0.0, result.problem, result.ended
    fraction, problem = judge(rules, path, result.output)
    return fraction, problem, ""
