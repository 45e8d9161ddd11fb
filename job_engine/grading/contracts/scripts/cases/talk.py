"""Has a program of the assignment's talk with the student's: an interactor, or a validator.

The output of each is the input of the other. Who ends first, and how, says whose fault an end
is, as the judges of contests have it.
"""

from __future__ import annotations

import os
import queue
import select
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
from .runs import NotStartedError, late, launch, wrong_end

Rules = dict[str, Any]
Outcome = tuple[float, "str | None", str]
"""Fraction of the points, a problem or the judge's message, and the verdict of a bad end."""
_ENDING_S = 0.2
"""How long a judge that has closed a pipe may take to end, if that is why it did."""


class Talk:
    """The two programs of one case; `ends` has who ended, in that order.

    The program's ends of their pipes are held open here until its end is noted: before, the judge
    cannot notice it, and end because of it. Its own ends the judge may close, to say that there
    is no more.
    """

    def __init__(self, program: list[str], words: list[str], log: str) -> None:
        self.ends: queue.Queue[str] = queue.Queue()
        self._judge_ended = threading.Event()
        to_judge, from_program = os.pipe()
        to_program, from_judge = os.pipe()
        self._held = (to_program, from_program)
        try:
            self.judge = start_judge(words, to_judge, from_judge, log)
        except BrokenError:
            self._let_go()
            raise
        finally:
            os.close(to_judge)
            os.close(from_judge)
        try:
            self.program = launch(program, to_program, from_program)
        except NotStartedError:
            self.judge.kill()
            self.judge.wait()
            self._let_go()
            raise
        self._watches = [
            threading.Thread(target=watch, daemon=True)
            for watch in (self._watch_judge, self._watch_program)
        ]
        for watch in self._watches:
            watch.start()

    def _watch_judge(self) -> None:
        self.judge.wait()
        self.ends.put("judge")
        self._judge_ended.set()

    def _watch_program(self) -> None:
        self.program.wait()
        if self._judge_closed():
            # The program may have ended because the judge is ending: that is then the first.
            self._judge_ended.wait(_ENDING_S)
        self.ends.put("program")
        self._let_go()

    def _judge_closed(self) -> bool:
        """Whether the judge reads, or writes, no more."""
        to_program, from_program = self._held
        poll = select.poll()
        poll.register(to_program, 0)
        poll.register(from_program, 0)
        return bool(poll.poll(0))

    def _let_go(self) -> None:
        for end in self._held:
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


def start_judge(words: list[str], stdin: int, stdout: int, log: str) -> subprocess.Popen[bytes]:
    """Start the program of the assignment's; its errors go to a file."""
    try:
        with open(log, "wb") as errors:
            # Who writes to a program that is gone gets an error, and is not killed by it.
            return subprocess.Popen(
                words, stdin=stdin, stdout=stdout, stderr=errors, restore_signals=False
            )
    except OSError as error:
        raise BrokenError(f"the interactor cannot be run: {error}") from None


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
