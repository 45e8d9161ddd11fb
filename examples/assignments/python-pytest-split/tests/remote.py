"""The student's stack, as the tests see it: each call goes to a program in another sandbox.

What comes back is data and nothing else: no object of the student's, whose `__eq__` could say
that it equals whatever is expected, and no more of it than a line of a known length.
"""

import json
import subprocess
import threading

RUN = "/mnt/program/run"
TIMEOUT_S = 2
LINE_BYTES = 10_000
ERRORS = {"IndexError": IndexError, "TypeError": TypeError, "ValueError": ValueError}


class Stack:
    """A new stack, in a run of the program of its own."""

    def __init__(self):
        self._run = subprocess.Popen(
            [RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._timer = threading.Timer(TIMEOUT_S, self._run.kill)
        self._timer.start()

    def close(self):
        """End the run."""
        self._timer.cancel()
        self._run.kill()
        self._run.communicate()

    def push(self, item):
        """Put an item on top."""
        self._call("push", item)

    def pop(self):
        """Take the top item."""
        return self._call("pop")

    def peek(self):
        """Look at the top item."""
        return self._call("peek")

    def __len__(self):
        length = self._call("__len__")
        assert isinstance(length, int), f"len() gave {length!r}"
        return length

    def _call(self, name, *arguments):
        try:
            self._run.stdin.write(json.dumps([name, *arguments]).encode() + b"\n")
            self._run.stdin.flush()
            answer = json.loads(self._run.stdout.readline(LINE_BYTES))
            error, value = answer.get("error"), answer.get("value")
        except (OSError, ValueError, AttributeError, RecursionError):
            raise AssertionError(f"no answer to {name}() within {TIMEOUT_S} s") from None
        if error is not None:
            error = str(error)[:100]
            raise ERRORS.get(error, AssertionError)(f"{name}() raised {error}")
        return value
