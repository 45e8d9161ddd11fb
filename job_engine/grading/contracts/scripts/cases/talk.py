"""Has a program of the assignment's talk with the student's: an interactor, or a validator.

The output of each is the input of the other. Who ends first, and how, says whose fault an end
is, as the judges of contests have it.
"""

from __future__ import annotations

import os
import queue
import subprocess
import tempfile
import threading
import time
from typing import Any

from .checkers import (
    ACCEPTED,
    BUILD_FAILED,
    PATIENCE_S,
    REJECTED,
    BrokenError,
    expected_of,
    judge,
    lay_out,
    read,
    validated,
    verdict_of,
    words_of,
)
from .runs import late, wrong_end

Rules = dict[str, Any]
Outcome = tuple[float, "str | None", str]
"""Fraction of the points, a problem or the judge's message, and the verdict of a bad end."""


class Talk:
    """The two programs of one case; `ends` has who ended, in that order.

    The ends of their pipes are held open here until an end is noted: neither can notice the
    other's end before, and end because of it.
    """

    def __init__(self, program: list[str], words: list[str], log: str) -> None:
        self.ends: queue.Queue[str] = queue.Queue()
        to_judge, from_program = os.pipe()
        to_program, from_judge = os.pipe()
        held = {"judge": (to_judge, from_judge), "program": (to_program, from_program)}
        try:
            with open(log, "wb") as errors:
                # Who writes to a program that is gone gets an error, and is not killed by it.
                self.judge = subprocess.Popen(
                    words,
                    stdin=to_judge,
                    stdout=from_judge,
                    stderr=errors,
                    restore_signals=False,
                )
        except OSError as error:
            for end in (*held["judge"], *held["program"]):
                os.close(end)
            raise BrokenError(f"the interactor cannot be run: {error}") from None
        self.program = subprocess.Popen(
            program, stdin=to_program, stdout=from_program, stderr=subprocess.DEVNULL
        )
        self._watches = [
            threading.Thread(target=self._watch, args=(name, process, held[name]), daemon=True)
            for name, process in (("judge", self.judge), ("program", self.program))
        ]
        for watch in self._watches:
            watch.start()

    def _watch(self, name: str, process: subprocess.Popen[bytes], held: tuple[int, int]) -> None:
        process.wait()
        self.ends.put(name)
        for end in held:
            os.close(end)

    def next_end(self, seconds: float) -> str | None:
        """Wait for the next of them to end; return which one did, None when neither."""
        try:
            return self.ends.get(timeout=max(0.0, seconds))
        except queue.Empty:
            return None

    def close(self) -> None:
        """End both."""
        self.program.kill()
        self.judge.kill()
        for watch in self._watches:
            watch.join()


def talk_with(program: list[str], path: str, rules: Rules) -> Outcome:
    """Run a case in which the program is talked with, and judge it."""
    interactor, checker = rules["interactor"], rules["checker"]
    with tempfile.TemporaryDirectory() as scratch:
        given, wanted = lay_out(scratch, path, expected_of(path) or b"")
        transcript, log = os.path.join(scratch, "output"), os.path.join(scratch, "log")
        feedback = os.path.join(scratch, "feedback", "")
        os.mkdir(feedback)
        if interactor is None:
            words = [*words_of(checker["command"]), given, wanted, feedback]
        else:
            words = [*words_of(interactor["command"]), given, transcript, wanted]
        talk = Talk(program, words, log)
        try:
            problem, ended = listen(talk, "kattis" if interactor is None else "custom", rules)
        finally:
            talk.close()
        if problem is not None:
            return 0.0, problem, ended
        code, report = talk.judge.returncode, text_of(log)
        if interactor is None:
            return (*validated(code, report, feedback, rules), "")
        fraction, problem = verdict_of(code, report)
        if fraction < 1 or checker is None:
            return fraction, problem, ""
        return (*judge(rules, path, read(transcript) or b""), "")


def listen(talk: Talk, kind: str, rules: Rules) -> tuple[str | None, str]:
    """Wait for both to end; return what is wrong, if not the judge's word counts, and its verdict.

    A judge that rejects ends the talk. One that accepts does not: the program has to end in its
    time, and well. Of a program that ends early by itself a judge may make nothing.
    """
    deadline = time.monotonic() + rules["time_s"]
    first = talk.next_end(rules["time_s"])
    if first == "judge":
        if talk.judge.returncode not in ACCEPTED[kind]:
            return None, ""
        if talk.next_end(deadline - time.monotonic()) is None:
            return late(rules), "time-limit"
    elif first is None:
        return late(rules), "time-limit"
    elif talk.next_end(PATIENCE_S) is None:
        raise BrokenError(f"the interactor did not end within {PATIENCE_S} s of the program's end")
    if (problem := wrong_end(talk.program.returncode, rules)) is not None:
        return problem, "runtime-error"
    code = talk.judge.returncode
    if code not in (*ACCEPTED[kind], *REJECTED[kind], *BUILD_FAILED):
        return f"ended before all was said (the interactor ended with {code})", ""
    return None, ""


def text_of(log: str) -> str:
    """Return what was printed, as far as it is shown."""
    return (read(log) or b"").decode("utf-8", "replace")[:2000].strip()
