"""A fair verdict on the real sandboxes: what finished counts, and who is at fault."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
import uuid
from pathlib import Path

import pytest

from job_engine.errors import Cancelled, ReplayRefusedError, SubmissionError
from job_engine.grading.replay import differences, replay_payload
from job_engine.grading.results import Outcome, Results
from job_engine.model import Fault, FinalVerdict
from job_engine.sandbox.base import Sandbox
from job_engine.settings import SandboxSettings
from job_engine.testing.git_server import GitServer, make_repository
from tests.conftest import require
from tests.integration.grading.conftest import Desk, Follower

TWO = """\
emit() { printf '{"name": "%s", "score": 1, "max_score": 1}\\n' "$1" >> /mnt/results/tests.jsonl; }
emit one; emit two
"""


def publish(desk: Desk, script: str, limits: str = "", results: str = "{format: stream}") -> str:
    """Publish an assignment whose tests are this shell script."""
    name = f"fair-{uuid.uuid4().hex[:8]}"
    directory = desk.directory / name
    (directory / "tests").mkdir(parents=True)
    (directory / "tests" / "run.sh").write_text(script)
    (directory / "assignment.yaml").write_text(
        f"name: {name}\n"
        f"phases: {{test: {{command: sh /mnt/tests/run.sh, limits: {{{limits}}}}}}}\n"
        f"results: {results}\n"
    )
    return desk.blobs.add_assignment(Path(directory))


def grade(desk: Desk, assignment: str, follower: Follower | None = None) -> Results:
    return desk.grade(assignment, {"files": {"a": "x"}}, follower)


def test_tests_that_finished_before_a_limit_count(desk: Desk) -> None:
    assignment = publish(desk, f"{TWO}sleep 60", "wall_time_s: 1", "{format: stream, max_score: 5}")
    results = grade(desk, assignment)
    assert (results.outcome, results.verdict) == (Outcome.LIMIT, FinalVerdict.TIME_LIMIT)
    assert (results.score, results.max_score) == (2, 5)
    assert [test.name for test in results.tests] == ["one", "two"]
    assert results.fault is Fault.PROGRAM
    assert results.receipt.rerun is None  # It was far from its limit, not just over it.


def test_tests_that_finished_before_a_crash_count(desk: Desk) -> None:
    results = grade(desk, publish(desk, f"{TWO}kill -SEGV $$"))
    assert results.verdict is FinalVerdict.RUNTIME_ERROR
    assert (results.score, len(results.tests)) == (2, 2)


def test_the_receipt_has_the_inputs_of_the_grading(desk: Desk) -> None:
    assignment = publish(desk, TWO, "wall_time_s: 7")
    receipt = grade(desk, assignment).receipt
    assert receipt.assignment == assignment
    assert receipt.tests.startswith("sha256:")
    assert receipt.submission.startswith("sha256:")
    assert receipt.images.keys() == receipt.limits.keys() == {"test"}
    assert ":sha256:" in receipt.images["test"]
    assert receipt.limits["test"]["wall_time_s"] == 7
    assert receipt.limits["test"]["memory_bytes"] == 512 * 2**20
    assert (receipt.sandbox, receipt.flavour, receipt.executor) == (
        desk.name,
        "standard",
        desk.label,
    )
    assert receipt.runtime.startswith(desk.name)
    assert receipt.kernel
    assert receipt.host
    assert receipt.started < receipt.ended
    again = grade(desk, assignment).receipt
    assert again.model_copy(update={"started": "", "ended": ""}) == receipt.model_copy(
        update={"started": "", "ended": ""}
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"images": {"test": "image:sha256:gone"}},
            "image of phase test: it was image:sha256:gone",
        ),
        ({"limits": {"test": {"wall_time_s": 1.0}}}, "limit wall_time_s of phase test"),
        ({"tests": "sha256:other"}, "replay tests"),
        ({"sandbox": "other"}, "replay sandbox"),
    ],
)
def test_a_replay_with_changed_inputs_is_refused(
    desk: Desk, change: dict[str, object], told: str
) -> None:
    assignment = publish(desk, TWO)
    payload = {"assignment": assignment, "submission": {"files": {"a": "x"}}}
    then = grade(desk, assignment)
    job = {"id": "job/1", "action": "grade", "payload": json.dumps(payload)}
    same = replay_payload(job, then)
    assert differences(then, desk.grade_payload(same)) == []
    with pytest.raises(ReplayRefusedError, match=re.escape(told)):
        desk.grade_payload({**same, "replay": {**same["replay"], **change}})


@pytest.mark.parametrize(
    ("to", "results"),
    [
        ("", "{format: stream, path: '-'}"),
        (" >> /mnt/results/t.jsonl", "{format: gradescope, stream: t.jsonl}"),
    ],
    ids=["stdout", "file"],
)
def test_events_are_streamed_while_the_job_runs(desk: Desk, to: str, results: str) -> None:
    """The program goes on only when its first test was told; else it runs into its limit."""
    require(desk.name != "docker" or os.geteuid() == 0, "needs root, to see the slots of Docker")
    follower = desk.follower()
    go = threading.Event()
    script = f"""
    printf '{{"name": "open", "score": 1, "max_score": 1}}\\n'{to}
    echo hello
    printf '{{"name": "secret", "score": 1, "visibility": "hidden"}}\\n'{to}
    echo oops >&2
    sleep 30
    """
    assignment = publish(desk, script, "wall_time_s: 20", results)

    def told() -> bool:
        kinds = [kind for kind, _, _ in follower.events]
        return kinds.count("test") == 2 and kinds.count("output") >= 2

    def stop_once_told() -> None:
        while not told() and not go.wait(0.01):
            pass
        follower.interruption = Cancelled()
        if told() and follower.close is not None:
            follower.close()

    stopper = threading.Thread(target=stop_once_told)
    stopper.start()
    try:
        with pytest.raises(Cancelled):
            grade(desk, assignment, follower)
    finally:
        go.set()
        stopper.join()
    tests = [(data["name"], staff) for kind, data, staff in follower.events if kind == "test"]
    assert tests == [("open", False), ("secret", True)]
    printed = [(data, staff) for kind, data, staff in follower.events if kind == "output"]
    assert {(data["phase"], data["stream"]) for data, _ in printed} == {
        ("test", "stdout"),
        ("test", "stderr"),
    }
    assert "hello" in "".join(data["text"] for data, _ in printed)
    # The assignment does not show what its tests print.
    assert all(staff for _, staff in printed)


def test_a_flood_is_told_up_to_a_limit_and_phases_to_their_end(desk: Desk) -> None:
    follower = desk.follower()
    spec = "{format: stdout, output_visible: true}"
    grade(desk, publish(desk, "head -c 300000 /dev/zero | tr '\\0' x", results=spec), follower)
    printed = [data["text"] for kind, data, staff in follower.events if kind == "output"]
    assert 60_000 < sum(map(len, printed)) < 70_000
    assert printed[-1].endswith("the rest comes with the results\n")
    assert not any(staff for _, _, staff in follower.events)
    phases = [(d["phase"], d["state"]) for kind, d, _ in follower.events if kind == "phase"]
    assert phases == [("test", "started"), ("test", "ended")]


def test_tests_that_are_slightly_too_slow_get_a_second_run(desk: Desk) -> None:
    """Slow until some seconds from now: the first run is, and the second is not."""
    then = int(time.time()) + 3
    slow = f'[ "$(date +%s)" -ge {then} ] || sleep 3.05\n{TWO}'
    follower = desk.follower()
    results = grade(desk, publish(desk, slow, "wall_time_s: 3"), follower)
    assert results.verdict is FinalVerdict.ACCEPTED
    assert (results.score, len(results.tests)) == (2, 2)
    first = results.receipt.rerun
    assert first is not None
    assert 3.0 < first.wall_time_s < 3.3
    assert any("run once more" in line for line in follower.lines)


def test_tests_that_are_too_slow_twice_exceed_the_time_limit(desk: Desk) -> None:
    spin = "import time\nwhile time.process_time() < 1.02: pass"
    slow = f"{TWO}python3 -c '{spin}'"
    results = grade(desk, publish(desk, slow, "cpu_time_s: 1, wall_time_s: 20"))
    assert results.verdict is FinalVerdict.TIME_LIMIT
    assert (results.score, len(results.tests)) == (2, 2)
    assert "used more than 1 s of CPU time" in results.message


class Vanishing(Follower):
    """Takes the repository away when it is to be cloned once more."""

    repository: Path

    def log(self, text: str) -> None:
        super().log(text)
        if "run once more" in text:
            shutil.rmtree(self.repository)


def test_a_broken_second_run_exceeds_the_time_limit(
    desk: Desk, git_server: GitServer, repositories: Path
) -> None:
    source = desk.directory / uuid.uuid4().hex
    source.mkdir()
    (source / "a").write_text("x")
    follower = Vanishing(desk.follower().scratch)
    follower.repository = repositories / f"{source.name}.git"
    make_repository(source, follower.repository)
    spin = "import time\nwhile time.process_time() < 1.02: pass"
    assignment = publish(desk, f"python3 -c '{spin}'", "cpu_time_s: 1, wall_time_s: 20")
    url = git_server.url(follower.repository.name)
    results = desk.grade(assignment, {"git": {"url": url}}, follower)
    assert not follower.repository.exists()
    assert results.verdict is FinalVerdict.TIME_LIMIT
    assert results.fault is Fault.PROGRAM


BUILD = "date +%s%N > stamp; printf '#!/bin/sh\\necho by the program\\n' > prog; chmod +x prog"
SHARD = """\
began=$(date +%s%N); sleep 2
case $JOB_ENGINE_SHARD in 2) score=0 ;; *) score=1 ;; esac
printf '{"name": "%s of %s", "score": %s, "max_score": 1, "output": "%s %s %s %s"}\\n' \
  "$JOB_ENGINE_SHARD" "$JOB_ENGINE_SHARDS" "$score" "$(cat stamp)" "$began" "$(date +%s%N)" \
  "$(./prog)" > /mnt/results/tests.jsonl
"""


def publish_wide(
    desk: Desk, script: str, build: str = BUILD, limits: str = "", test: str = "shards: 3"
) -> str:
    name = f"wide-{uuid.uuid4().hex[:8]}"
    directory = desk.directory / name
    (directory / "tests").mkdir(parents=True)
    (directory / "tests" / "run.sh").write_text(script)
    (directory / "build.sh").write_text(build)
    test = f"{{command: sh /mnt/tests/run.sh, {test}, limits: {{{limits}}}}}"
    (directory / "assignment.yaml").write_text(
        f"name: {name}\nphases:\n  build: |\n    {build}\n  test: {test}\n"
        "results: {format: stream}\n"
    )
    return desk.blobs.add_assignment(directory)


def test_shards_run_side_by_side_from_one_build(desk: Desk) -> None:
    results = grade(desk, publish_wide(desk, SHARD))
    assert [test.name for test in results.tests] == ["1 of 3", "2 of 3", "3 of 3"], results
    assert (results.score, results.max_score) == (2, 3)
    assert results.verdict is FinalVerdict.WRONG_ANSWER
    told = [test.output.split(" ", 3) for test in results.tests]
    assert len({stamp for stamp, _, _, _ in told}) == 1  # It was built once.
    assert {program for _, _, _, program in told} == {"by the program"}
    spans = [(int(began), int(ended)) for _, began, ended, _ in told]
    assert max(began for began, _ in spans[:2]) < min(ended for _, ended in spans[:2])
    assert [phase.name for phase in results.phases] == ["build", "test-1", "test-2", "test-3"]
    assert set(results.receipt.images) == {"build", "test"}


def test_a_shard_that_meets_a_limit_leaves_the_others_their_points(desk: Desk) -> None:
    slow = f"{TWO}[ $JOB_ENGINE_SHARD != 2 ] || sleep 30"
    results = grade(desk, publish_wide(desk, slow, limits="wall_time_s: 2"))
    assert (results.verdict, results.score) == (FinalVerdict.TIME_LIMIT, 6)
    assert results.message.startswith("Shard 2: The tests were ended")


@pytest.mark.parametrize(
    "build", ["ln -s /etc/passwd link", "mkfifo pipe", "dd if=/dev/zero of=big bs=1M count=65"]
)
def test_shards_get_plain_files_of_the_build_only(desk: Desk, build: str) -> None:
    with pytest.raises(SubmissionError, match="cannot be handed to the shards"):
        grade(desk, publish_wide(desk, TWO, f"{build} 2>/dev/null || true"))


def test_a_build_that_fails_is_told_once(desk: Desk) -> None:
    results = grade(desk, publish_wide(desk, TWO, "exit 3"))
    assert (results.verdict, results.score) == (FinalVerdict.BUILD_FAILED, 0)
    assert [phase.name for phase in results.phases] == ["build"]


def test_each_shard_of_a_split_run_has_a_program_of_its_own(desk: Desk) -> None:
    """Each sees what the build left, and nothing of the other."""
    script = """
    printf '{"name": "%s", "score": 1}\\n' "$(/mnt/program/run "$JOB_ENGINE_SHARD")" \\
        >> /mnt/results/tests.jsonl
    """
    test = "shards: 2, program: touch one-$1; echo $(cat made) $1 $(ls one-*)"
    results = grade(desk, publish_wide(desk, script, "echo built > made", test=test))
    assert [test.name for test in results.tests] == ["built 1 one-1", "built 2 one-2"], results
    names = [phase.name for phase in results.phases]
    assert names == ["build", "test-1", "program-1", "test-2", "program-2"]
    assert set(results.receipt.images) == {"build", "test", "program"}


def test_each_shard_has_a_root_of_its_own(
    desk: Desk, granting: tuple[Sandbox, SandboxSettings]
) -> None:
    desk.sandbox, desk.policy = granting
    script = """
    touch "/var/tmp/one-$JOB_ENGINE_SHARD"
    printf '{"name": "%s", "score": 1}\\n' "$(id -u) $(cat made) $(cd /var/tmp; echo one-*)" \\
        >> /mnt/results/tests.jsonl
    """
    test = "shards: 2, profile: own-root"
    results = grade(desk, publish_wide(desk, script, "echo built > made", test=test))
    assert [test.name for test in results.tests] == ["0 built one-1", "0 built one-2"], results
