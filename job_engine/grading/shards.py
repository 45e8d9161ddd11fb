"""Shards: the tests of one submission run in several slots at the same time, after one build.

The regular files that the build left in the workspace are taken out of its slot, within
limits, and packed again as hostile input. Each shard starts from them, gets its number in a
variable and runs the same command. The results are merged in the order of the shards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Final

from job_engine.errors import ArchiveError, SandboxError, SubmissionError
from job_engine.grading.archive import ArchiveLimits, Collector
from job_engine.grading.plan import PROGRAM, Plan
from job_engine.grading.results.model import Outcome, PhaseSummary, Results, Visibility
from job_engine.grading.verdicts import exceeded_time, with_time_verdict
from job_engine.model import FinalVerdict
from job_engine.sandbox.base import WORKSPACE, Handover, Inputs, PhaseResult, PhaseSpec

NUMBER: Final = "JOB_ENGINE_SHARD"
"""Variable with the number of the shard, from 1."""
COUNT: Final = "JOB_ENGINE_SHARDS"
MAX_BYTES: Final = 64 * 2**20
"""Most bytes of a workspace that is passed to shards."""
MAX_FILES: Final = 10_000
_STRICTEST_LAST: Final = (
    Visibility.VISIBLE,
    Visibility.AFTER_DUE_DATE,
    Visibility.AFTER_PUBLISHED,
    Visibility.HIDDEN,
)
_OF_SHARDS: Final = ("test", PROGRAM)
_BY_ANSWERS: Final = (None, FinalVerdict.ACCEPTED, FinalVerdict.WRONG_ANSWER)

Phases = dict[str, PhaseResult]
RunSlot = Callable[[Plan, Inputs], tuple[Phases, Mapping[str, str]]]
"""Runs a plan in a slot of its own; returns how its phases ended, and in which images."""


@dataclass(frozen=True, kw_only=True)
class ShardedRun:
    """The phases of a sharded run."""

    before: Mapping[str, PhaseResult]
    """The phases before the tests."""
    shards: tuple[Mapping[str, PhaseResult], ...]
    """The tests of each shard, and the program of a split run, in order; empty if an earlier
    phase failed."""
    images: Mapping[str, str]
    slow: PhaseResult | None = None
    """The first run of a shard that was run twice."""


def run_shards(
    plan: Plan, inputs: Inputs, run: RunSlot, *, shards: int, at_once: int, scratch: Path
) -> ShardedRun:
    """Run the phases before the tests once, and the tests in `shards` slots.

    Raises `SubmissionError` for a workspace that cannot be passed to shards, and `SandboxError`.
    """
    first, test = plan.phases[:-1], plan.phases[-1:]
    before: dict[str, PhaseResult] = {}
    images: dict[str, str] = {}
    trees = {name: stream.read() for name, stream in inputs.trees.items()}
    if first:
        begin = replace(plan, phases=(*first[:-1], _handing_on(first[-1])))
        before, found = run(begin, _inputs_of(begin, inputs, trees))
        images.update(found)
        if len(before) < len(first) or not all(result.ok for result in before.values()):
            return ShardedRun(before=before, shards=(), images=images)
        trees[WORKSPACE] = _packed(before[first[-1].name], scratch)
    wide = replace(plan, phases=test)

    def shard(number: int) -> _Shard:
        variables = {NUMBER: str(number), COUNT: str(shards)}
        return _run_shard(wide, lambda: _inputs_of(wide, inputs, trees), variables, run)

    with ThreadPoolExecutor(min(shards, at_once), thread_name_prefix="shard") as pool:
        ended = list(pool.map(shard, range(1, shards + 1)))
    for _, _, found in ended:
        images.update(found)
    slow = next((first for _, first, _ in ended if first is not None), None)
    return ShardedRun(
        before=before, shards=tuple(phases for phases, _, _ in ended), images=images, slow=slow
    )


_Shard = tuple[Phases, PhaseResult | None, Mapping[str, str]]
"""The phases of a shard, its first test run if there were two, and the images."""


def _run_shard(
    plan: Plan, inputs: Callable[[], Inputs], variables: Mapping[str, str], run: RunSlot
) -> _Shard:
    """Run the tests of one shard, a second time if they were slightly too slow."""

    def attempt() -> tuple[Phases, Mapping[str, str]]:
        own = inputs()  # new streams, because a run consumes them
        env = {**own.env, "test": {**own.env.get("test", {}), **variables}}
        phases, images = run(plan, replace(own, env=env))
        if "test" not in phases:
            raise SandboxError("The sandbox ended without running the tests.")
        return phases, images

    limits = plan.limits("test")
    phases, images = attempt()
    first = phases["test"]
    if not exceeded_time(first, limits):
        return phases, None, images
    again, images = attempt()
    return {**again, "test": with_time_verdict(again["test"], limits)}, first, images


def merge(parts: list[Results], declared: float | None) -> Results:
    """Return the results of all shards as one; they come in the order of the shards.

    The score is the sum. The maximum is the sum if all tests have one, else what the
    assignment has `declared`. The first shard that did not run to its end decides the verdict.
    """
    broken = [(n, part) for n, part in enumerate(parts, 1) if part.outcome is not Outcome.GRADED]
    number, worst = broken[0] if broken else (1, parts[0])
    tests = [test for part in parts for test in part.tests]
    score = _sum([part.score for part in parts])
    max_score = _sum([part.max_score for part in parts])
    all_known = bool(tests) and all(test.max_score is not None for test in tests) and not broken
    if declared is not None and not all_known:
        max_score = declared
    of = "" if max_score is None else f" of {max_score:g}"
    message = f"Score {score or 0:g}{of}." if not broken else f"Shard {number}: {worst.message}"
    whole = worst.model_copy(
        update={
            "message": message,
            "score": score,
            "max_score": max_score,
            "output": "\n".join(part.output for part in parts if part.output),
            "visibility": max((part.visibility for part in parts), key=_STRICTEST_LAST.index),
            "execution_time": _sum([part.execution_time for part in parts]),
            "tests": [
                test.model_copy(update={"number": str(n)}) for n, test in enumerate(tests, 1)
            ],
            "leaderboard": [entry for part in parts for entry in part.leaderboard],
            "notes": [note for part in parts for note in part.notes],
            "phases": _phases_of(parts),
        }
    )
    if broken:
        return whole
    verdict = FinalVerdict.ACCEPTED if whole.lost_nothing else _why(parts)
    return whole.model_copy(update={"verdict": verdict, "fault": verdict.fault})


def _phases_of(parts: list[Results]) -> list[PhaseSummary]:
    """Return the shared phases once, then each shard's own, with the shard's number in the name."""
    shared = [phase for phase in parts[0].phases if phase.name not in _OF_SHARDS]
    tests = [
        phase.model_copy(update={"name": f"{phase.name}-{n}"})
        for n, part in enumerate(parts, 1)
        for phase in part.phases
        if phase.name in _OF_SHARDS
    ]
    return shared + tests


def _why(parts: list[Results]) -> FinalVerdict:
    """Return why points were lost: the first limit that a program met, or wrong answers."""
    limits = (part.verdict for part in parts if part.verdict not in _BY_ANSWERS)
    return next(limits, None) or FinalVerdict.WRONG_ANSWER


def _sum(numbers: list[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _inputs_of(plan: Plan, inputs: Inputs, trees: Mapping[str, bytes]) -> Inputs:
    """Return the inputs of these phases, with new streams."""
    names = {phase.name for phase in plan.phases}
    seen = {mount.tree for spec in plan.specs for mount in spec.mounts}
    return Inputs(
        trees={name: BytesIO(data) for name, data in trees.items() if name in seen},
        stdin={name: data for name, data in inputs.stdin.items() if name in names},
        env={name: env for name, env in inputs.env.items() if name in names},
    )


def _handing_on(phase: PhaseSpec) -> PhaseSpec:
    """Return the phase with a hand-over of the workspace at its end."""
    handover = Handover(tree=WORKSPACE, max_bytes=MAX_BYTES, max_files=MAX_FILES)
    return replace(phase, handover=(handover,))


def _packed(built: PhaseResult, scratch: Path) -> bytes:
    """Return a clean tar of the workspace that a phase handed over."""
    if built.left_out:
        raise SubmissionError(
            f"After the phase {built.phase} the workspace holds {built.left_out[0]!a}, which "
            "cannot be handed to the shards of the tests: a link or a special file, or more than "
            f"{MAX_BYTES // 2**20} MiB or {MAX_FILES:,} files in all."
        )
    limits = ArchiveLimits(max_entries=2 * MAX_FILES, max_bytes=MAX_BYTES)
    collector = Collector(limits, MAX_BYTES, scratch)
    try:
        for name, data in built.files.items():
            # The hand-over does not say which files are executable, so all of them are.
            collector.file(name.removeprefix(f"{WORKSPACE}/"), executable=True, chunks=[data])
        with collector.finish() as packed:
            return packed.stream.read()
    except ArchiveError as error:
        raise SubmissionError(
            error.message.replace("The archive", "The workspace after the build")
        ) from error
    finally:
        collector.close()
