"""The fault test-bed's checker rejects what must not be: one bad run, by hand, a rule.

Every case differs in one thing from a clean run, and breaks one rule. A checker that
cannot fail would prove nothing of the engine.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.bed.checker import AFTERMATH_S, CALM_S, SLACK_S, check
from tests.faults.bed.evidence import Document, Evidence, Observation, Submission
from tests.faults.bed.journal import Death, Fault, Restore, Start
from tests.support.engine import SESSION_TIMEOUT_S
from tests.support.trace import Execution

JOB = "job/1"
PID, OTHER_PID = 11, 12


def submission(**changes: object) -> Submission:
    made = Submission("t1", sent_at=99.0, answered_at=100.0, job=JOB)
    return replace(made, **changes)  # type: ignore[arg-type]


def execution(run: str, start: float, end: float, pid: int = PID, ended: bool = True) -> Execution:
    return Execution(JOB, run, start, end, ended=ended, pid=pid)


def document(run: str = "a", state: str = "SUCCESS") -> Document:
    return Document(JOB, "trace", state, run, run, "t1")


def fault(kind: str, target: str, began_at: float, ended_at: float) -> Fault:
    return Fault(kind, target, began_at, ended_at)


FIRST = execution("a", 101.0, 103.0)
CLEAN = Evidence(
    submissions=[submission()],
    executions={JOB: [FIRST]},
    first={JOB: document()},
    second={JOB: document()},
    starts=[Start("e1", PID, 0.0), Start("e2", OTHER_PID, 0.0)],
)
RESTORE = Restore(copy_began_at=99.5, copy_ended_at=99.8, down_at=104.0, up_at=104.1)
"""The job was accepted after this copy was begun."""
CUT = fault("cut-zookeeper", "e1", 101.5, 107.0)


def run(**changes: object) -> Evidence:
    return replace(CLEAN, **changes)  # type: ignore[arg-type]


def broken(evidence: Evidence) -> set[str]:
    return {violation.rule for violation in check(evidence)}


def outcome(run: str = "a", state: str = "SUCCESS") -> dict[str, dict[str, Document]]:
    made = {JOB: document(run, state)}
    return {"first": made, "second": made}


def test_a_clean_run_breaks_nothing() -> None:
    assert check(CLEAN) == []


# --- accepted jobs are there --------------------------------------------------


def test_an_accepted_job_that_is_gone() -> None:
    assert broken(run(first={}, second={})) == {"accepted jobs are there"}


def test_a_job_gone_with_a_store_restored_to_before_it() -> None:
    assert broken(run(first={}, second={}, restores=[RESTORE])) == set()


@pytest.mark.parametrize(
    "useless",
    [
        # The copy was begun when the job was there, or the job came when all was over.
        replace(RESTORE, copy_began_at=100.5),
        replace(RESTORE, copy_began_at=90.0, down_at=95.0, up_at=98.0),
    ],
)
def test_a_job_gone_with_a_store_that_should_have_it(useless: Restore) -> None:
    assert broken(run(first={}, second={}, restores=[useless])) == {"accepted jobs are there"}


def test_a_job_that_is_gone_and_still_begins() -> None:
    late = execution("b", RESTORE.up_at + AFTERMATH_S + 1, 120.0)
    evidence = run(first={}, second={}, restores=[RESTORE], executions={JOB: [FIRST, late]})
    assert "accepted jobs are there" in broken(evidence)


# --- nothing is there twice ---------------------------------------------------


def test_a_job_that_nobody_asked_for() -> None:
    stranger = replace(document(), job="job/2", tag="t2")
    jobs = {JOB: document(), "job/2": stranger}
    assert broken(run(first=jobs, second=jobs)) == {"nothing is there twice"}


def test_one_submission_that_became_two_jobs() -> None:
    twin = replace(document("b"), job="job/2")
    jobs = {JOB: document(), "job/2": twin}
    executions = {JOB: [FIRST], "job/2": [replace(FIRST, job="job/2", run="b")]}
    evidence = run(first=jobs, second=jobs, executions=executions)
    assert broken(evidence) == {"nothing is there twice"}


def test_a_job_whose_reply_was_lost_is_known_by_its_tag() -> None:
    assert broken(run(submissions=[submission(job=None, answered_at=None)])) == set()


# --- every job is final for good ----------------------------------------------


def test_a_job_that_never_becomes_final() -> None:
    assert broken(run(**outcome(state="RUNNING"))) == {"every job is final for good"}


def test_a_final_state_that_changes() -> None:
    changed = run(second={JOB: document(state="FAILED")})
    assert broken(changed) == {"every job is final for good"}


def test_an_outcome_other_than_the_one_that_was_seen() -> None:
    seen = [Observation(105.0, document("b"))]
    assert "every job is final for good" in broken(run(observations=seen))


def test_an_outcome_that_a_restore_forgot() -> None:
    again = execution("b", 106.0, 107.0)
    seen = Observation(103.5, document("a"))
    forgetful = replace(RESTORE, copy_began_at=102.0)
    evidence = run(
        **outcome("b"),
        executions={JOB: [FIRST, again]},
        observations=[seen],
        restores=[forgetful],
    )
    assert broken(evidence) == set()
    # What was final before the copy is in it.
    older = replace(seen, at=101.0)
    assert "every job is final for good" in broken(replace(evidence, observations=[older]))


# --- outcomes happened --------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        outcome("z"),  # of no execution
        outcome(state="FAILED"),  # not what the execution said
        outcome(state="CANCELED"),  # what nobody asked for
        {"executions": {JOB: [execution("a", 101.0, 103.0, ended=False)]}},
        {"executions": {}},
        {"submissions": [submission(cancel=True, cancelled_at=100.5)]},
    ],
)
def test_an_outcome_that_did_not_happen(changes: dict[str, object]) -> None:
    assert broken(run(**changes)) == {"outcomes happened"}


def test_a_cancel_that_was_asked_for() -> None:
    asked = [submission(cancel=True, cancelled_at=100.5)]
    assert broken(run(**outcome("", "CANCELED"), submissions=asked)) == set()


def test_a_failure_that_was_asked_for() -> None:
    assert broken(run(**outcome(state="FAILED"), submissions=[submission(fails=True)])) == set()


# --- outcomes are of the newest claim -----------------------------------------


def test_an_outcome_of_a_claim_that_was_not_the_newest() -> None:
    newer = execution("b", 102.9, 102.95, OTHER_PID, ended=False)
    evidence = run(executions={JOB: [FIRST, newer]}, faults=[CUT])
    assert broken(evidence) == {"outcomes are of the newest claim"}


def test_a_newer_claim_that_a_restore_forgot() -> None:
    newer = execution("b", 102.0, 102.5, OTHER_PID, ended=False)
    restore = replace(RESTORE, down_at=102.6, up_at=102.7)
    evidence = run(executions={JOB: [FIRST, newer]}, restores=[restore], faults=[CUT])
    assert broken(evidence) == set()


# --- nothing runs once it is final --------------------------------------------


def test_a_job_that_begins_again_when_it_is_final() -> None:
    again = execution("b", 104.0, 105.0)
    seen = [Observation(103.5, document())]
    evidence = run(executions={JOB: [FIRST, again]}, observations=seen, faults=[CUT])
    assert broken(evidence) == {"nothing runs once it is final"}


# --- overlaps are excused -----------------------------------------------------


def two_at_once(seconds: float) -> dict[str, dict[str, list[Execution]]]:
    older = execution("a", 101.0, 101.5 + SESSION_TIMEOUT_S + seconds, ended=False)
    newer = execution("b", 101.5 + SESSION_TIMEOUT_S, 112.0, OTHER_PID)
    return {"executions": {JOB: [older, newer]}}


def test_two_executions_at_once_for_no_reason() -> None:
    evidence = run(**outcome("b"), **two_at_once(0.1))
    assert "overlaps are excused" in broken(evidence)
    # It is the older one's executor that has to be cut off, and not another one.
    other = replace(CUT, target="e2")
    assert "overlaps are excused" in broken(replace(evidence, faults=[other]))
    # What happens to the API does not let two run at once.
    api = fault("kill-api", "api", 101.5, 103.0)
    assert broken(replace(evidence, faults=[api])) == {"overlaps are excused"}


def test_two_executions_at_once_while_the_older_is_cut_off() -> None:
    evidence = run(**outcome("b"), **two_at_once(1.0), faults=[CUT])
    assert broken(evidence) == set()


def test_two_executions_at_once_for_longer_than_their_reason() -> None:
    forever = replace(CUT, ended_at=200.0)
    evidence = run(**outcome("b"), **two_at_once(SLACK_S + 0.1), faults=[forever])
    assert broken(evidence) == {"overlaps are excused"}
    # A wiped ZooKeeper lets others claim at once, before the session counts as lost.
    wiped = replace(forever, kind="wipe-zookeeper", target="ensemble")
    assert broken(replace(evidence, faults=[wiped])) == set()
    long = two_at_once(SESSION_TIMEOUT_S + SLACK_S + 0.1)
    evidence = run(**outcome("b"), **long, faults=[wiped])
    assert broken(evidence) == {"overlaps are excused"}


def test_two_executions_at_once_while_an_executor_is_deaf_to_a_restored_store() -> None:
    long = SESSION_TIMEOUT_S + SLACK_S + 2.0
    deaf = fault("cut-api", "e1", 101.5, 110.0)
    restore = replace(RESTORE, copy_began_at=100.5)
    evidence = run(**outcome("b"), **two_at_once(long), faults=[deaf])
    assert "overlaps are excused" in broken(evidence)
    assert broken(replace(evidence, restores=[restore])) == set()
    assert "overlaps are excused" in broken(replace(evidence, faults=[], restores=[restore]))


def test_what_is_stopped_does_not_run() -> None:
    older = execution("a", 101.0, 109.0, ended=False)
    newer = execution("b", 106.0, 108.5, OTHER_PID)
    stop = fault("pause-executor", "e1", 101.5, 108.8)
    evidence = run(**outcome("b"), executions={JOB: [older, newer]}, faults=[stop])
    assert broken(evidence) == set()
    # A sandbox goes on beside its stopped executor: for less than a session.
    boxed = {JOB: replace(document("b"), action="boxed")}
    assert broken(replace(evidence, first=boxed, second=boxed)) == set()
    longer = replace(newer, started_at=101.6)
    evidence = replace(evidence, first=boxed, second=boxed, executions={JOB: [older, longer]})
    assert broken(evidence) == {"overlaps are excused"}


def test_a_container_outlives_its_executor_and_its_daemon_for_less_than_a_session() -> None:
    boxed = {JOB: replace(document("b"), action="boxed")}
    evidence = run(first=boxed, second=boxed, in_docker=["e1"], **two_at_once(5.0))
    away = fault("restart-docker", "e1", 101.5, 105.0)
    killed = fault("kill-executor", "e1", 101.5, 105.0)
    died = Death("e1", PID, 105.0, 1)
    for cause in ({"faults": [away]}, {"faults": [killed]}, {"deaths": [died], "faults": [away]}):
        assert broken(replace(evidence, **cause)) == set()
    assert "overlaps are excused" in broken(evidence)
    # Nothing else does: neither a thread of the executor, nor what bubblewrap runs.
    for other in ({"in_docker": ["e2"]}, {"first": outcome("b")["first"]}):
        changed = replace(evidence, faults=[killed], **other)
        assert "overlaps are excused" in broken(changed)
    long = two_at_once(SESSION_TIMEOUT_S + SLACK_S + 0.1)
    assert "overlaps are excused" in broken(replace(evidence, faults=[away], **long))  # type: ignore[arg-type]


# --- jobs run again only after a fault ----------------------------------------


def test_a_job_that_runs_again_for_no_reason() -> None:
    again = execution("b", 110.0, 111.0)
    evidence = run(**outcome("b"), executions={JOB: [FIRST, again]})
    rule = {"jobs run again only after a fault"}
    assert broken(evidence) == rule
    # Not for what happened to others, or long before, or after its end.
    for other in (
        fault("kill-executor", "e2", 102.0, 104.0),
        fault("kill-distributor", "d1", 102.0, 104.0),
        fault("kill-executor", "e1", 80.0, 90.0),
        fault("kill-executor", "e1", 106.0, 107.0),
    ):
        assert broken(replace(evidence, faults=[other])) == rule
    killed = fault("kill-executor", "e1", 103.0, 104.0)
    assert broken(replace(evidence, faults=[killed])) == set()


def test_a_process_id_that_is_used_again_names_who_had_it_then() -> None:
    """A long run starts more processes than there are ids."""
    again = execution("b", 110.0, 111.0)
    starts = [*CLEAN.starts, Start("e2", PID, 105.0)]
    evidence = run(**outcome("b"), executions={JOB: [FIRST, again]}, starts=starts)
    hit = fault("kill-executor", "e1", 102.0, 104.0)
    assert broken(replace(evidence, faults=[hit])) == set()
    assert broken(replace(evidence, faults=[replace(hit, target="e2")])) != set()
    died = Death("e2", PID, 150.0, 86)
    assert "jobs run again only after a fault" in broken(replace(evidence, deaths=[died]))


# --- urgent jobs pass ---------------------------------------------------------


def queue_of(less_urgent: int) -> Evidence:
    """An urgent job that waits while others begin, ten a second."""
    submissions = [submission(priority=100)]
    executions = {JOB: [execution("a", 200.0, 201.0)]}
    documents = {JOB: document()}
    for number in range(less_urgent):
        job, run_, at = f"job/o{number}", f"o{number}", 101.0 + number / 10
        submissions.append(Submission(run_, priority=900, sent_at=90, answered_at=91, job=job))
        executions[job] = [Execution(job, run_, at, at, True, PID)]
        documents[job] = Document(job, "trace", "SUCCESS", run_, run_, run_)
    return run(
        submissions=submissions, executions=executions, first=documents, second=documents, threads=8
    )


def test_an_urgent_job_waits_for_a_window_and_no_more() -> None:
    assert broken(queue_of(3 * 8)) == set()
    assert broken(queue_of(3 * 8 + 1)) == {"urgent jobs pass"}


def test_the_order_is_not_judged_while_something_is_broken() -> None:
    evidence = queue_of(3 * 8 + 1)
    soon = fault("kill-distributor", "d1", 80.0, 99.0 - CALM_S)
    assert broken(replace(evidence, faults=[soon])) == {"urgent jobs pass"}
    assert broken(replace(evidence, faults=[replace(soon, ended_at=101.0)])) == set()


# --- the rest -----------------------------------------------------------------


def test_what_is_left() -> None:
    assert broken(run(leftovers=["/job/entries/entry-999-0000000001"])) == {"nothing is left"}


def test_a_process_that_ends_by_itself() -> None:
    rule = {"nobody dies by itself"}
    died = Death("e1", PID, 150.0, 1)
    assert broken(run(deaths=[died])) == rule
    assert broken(run(exits={"e1": 86})) == rule
    full = fault("fill-disk", "e1", 149.0, 151.0)
    assert broken(run(deaths=[died], faults=[full])) == set()
