"""Live events of a running submission: its phases, its tests and its output.

They are events of the job's stream (`Context.event`). Events that the assignment or a test
hides from students are marked for staff. All of it is in the results as well, so it is
bounded here.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from job_engine.grading.assignment import Assignment
from job_engine.grading.plan import RESULTS
from job_engine.grading.results.base import lines_of
from job_engine.grading.results.model import TestResult, Visibility
from job_engine.grading.results.stream import TestStream
from job_engine.grading.results.tap import TapStream
from job_engine.sandbox.base import FileGrew, PhaseOutput, PhaseResult, Verdict

MAX_CHARS: Final = 65_536
"""Characters of one phase's output that are streamed."""
MAX_TESTS: Final = 2_000
_PIECE: Final = 4_000
_MAX_TEST_OUTPUT: Final = 1_000
_MAX_LINE_BYTES: Final = 64 * 2**10
"""Longest line of a file that is read while it grows."""
_MAX_LINES: Final = 4 * MAX_TESTS
"""Lines of a file that are read while it grows."""

ReadLine = Callable[[str], TestResult | None]
"""Parses a line; returns the test that it describes, or None."""


class Emit(Protocol):
    """Emits an event; `job_engine.plugins.Context.event` is one."""

    def __call__(self, kind: str, data: Mapping[str, Any], *, staff: bool = False) -> None:
        """Emit the event."""


class Live:
    """Emits the live events of one run."""

    def __init__(self, assignment: Assignment, emit: Emit, hidden: frozenset[str]) -> None:
        """`hidden` are the phases whose output only staff may see."""
        self._assignment = assignment
        self._emit = emit
        self._hidden = hidden
        self._streams: dict[tuple[str, bool], _Lines] = {}
        self._printed_chars: dict[str, int] = {}
        self._tests = 0
        self._read_test = _reader(assignment)
        path = assignment.results.file_stream
        self._file = None if path is None else _TestFile(f"{RESULTS}/{path}")

    def started(self, phase: str) -> None:
        """Emit that a phase has begun."""
        self._emit("phase", {"phase": phase, "state": "started"})

    def printed(self, output: PhaseOutput) -> None:
        """Emit output of a phase."""
        lines = self._streams.setdefault((output.phase, output.stderr), _Lines())
        self._emit_output(output.phase, output.stderr, lines.feed(output.data))

    def grew(self, file: FileGrew) -> None:
        """Emit the tests that were added to the results file."""
        if self._file is not None:
            for test in self._file.feed(file.data):
                self._emit_test(test)

    def ended(self, result: PhaseResult, message: str) -> str:
        """Emit that a phase has ended; return the message that students may see.

        `message` says how it ended. The exit code of a hidden phase is left out, because it
        reveals whether hidden tests failed.
        """
        verdict = result.verdict
        if result.phase in self._hidden and verdict in (Verdict.OK, Verdict.EXIT):
            verdict, message = Verdict.OK, f"ended after {result.wall_time_s:.1f} s"
        for (phase, stderr), lines in self._streams.items():
            if phase == result.phase:
                self._emit_output(phase, stderr, lines.feed(b"", end=True))
        if self._file is not None and result.phase == "test":
            for test in self._file.rest(result):
                self._emit_test(test)
        self._emit(
            "phase",
            {
                "phase": result.phase,
                "state": "ended",
                "verdict": verdict.value,
                "message": message,
                "wall_time_s": round(result.wall_time_s, 3),
                "cpu_time_s": round(result.cpu_time_s, 3),
                "peak_memory_bytes": result.peak_memory_bytes,
            },
        )
        return message

    def _emit_output(self, phase: str, stderr: bool, text: str) -> None:
        if text and phase == "test" and not stderr and self._read_test is not None:
            staff = False
            for line in lines_of(text):
                if (test := self._read_test(line)) is not None:
                    self._emit_test(test)
                    staff |= test.visibility is not Visibility.VISIBLE
            # The output may contain that hidden test, or part of one; so may what follows.
            if staff or not text.endswith("\n"):
                self._hidden |= {phase}
        staff = phase in self._hidden
        printed = self._printed_chars.get(phase, 0)
        if not text or printed > MAX_CHARS:
            return
        self._printed_chars[phase] = printed + len(text)
        if printed + len(text) > MAX_CHARS:
            text = f"{text[: MAX_CHARS - printed]}\n… the rest comes with the results\n"
        stream = "stderr" if stderr else "stdout"
        for start in range(0, len(text), _PIECE):
            piece = {"phase": phase, "stream": stream, "text": text[start : start + _PIECE]}
            self._emit("output", piece, staff=staff)

    def _emit_test(self, test: TestResult) -> None:
        self._tests += 1
        if self._tests > MAX_TESTS:
            return
        shorter = test.model_copy(
            update={"output": test.output[:_MAX_TEST_OUTPUT], "extra_data": {}, "tags": []}
        )
        document = shorter.model_dump(mode="json", exclude_defaults=True)
        self._emit("test", document, staff=test.visibility is not Visibility.VISIBLE)


class _Lines:
    """Decodes bytes to text, in whole lines."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes, *, end: bool = False) -> str:
        text = self._rest + self._decoder.decode(data, final=end)
        # A very long line is passed on in pieces.
        cut = len(text) if end or len(text) > _PIECE else text.rfind("\n") + 1
        self._rest = text[cut:]
        return text[:cut]


class _TestFile:
    """Reads a file that grows by a line of JSON for each finished test."""

    def __init__(self, name: str) -> None:
        """`name` is the file's name in a hand-over."""
        self._name = name
        self._stream = TestStream()
        self._taken = self._lines = 0
        self._line = bytearray()
        """The current line so far, or its beginning if it is too long."""

    def feed(self, data: bytes) -> Iterator[TestResult]:
        """Take the next bytes, and yield the tests of completed lines."""
        self._taken += len(data)
        if self._lines >= _MAX_LINES:
            return
        *ends, begun = data.split(b"\n", _MAX_LINES - self._lines)
        self._lines += len(ends)
        for end in ends:
            line, self._line = self._line + end, bytearray()
            if len(line) <= _MAX_LINE_BYTES:
                test = self._stream.feed(line.decode("utf-8", "replace"))
                if test is not None:
                    yield test
        self._line += begun[: max(0, _MAX_LINE_BYTES + 1 - len(self._line))]

    def rest(self, result: PhaseResult) -> Iterator[TestResult]:
        """Yield the remaining tests once the phase has ended.

        The last line needs no newline, unless the phase was ended by a limit.
        """
        data = result.files.get(self._name, b"")[self._taken :]
        whole = result.verdict in (Verdict.OK, Verdict.EXIT)
        yield from self.feed(data + b"\n" if whole else data)


def _reader(assignment: Assignment) -> ReadLine | None:
    """Return the parser for tests on standard output, if the assignment has them there."""
    match assignment.results.stdout_stream:
        case "stream":
            return TestStream().feed
        case "tap":
            return TapStream(assignment.results.weights).feed
        case None:
            return None
