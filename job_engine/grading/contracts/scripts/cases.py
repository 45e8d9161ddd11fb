"""Runs a program on cases of input and expected output; the engine's own harness.

It runs in the sandbox of the tests, without the submission, and starts the program by the
command of a split run. Its settings are a JSON file: `cases` of the assignment, and the paths
`run`, `tests` and `results`. It exits with 3 when the assignment is at fault.
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
MAX_SHOWN = 400
"""Characters of an output that are shown of a wrong answer."""
_WRONG_EXIT_CODES = (1, 2, 4, 8)
"""Of a checker, as in testlib: wrong answer, presentation error, dirt, unexpected end of file."""
_POINTS_EXIT_CODE = 7
"""Of a checker that prints the fraction of the points first."""
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
    """The assignment is at fault: no submission may lose points."""


def main(settings_file: str) -> int:
    """Run every case; write each as a line of the results as it is done."""
    with open(settings_file, encoding="utf-8") as file:
        settings = json.load(file)
    try:
        run_all(settings)
    except BrokenError as error:
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
    """Run one group; `strict`: all or nothing, so results are written at its end."""
    tests = []
    for name in names:
        test = run_case(run, os.path.join(root, name), name, rules[name])
        tests.append(test)
        if not strict:
            write_line(results, test)
    if strict:
        passed = all(test["status"] == "passed" for test in tests)
        for test in tests:
            if not passed:
                test["score"] = 0
                test["output"] = test["output"] or "right, but another case of its group is not"
            write_line(results, test)


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
    rules = dict(DEFAULTS)
    for layer in layers:
        rules.update({key: layer[key] for key in DEFAULTS if layer.get(key) is not None})
    return rules


def run_case(run: str, path: str, name: str, rules: Rules) -> Rules:
    """Run one case; return its test result."""
    stdin = read(f"{path}.in") or b""
    arguments = (read(f"{path}.args") or b"").decode().splitlines()
    started = time.monotonic()
    output, problem, ended = start(run, arguments, stdin, rules)
    seconds = time.monotonic() - started
    fraction = 0.0
    if problem is None:
        fraction, problem = judge(rules, path, output)
    return {
        "name": name,
        "score": rules["points"] * fraction,
        "max_score": rules["points"],
        "status": "passed" if fraction >= 1 else "failed",
        "output": problem or "",
        "visibility": rules["visibility"],
        "extra_data": {"wall_time_s": round(seconds, 3), **({"ended": ended} if ended else {})},
    }


def start(
    run: str, arguments: list[str], stdin: bytes, rules: Rules
) -> tuple[bytes, str | None, str]:
    """Run the program once; return its output, a problem if any, and then the verdict."""
    process = subprocess.Popen(
        [run, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        output, problem = talk(process, stdin, rules)
        if problem is not None:
            return output, problem, "time-limit" if problem == late(rules) else "output-limit"
        code = process.wait(timeout=max(0.1, rules["time_s"]))
    except subprocess.TimeoutExpired:
        return b"", late(rules), "time-limit"
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            close(stream)
    expected = rules["exit_code"]
    if expected != "any" and code != expected:
        problem = f"ended with exit code {code}" + (f", not {expected}" if expected else "")
        return output, problem, "runtime-error"
    return output, None, ""


def talk(process: subprocess.Popen[bytes], stdin: bytes, rules: Rules) -> tuple[bytes, str | None]:
    """Write the input and read the output concurrently, up to the limits."""
    assert process.stdin is not None
    assert process.stdout is not None
    deadline = time.monotonic() + rules["time_s"]
    output = bytearray()
    left = memoryview(stdin)
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if left:
            selector.register(process.stdin, selectors.EVENT_WRITE)
        else:
            close(process.stdin)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return bytes(output), late(rules)
            for key, _ in selector.select(left_s):
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
    """Write as much as the pipe takes; return the rest, empty once the program has closed it."""
    try:
        return left[os.write(stream.fileno(), left[:65536]) :]
    except BlockingIOError:
        return left
    except OSError:
        return left[:0]


def close(stream: IO[bytes] | None) -> None:
    """Close a pipe, also one whose other end is closed."""
    with contextlib.suppress(OSError):
        if stream is not None:
            stream.close()


def late(rules: Rules) -> str:
    """Return the problem of a run that took too long."""
    return f"no end within {rules['time_s']:g} s"


def read(path: str) -> bytes | None:
    """Return a file's content; None when there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def judge(rules: Rules, path: str, output: bytes) -> tuple[float, str | None]:
    """Return the fraction of the points, 0 to 1, and a problem or the checker's message."""
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
    """Whether the built-in checker takes the output."""
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
    """Return the lines without trailing white space, and without trailing empty lines."""
    lines = [line.rstrip() for line in data.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def close_to(printed: bytes, expected: bytes, tolerance: float) -> bool:
    """Whether two words are equal, or numbers within an absolute or relative tolerance."""
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
    """Run the assignment's checker, which gets files; return the fraction and the message."""
    command = checker["command"]
    words = ["sh", "-c", command + ' "$@"', "sh"] if isinstance(command, str) else list(command)
    with tempfile.TemporaryDirectory() as scratch:
        # Files, not arguments: no shell sees what a program printed.
        files = {"input": read(f"{path}.in") or b"", "output": output, "expected": expected}
        for name, data in files.items():
            with open(os.path.join(scratch, name), "wb") as file:
                file.write(data)
        paths = [os.path.join(scratch, name) for name in files]
        if checker["kind"] == "custom":
            return verdict_of(*run_to_end([*words, *paths], os.devnull))
        feedback = os.path.join(scratch, "feedback")
        os.mkdir(feedback)
        stdin, output_file, answer = paths
        code, report = run_to_end([*words, stdin, answer, feedback + os.sep], output_file)
        return validated(code, report, read(os.path.join(feedback, "teammessage.txt")) or b"")


def run_to_end(words: list[str], stdin: str) -> tuple[int, str]:
    """Run a checker; return its exit code and its output."""
    try:
        with open(stdin, "rb") as file:
            checker = subprocess.run(
                words,
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=60,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokenError(f"the checker cannot be run: {error}") from None
    return checker.returncode, checker.stdout.decode("utf-8", "replace")[:2000].strip()


def validated(code: int, report: str, message: bytes) -> tuple[float, str | None]:
    """Return fraction and message for the exit code of a problem package's output validator."""
    if code not in (42, 43):
        raise BrokenError(f"the validator ended with {code}, not 42 or 43: {report[-500:]}")
    text = message.decode("utf-8", "replace")[:2000].strip()
    return (1.0, text or None) if code == 42 else (0.0, text or "wrong")


def verdict_of(code: int, report: str) -> tuple[float, str | None]:
    """Return fraction and message for the exit code and output of a checker."""
    if code == 0:
        return 1.0, None
    if code in _WRONG_EXIT_CODES:
        return 0.0, report or "wrong"
    if code == _POINTS_EXIT_CODE:
        first, _, rest = report.partition("\n")
        words = first.removeprefix("points ").split(None, 1)
        try:
            fraction = float(words[0])
        except (IndexError, ValueError):
            raise BrokenError(f"the checker printed no part of the points: {first!r}") from None
        if not 0 <= fraction <= 1:
            raise BrokenError(f"the checker printed {fraction}, which is no part of the points")
        return fraction, "\n".join([*words[1:], *([rest] if rest else [])]) or None
    raise BrokenError(f"the checker ended with {code}: {report[-500:]}")


def show(data: bytes) -> str:
    """Return an output on one line, cut to `MAX_SHOWN` characters."""
    text = " ".join(data.decode("utf-8", "replace").split())
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
