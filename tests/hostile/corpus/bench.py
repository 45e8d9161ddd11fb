"""Grades the corpus on one backend, many at once, with ordinary submissions beside them."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from job_engine.grading.results import Results, Visibility, to_json
from job_engine.sandbox.base import Sandbox
from tests.hostile.corpus.assignments import (
    ORDINARY,
    SECRET,
    WALL_TIME_S,
    write_assignment,
    write_ordinary,
)
from tests.hostile.corpus.network import Ears
from tests.hostile.corpus.rows import Row
from tests.integration.grading.conftest import Desk

AT_ONCE: Final = 5
"""Programs graded at a time."""
LOOKED_AT: Final = {"build": "build", "reported": "report"}
"""Phase whose verdict and output a row is about, by assignment; else the tests."""
_STORED_BYTES: Final = 4 * 2**20
_PAUSE_S: Final = 1.0
_SLACK_S: Final = 2.5
"""Longest from the end of a phase's time to the end of its last process."""


@dataclass(frozen=True)
class Bench:
    """A backend, and the ears around it."""

    desk: Desk
    ears: Ears

    def on(self, sandbox: Sandbox) -> Bench:
        """Return the same with another sandbox."""
        return replace(self, desk=replace(self.desk, sandbox=sandbox))

    def grade(self, row: Row) -> list[str]:
        """Grade a program; return what is wrong with how that went."""
        label = f"{row.name[:40]}-{uuid.uuid4().hex[:8]}"
        desk = replace(self.desk, label=label)
        directory = desk.directory / label / row.name
        write_assignment(row, directory)
        results = desk.grade(desk.blobs.add_assignment(directory), row.submission())
        return [
            *_wrong_verdict(row, desk.name, results),
            *_told(row, results),
            *(f"heard by {way}" for way in self.ears.heard_of(row.name)),
            *(f"left: {what}" for what in desk.leftovers(label)),
        ]

    def grade_ordinary(self) -> None:
        """Grade a submission that means no harm; it must get its full mark."""
        name = f"ordinary-{uuid.uuid4().hex[:8]}"
        write_ordinary(self.desk.directory / name)
        digest = self.desk.blobs.add_assignment(self.desk.directory / name)
        results = self.desk.grade(digest, ORDINARY)
        assert (results.outcome, results.score) == ("graded", 1.0), results


@dataclass(frozen=True)
class Graded:
    """A corpus that is being graded."""

    wrong: dict[str, Future[list[str]]]
    """What is wrong, by the program's name."""
    ordinary: Future[int]
    """How many ordinary submissions got their full mark beside them, and after them."""


@contextmanager
def grade_all(bench: Bench, rows: Iterable[Row]) -> Iterator[Graded]:
    """Grade programs in the background, and ordinary submissions beside them."""
    over = threading.Event()

    def ordinary() -> int:
        graded, last = 0, False
        while not last:
            # The last one starts when all hostile ones have ended.
            last = over.wait(_PAUSE_S)
            bench.grade_ordinary()
            graded += 1
        return graded

    with ThreadPoolExecutor(AT_ONCE) as pool, ThreadPoolExecutor(1) as beside:
        graded = beside.submit(ordinary)
        wrong = {row.name: pool.submit(bench.grade, row) for row in rows}

        def end() -> None:
            wait(wrong.values())
            over.set()

        ender = threading.Thread(target=end, daemon=True)
        ender.start()
        try:
            yield Graded(wrong, graded)
        finally:
            for future in wrong.values():
                future.cancel()


def _wrong_verdict(row: Row, backend: str, results: Results) -> list[str]:
    name = LOOKED_AT.get(row.assignment, "test")
    phases = {phase.name: phase for phase in results.phases}
    if name not in phases:
        return [f"no phase {name}: {results!r}"]
    phase = phases[name]
    wrong = []
    excused = row.forges and results.receipt.forgeable
    wanted = row.expected(backend)
    if phase.verdict is not wanted and not excused:
        wrong.append(f"verdict {phase.verdict}, not {wanted}")
    if (results.outcome, results.score) != (row.outcome, row.score) and not excused:
        wrong.append(f"{results.outcome} with {results.score}, not {row.outcome} with {row.score}")
    allowed_s = float(row.limits.get("wall_time_s", WALL_TIME_S))
    if phase.wall_time_s > allowed_s * 1.1 + _SLACK_S:
        wrong.append(f"it ran for {phase.wall_time_s} s, and may for {allowed_s} s")
    if row.says is not None and not re.search(row.says, phase.output):
        wrong.append(f"it did not say {row.says!r}")
    return [f"{text}; {results.message} {phase!r}" for text in wrong]


def _told(row: Row, results: Results) -> list[str]:
    """What the results tell, and to whom."""
    text = to_json(results)
    wrong = []
    if len(text.encode()) > _STORED_BYTES or "\\u0000" in text:
        wrong.append("results that cannot be stored")
    for phase in results.phases:
        wrong += [line for line in phase.output.splitlines() if line.startswith("ESCAPED")]
    if SECRET in _shown(results) and not row.forges:
        wrong.append("the tests were shown to the student")
    return wrong


def _shown(results: Results) -> str:
    shown = [phase.output for phase in results.phases if phase.visibility is Visibility.VISIBLE]
    return "\n".join([results.message, results.output, *shown, *(t.output for t in results.tests)])
