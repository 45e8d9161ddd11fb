"""Runs a program on cases of input and expected output; the engine's own harness.

It runs in a sandbox, with the tests and without the submission, and talks with the program
through the command that stands for it. It needs Python 3.9 and nothing else, and is imported
by nothing but its tests. Its settings are JSON: `cases` of the assignment, and `run`, `tests`
and `results`, which are paths. It ends with 3 when the assignment is at fault.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import selectors
import subprocess
import sys
import tempfile
import time
from typing import IO, Any, TextIO

Rules = dict[str, Any]
SHOWN = 400
"""Characters of an output that are shown of a wrong answer."""
_WRONG = (1, 2, 4, 8)
"""Exit codes of a checker for a wrong output, as testlib's: not the answer, not of the form, more
than was asked for, less."""
DEFAULTS = {
    "checker": {"kind": "tokens"},
    "points": 1.0,
    "time_s": 5.0,
    "output_bytes": 1 << 20,
    "visibility": "visible",
    "exit_code": 0,
    "shown": True,
}


class BrokenError(Exception):
    """The assignment is wrong, and no submission should lose points for it."""


def main(settings_file: str) -> int:
    """Run every case; write each as a line of the results as it is done."""
    with open(settings_file, encoding="utf-8") as file:
        settings = json.load(file)
    try:
        run_all(settings)
    except BrokenError as error:
        # What was written before would count, and so would what is missing.
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
    total = sum(rules[name]["points"] for name in names)
    with open(settings["results"], "w", encoding="utf-8") as results:
        write_line(results, {"planned": len(names), "max_score": total})
        if settings["cases"].get("all_or_nothing"):
            run_to_first_wrong(settings["run"], root, names, rules, results)
            return
        for group in dict.fromkeys(group_of(name) for name in names):
            members = [name for name in names if group_of(name) == group]
            strict = settings["cases"]["groups"].get(group, {}).get("all_or_nothing", False)
            run_group(settings["run"], root, members, rules, strict, results)


def run_group(
    run: str, root: str, names: list[str], rules: Rules, strict: bool, results: TextIO
) -> None:
    """Run one group; of one that is all or nothing the points are known at its end only."""
    tests = []
    for name in names:
        test = run_case(run, os.path.join(root, name), name, rules[name])
        tests.append(test)
        if not strict:
            write_line(results, test)
    if strict:
        whole = all(test["status"] == "passed" for test in tests)
        for test in tests:
            if not whole:
                test["score"] = 0
                test["output"] = test["output"] or "right, but another case of its group is not"
            write_line(results, test)


def run_to_first_wrong(
    run: str, root: str, names: list[str], rules: Rules, results: TextIO
) -> None:
    """Run cases until one is wrong, as judges of contests do; points are for all right only."""
    tests: list[Rules] = []
    for name in names:
        tests.append(run_case(run, os.path.join(root, name), name, rules[name]))
        if tests[-1]["status"] != "passed":
            break
    whole = len(tests) == len(names) and tests[-1]["status"] == "passed"
    for test in tests:
        write_line(results, test if whole else {**test, "score": 0})
    for name in names[len(tests) :]:
        test = {"name": name, "score": 0, "max_score": rules[name]["points"], "status": "failed"}
        test["output"] = "not run: a case before it is not right"
        write_line(results, {**test, "visibility": rules[name]["visibility"]})


def write_line(results: TextIO, value: object) -> None:
    """Write one line, whole."""
    results.write(json.dumps(value) + "\n")
    results.flush()


def find_cases(root: str) -> list[str]:
    """Return the names of all cases, numbers in them in their order."""
    names = set()
    for directory, _, files in os.walk(root):
        for file in files:
            stem, kind = os.path.splitext(file)
            if kind in (".in", ".args"):
                names.add(os.path.relpath(os.path.join(directory, stem), root))
    return sorted(names, key=natural)


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort 2 before 10."""
    parts = re.split(r"([0-9]+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def group_of(name: str) -> str:
    """Return the directory that a case is in; empty for none."""
    return os.path.dirname(name)


def rules_of(cases: Rules, name: str) -> Rules:
    """Return what holds for one case: its own rules, its group's, those of all."""
    layers = (cases, cases["groups"].get(group_of(name), {}), cases["cases"].get(name, {}))
    rules = dict(DEFAULTS)
    for layer in layers:
        rules.update({key: layer[key] for key in DEFAULTS if layer.get(key) is not None})
    return rules


def run_case(run: str, path: str, name: str, rules: Rules) -> Rules:
    """Return the test that one case makes."""
    given = read(f"{path}.in") or b""
    arguments = (read(f"{path}.args") or b"").decode().splitlines()
    started = time.monotonic()
    output, problem, ended = start(run, arguments, given, rules)
    seconds = time.monotonic() - started
    part = 0.0
    if problem is None:
        part, problem = judge(rules, path, output)
    return {
        "name": name,
        "score": rules["points"] * part,
        "max_score": rules["points"],
        "status": "passed" if part >= 1 else "failed",
        "output": problem or "",
        "visibility": rules["visibility"],
        "extra_data": {"wall_time_s": round(seconds, 3), **({"ended": ended} if ended else {})},
    }


def start(
    run: str, arguments: list[str], given: bytes, rules: Rules
) -> tuple[bytes, str | None, str]:
    """Run the program once; return what it printed, and what was wrong and its verdict if so."""
    process = subprocess.Popen(
        [run, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        output, problem = talk(process, given, rules)
        if problem is not None:
            return output, problem, "time-limit" if problem == late(rules) else "output-limit"
        left = max(0.1, rules["time_s"])
        code = process.wait(timeout=left)
    except subprocess.TimeoutExpired:
        return b"", late(rules), "time-limit"
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            close(stream)
    wanted = rules["exit_code"]
    if wanted != "any" and code != wanted:
        problem = f"ended with exit code {code}" + ("" if not wanted else f", not {wanted}")
        return output, problem, "runtime-error"
    return output, None, ""


def talk(process: subprocess.Popen[bytes], given: bytes, rules: Rules) -> tuple[bytes, str | None]:
    """Write the input and read the output, side by side, up to the limits."""
    assert process.stdin is not None
    assert process.stdout is not None
    deadline = time.monotonic() + rules["time_s"]
    output = bytearray()
    left = memoryview(given)
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if left:
            selector.register(process.stdin, selectors.EVENT_WRITE)
        else:
            close(process.stdin)
        while True:
            patience = deadline - time.monotonic()
            if patience <= 0:
                return bytes(output), late(rules)
            for key, _ in selector.select(patience):
                if key.fileobj is process.stdout:
                    data = os.read(process.stdout.fileno(), 65536)
                    if not data:
                        return bytes(output), None
                    output += data
                    if len(output) > rules["output_bytes"]:
                        return bytes(output), f"printed more than {rules['output_bytes']:,} bytes"
                    continue
                left = feed(process.stdin, left)
                if not left:
                    selector.unregister(process.stdin)
                    close(process.stdin)


def feed(stream: IO[bytes], left: memoryview) -> memoryview:
    """Write what the program takes; return the rest, none once it reads no more."""
    try:
        return left[os.write(stream.fileno(), left[:65536]) :]
    except BlockingIOError:
        return left
    except OSError:
        return left[:0]


def close(stream: IO[bytes] | None) -> None:
    """Close a pipe, whoever is gone at its other end."""
    with contextlib.suppress(OSError):
        if stream is not None:
            stream.close()


def late(rules: Rules) -> str:
    """Say that a run took too long."""
    return f"no end within {rules['time_s']:g} s"


def read(path: str) -> bytes | None:
    """Return a file's content; None when there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def judge(rules: Rules, path: str, output: bytes) -> tuple[float, str | None]:
    """Return the part of the points, 0 to 1, and what is wrong if anything is."""
    checker = rules["checker"]
    expected = read(f"{path}.out")
    if expected is None:
        expected = read(f"{path}.ans")
    if checker["kind"] in ("custom", "kattis"):
        return run_checker(checker, path, output, expected or b"")
    if expected is None:
        raise BrokenError(f"{path} has no .out and no .ans")
    if same(checker, output, expected):
        return 1.0, None
    if not rules["shown"]:
        return 0.0, "wrong answer"
    return 0.0, f"expected {show(expected)}, printed {show(output)}"


def same(checker: Rules, output: bytes, expected: bytes) -> bool:
    """Compare as the checker does that is built in."""
    kind = checker["kind"]
    if checker.get("ignore_case"):
        output, expected = output.lower(), expected.lower()
    if kind == "exact":
        return output == expected
    if kind == "lines":
        return trimmed(output) == trimmed(expected)
    one, other = output.split(), expected.split()
    if kind == "tokens":
        return one == other
    tolerance = checker.get("tolerance", 1e-6)
    return len(one) == len(other) and all(map(close_to, one, other, itertools.repeat(tolerance)))


def trimmed(data: bytes) -> list[bytes]:
    """Return the lines without spaces at their ends, and without empty ones at the end."""
    lines = [line.rstrip() for line in data.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def close_to(printed: bytes, expected: bytes, tolerance: float) -> bool:
    """Whether two words are the same, or numbers that are."""
    if printed == expected:
        return True
    try:
        one, other = float(printed), float(expected)
    except ValueError:
        return False
    if not (math.isfinite(one) and math.isfinite(other)):
        return one == other
    return abs(one - other) <= max(tolerance, tolerance * abs(other))


def run_checker(
    checker: Rules, path: str, output: bytes, expected: bytes
) -> tuple[float, str | None]:
    """Have a checker of the assignment's judge; it gets files, and no shell sees their content."""
    command = checker["command"]
    words = ["sh", "-c", command + ' "$@"', "sh"] if isinstance(command, str) else list(command)
    with tempfile.TemporaryDirectory() as scratch:
        given, printed, wanted = (os.path.join(scratch, n) for n in ("input", "output", "expected"))
        for name, data in (
            (given, read(f"{path}.in") or b""),
            (printed, output),
            (wanted, expected),
        ):
            with open(name, "wb") as file:
                file.write(data)
        if checker["kind"] == "custom":
            return verdict_of(*started([*words, given, printed, wanted], os.devnull))
        feedback = os.path.join(scratch, "feedback")
        os.mkdir(feedback)
        code, report = started([*words, given, wanted, feedback + os.sep], printed)
        return validated(code, report, read(os.path.join(feedback, "teammessage.txt")) or b"")


def started(words: list[str], stdin: str) -> tuple[int, str]:
    """Run a checker to its end; return its exit code and what it printed."""
    try:
        with open(stdin, "rb") as file:
            done = subprocess.run(
                words,
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokenError(f"the checker cannot be run: {error}") from None
    return done.returncode, done.stdout.decode("utf-8", "replace")[:2000].strip()


def validated(code: int, report: str, message: bytes) -> tuple[float, str | None]:
    """Return the part and the message of an output validator of a problem package."""
    if code not in (42, 43):
        raise BrokenError(f"the validator ended with {code}, not 42 or 43: {report[-500:]}")
    text = message.decode("utf-8", "replace")[:2000].strip()
    return (1.0, text or None) if code == 42 else (0.0, text or "wrong")


def verdict_of(code: int, report: str) -> tuple[float, str | None]:
    """Return the part and the message that a checker's end stands for."""
    if code == 0:
        return 1.0, None
    if code in _WRONG:
        return 0.0, report or "wrong"
    if code == 7:
        first, _, rest = report.partition("\n")
        words = first.removeprefix("points ").split(None, 1)
        try:
            part = float(words[0])
        except (IndexError, ValueError):
            raise BrokenError(f"the checker told no part of the points: {first!r}") from None
        if not 0 <= part <= 1:
            raise BrokenError(f"the checker told {part}, which is no part of the points")
        return part, "\n".join([*words[1:], *([rest] if rest else [])]) or None
    raise BrokenError(f"the checker ended with {code}: {report[-500:]}")


def show(data: bytes) -> str:
    """Return an output for a person: a line, and not all of a long one."""
    text = " ".join(data.decode("utf-8", "replace").split())
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
