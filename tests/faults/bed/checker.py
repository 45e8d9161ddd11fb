"""What must hold of a run, whatever happened in it. Each rule yields what breaks it.

A store that was restored from an older copy knows nothing of what came after the copy.
What is still proved then, rule by rule:

- Jobs accepted after the copy began and before the store went down may be missing; of
  one that is missing, nothing is started once the restored API had a session's time to
  say so. Every other accepted job is there.
- A job that became final after the copy may run again and end otherwise; one that was
  seen final before the copy may not.
- A claim made between copy and restore is forgotten, so that the one before it may still
  win, and both may run until the executors have heard of it: for as long as they cannot
  reach the API, and a session's time more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Final

from tests.faults.bed.evidence import Document, Evidence, Submission
from tests.faults.bed.journal import Restore
from tests.faults.bed.spans import Span, cut, minus, total, touch
from tests.support.engine import SESSION_TIMEOUT_S
from tests.support.trace import Execution

SLACK_S: Final = 2.0
"""What a busy machine may add: a process that is told to stop, and is not scheduled."""
CLOCK_S: Final = 0.02
"""Difference that two readings of the clock may have: sandboxes read hundredths."""
MAX_INTERRUPTIONS: Final = 10
FINAL: Final = frozenset({"SUCCESS", "FAILED", "CANCELED"})
AFTERMATH_S: Final = SESSION_TIMEOUT_S + SLACK_S
"""How long after its end a fault may still be felt."""
CALM_S: Final = 15.0
"""How long after its end a fault may still leave the queue out of order."""


@dataclass(frozen=True)
class Violation:
    """One thing that must not be."""

    rule: str
    job: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.job} {self.text}".replace("  ", " ")


class Case:
    """The evidence, with what follows from it at once."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.by_job = {s.job: s for s in evidence.submissions if s.job is not None}
        self.by_tag = {s.tag: s for s in evidence.submissions}
        self._starts = sorted(evidence.starts, key=lambda start: start.at)

    def runs(self, job: str) -> list[Execution]:
        """The executions of a job, in the order of their starts."""
        return sorted(self.evidence.executions.get(job, ()), key=lambda e: e.started_at)

    def submission(self, document: Document) -> Submission | None:
        """Who asked for this job."""
        return self.by_job.get(document.job) or self.by_tag.get(document.tag)

    def executor(self, execution: Execution) -> str:
        """Name of the process that ran it."""
        # In a long run the kernel gives process ids a second time.
        before = execution.started_at + CLOCK_S
        names = [s.name for s in self._starts if s.pid == execution.pid and s.at <= before]
        return names[-1] if names else f"process {execution.pid}"

    def faults(self, execution: Execution, *kinds: str, after_s: float = AFTERMATH_S) -> list[Span]:
        """When faults of these kinds were felt by its executor; kinds may be prefixes.

        A wrong clock is felt by no run.
        """
        name = self.executor(execution)
        return [
            (f.began_at, f.ended_at + after_s)
            for f in self.evidence.faults
            if f.kind.startswith(kinds)
            and f.kind != "set-clock"
            and f.target in (name, "api", "ensemble")
        ]

    def action(self, execution: Execution) -> str:
        """What it is an execution of."""
        job = execution.job
        document = self.evidence.first.get(job) or self.by_job.get(job)
        return document.action if document else "trace"

    def alive(self, execution: Execution) -> list[Span]:
        """When it ran; inside a process that was stopped, nothing does."""
        span = (execution.started_at, execution.last_at)
        if self.action(execution) == "boxed":
            return [span]
        return minus([span], self.faults(execution, "pause-", after_s=0.0))

    def outlived(self, execution: Execution) -> list[Span]:
        """When a container may have outlived its executor, or who starts its daemon again.

        It lives until the next executor of the name sweeps, or until the daemon is back.
        """
        name = self.executor(execution)
        if name not in self.evidence.in_docker:
            return []
        deaths = [d for d in self.evidence.deaths if d.name == name]
        return [
            *self.faults(execution, "restart-docker", "kill-executor"),
            *((death.at, death.at + AFTERMATH_S) for death in deaths),
        ]

    def forgotten(self, at: float) -> list[Restore]:
        """The restores after which something that happened at this time is not known."""
        return [r for r in self.evidence.restores if r.copy_began_at < at <= r.up_at]


Rule = Callable[[Case], Iterator[Violation]]


def accepted_jobs_are_there(case: Case) -> Iterator[Violation]:
    """No accepted job is lost, but with a store that was put back to before it."""
    rule = "accepted jobs are there"
    for submission in case.evidence.submissions:
        if submission.job is None or submission.job in case.evidence.first:
            continue
        assert submission.answered_at is not None
        gone = [
            r
            for r in case.evidence.restores
            if submission.answered_at > r.copy_began_at and submission.sent_at < r.up_at
        ]
        if not gone:
            yield Violation(rule, submission.job, f"is gone ({submission.tag})")
            continue
        for run in case.runs(submission.job):
            if run.started_at > gone[0].up_at + AFTERMATH_S:
                yield Violation(rule, submission.job, f"is gone, and still ran as {run.run}")


def nothing_is_there_twice(case: Case) -> Iterator[Violation]:
    """Every job was asked for, once."""
    rule = "nothing is there twice"
    seen: dict[str, str] = {}
    for document in case.evidence.first.values():
        submission = case.submission(document)
        if submission is None or submission.job not in (None, document.job):
            yield Violation(rule, document.job, f"was not asked for ({document.tag!r})")
        if document.tag in seen:
            yield Violation(rule, document.job, f"is {seen[document.tag]} again")
        seen[document.tag] = document.job


def every_job_is_final_for_good(case: Case) -> Iterator[Violation]:
    """One final state, the same whenever one looks."""
    rule = "every job is final for good"
    for job, document in case.evidence.first.items():
        if document.state not in FINAL:
            yield Violation(rule, job, f"is {document.state}")
        if (later := case.evidence.second.get(job)) != document:
            yield Violation(rule, job, f"was {document}, and then {later}")
    for seen in case.evidence.observations:
        now = case.evidence.first.get(seen.document.job)
        if now is not None and now != seen.document and not case.forgotten(seen.at):
            yield Violation(rule, now.job, f"was {seen.document}, and now is {now}")


def outcomes_happened(case: Case) -> Iterator[Violation]:
    """The outcome is that of an execution, which came to its end, or it is a cancel."""
    rule = "outcomes happened"
    for job, document in case.evidence.first.items():
        submission = case.submission(document)
        if submission is None or document.state not in FINAL:
            continue  # other rules' business
        at = submission.cancelled_at
        if document.state == "CANCELED":
            if not submission.cancel:
                yield Violation(rule, job, "is cancelled, and nobody asked for it")
            continue
        if at is not None and not case.forgotten(at):
            yield Violation(rule, job, f"was cancelled, and is {document.state}")
        run = next((e for e in case.runs(job) if e.run == document.run), None)
        if run is None:
            if document.state == "SUCCESS" or len(case.runs(job)) <= MAX_INTERRUPTIONS:
                problem = f"is {document.state} by no execution: {document.message!r}"
                yield Violation(rule, job, problem)
        elif not run.ended:
            yield Violation(rule, job, f"is the outcome of {run.run}, which never ended")
        elif (document.state == "FAILED") != submission.fails:
            yield Violation(rule, job, f"is {document.state}, which {run.run} did not say")


def outcomes_are_of_the_newest_claim(case: Case) -> Iterator[Violation]:
    """Nothing is accepted from an execution once a newer one has begun."""
    rule = "outcomes are of the newest claim"
    for job, document in case.evidence.first.items():
        winner = next((e for e in case.runs(job) if e.run == document.run), None)
        if winner is None:
            continue
        for run in case.runs(job):
            newer = winner.started_at < run.started_at < winner.last_at
            forgiven = any(
                winner.started_at < r.up_at
                and r.copy_began_at - SLACK_S < run.started_at < r.up_at + SLACK_S
                for r in case.evidence.restores
            )
            if newer and not forgiven:
                late_s = winner.last_at - run.started_at
                problem = f"is the outcome of {winner.run}, {late_s:.2f} s after {run.run} began"
                yield Violation(rule, job, problem)


def nothing_runs_once_it_is_final(case: Case) -> Iterator[Violation]:
    """No execution begins after its job was seen final."""
    rule = "nothing runs once it is final"
    for seen in case.evidence.observations:
        for run in case.runs(seen.document.job):
            known = not any(r.down_at < run.started_at for r in case.forgotten(seen.at))
            if run.started_at > seen.at and run.run != seen.document.run and known:
                after_s = run.started_at - seen.at
                problem = f"began as {run.run} {after_s:.2f} s after it was {seen.document.state}"
                yield Violation(rule, seen.document.job, problem)


def overlap(case: Case, older: Execution, newer: Execution) -> list[Span]:
    """When two executions ran at once."""
    common = cut(case.alive(older), case.alive(newer))
    return common if total(common) > CLOCK_S else []


def overlaps_are_excused(case: Case) -> Iterator[Violation]:
    """Two executions of a job run at once only while the older one's executor was stopped
    or cut off, and for no longer than the session timeout.

    Most faults excuse less. Who may have lost its session stops before others may claim,
    so that nothing but slack is left; only a ZooKeeper that was wiped lets others claim
    at once, and only a sandbox goes on while its executor is stopped (or, where it is
    Docker's, dead; or while the daemon is).
    """
    rule = "overlaps are excused"
    for job in case.evidence.executions:
        for older, newer in combinations(case.runs(job), 2):
            common = overlap(case, older, newer)
            if not common:
                continue
            problem = f"ran as {older.run} on {case.executor(older)} and as {newer.run} on "
            problem += f"{case.executor(newer)} at once, for {total(common):.2f} s"
            common = minus(common, _restores(case, older))
            excused = case.faults(
                older, "pause-", "cut-zookeeper", "lose-zookeeper", *_OF_THE_ENSEMBLE
            )
            by_a_session = case.faults(older, "wipe-zookeeper")
            if case.action(older) == "boxed":
                outlived = case.outlived(older)
                excused += outlived
                by_a_session += case.faults(older, "pause-") + outlived
            if total(minus(common, excused)) > CLOCK_S:
                yield Violation(rule, job, f"{problem}, without a reason")
            elif (
                total(common) > SESSION_TIMEOUT_S + SLACK_S
                or total(minus(common, by_a_session)) > SLACK_S
            ):
                yield Violation(rule, job, f"{problem}: for too long")


def _restores(case: Case, older: Execution) -> list[Span]:
    """When its executor may not have heard yet that a restored store forgot its claim."""
    spans = [
        (r.down_at, r.up_at + AFTERMATH_S)
        for r in case.evidence.restores
        if older.started_at < r.up_at + SLACK_S
    ]
    if spans:
        since = min(began_at for began_at, _ in spans)
        deaf = case.faults(older, "cut-api", "lose-api", "kill-api")
        spans += [span for span in deaf if span[1] > since]
    return spans


_OF_THE_ENSEMBLE: Final = ("kill-zookeeper-leader", "lose-quorum", "wipe-zookeeper")


def jobs_run_again_only_after_a_fault(case: Case) -> Iterator[Violation]:
    """An execution that nothing happened to is the only one."""
    rule = "jobs run again only after a fault"
    for job in case.evidence.executions:
        runs = case.runs(job)
        for first, second in pairwise(runs):
            life = (first.started_at - SLACK_S, first.last_at + SLACK_S)
            hit = any(touch(life, span) for span in case.faults(first, ""))
            hit = hit or any(
                r.copy_began_at < first.last_at + SLACK_S and r.down_at < second.started_at
                for r in case.evidence.restores
            )
            hit = hit or any(
                d.pid == first.pid and first.started_at <= d.at <= second.started_at
                for d in case.evidence.deaths
            )
            if not hit:
                problem = f"ran as {first.run} on {case.executor(first)}, and again as {second.run}"
                yield Violation(rule, job, f"{problem}, for no reason")


def urgent_jobs_pass(case: Case) -> Iterator[Violation]:
    """While nothing is broken, no more than a window of less urgent jobs go before."""
    rule = "urgent jobs pass"
    for job, count, bound in overtaken(case):
        if count > bound:
            yield Violation(rule, job, f"saw {count} less urgent jobs begin before, not {bound}")


def overtaken(case: Case) -> Iterator[tuple[str, int, int]]:
    """How many less urgent jobs began while a job waited, and how many may have.

    What waits in the queue already goes before (a window: twice the threads, or a second
    of drain), and what is in the executors' hands. Said of jobs that waited while nothing
    was broken.
    """
    begun = {job: runs[0].started_at for job in case.by_job if (runs := case.runs(job))}
    starts: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for at, job in sorted((at, job) for job, at in begun.items()):
        starts[case.by_job[job].action].append((at, case.by_job[job].priority))
    threads = case.evidence.threads
    troubles = [(f.began_at, f.ended_at + CALM_S) for f in case.evidence.faults]
    troubles += [(d.at, d.at + CALM_S) for d in case.evidence.deaths]
    for job, at in begun.items():
        submission = case.by_job[job]
        assert submission.answered_at is not None
        waited = (submission.answered_at, at)
        if any(touch(waited, trouble) for trouble in troubles):
            continue
        same = starts[submission.action]
        first = bisect_left(same, (waited[0] - 1.0, 0))
        meanwhile = same[first : bisect_left(same, (at, 0))]
        count = sum(t > waited[0] and priority > submission.priority for t, priority in meanwhile)
        drained = _most_in_a_second([t for t, _ in meanwhile])
        yield job, count, max(2 * threads, drained) + threads


def _most_in_a_second(times: list[float]) -> int:
    """Of sorted times, most that lie within one second."""
    return max((bisect_left(times, t + 1.0) - n for n, t in enumerate(times)), default=0)


def nothing_is_left(case: Case) -> Iterator[Violation]:
    """Nothing in ZooKeeper, in sandboxes, in scratch or in control groups."""
    for what in case.evidence.leftovers:
        yield Violation("nothing is left", "", what)


def nobody_dies_by_itself(case: Case) -> Iterator[Violation]:
    """Processes end when they are killed, or asked to stop, and then with 0."""
    rule = "nobody dies by itself"
    for death in case.evidence.deaths:
        excused = any(
            f.target == death.name
            and f.kind in ("fill-disk", "kill-zygote", "kill-holders", "restart-docker")
            and f.began_at <= death.at <= f.ended_at + AFTERMATH_S
            for f in case.evidence.faults
        )
        if not excused:
            yield Violation(rule, death.name, f"ended with {death.code}")
    for name, code in case.evidence.exits.items():
        if code != 0:
            yield Violation(rule, name, f"was asked to stop, and ended with {code}")


RULES: Final[tuple[Rule, ...]] = (
    accepted_jobs_are_there,
    nothing_is_there_twice,
    every_job_is_final_for_good,
    outcomes_happened,
    outcomes_are_of_the_newest_claim,
    nothing_runs_once_it_is_final,
    overlaps_are_excused,
    jobs_run_again_only_after_a_fault,
    urgent_jobs_pass,
    nothing_is_left,
    nobody_dies_by_itself,
)


def check(evidence: Evidence) -> list[Violation]:
    """Return everything that breaks a rule."""
    case = Case(evidence)
    return [violation for rule in RULES for violation in rule(case)]
