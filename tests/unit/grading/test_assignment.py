"""What `assignment.yaml` may say, and that every mistake names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_engine.errors import AssignmentError, ConfigurationError
from job_engine.grading.assignment import Assignment
from job_engine.grading.flavours import BUILT_IN, flavours
from job_engine.grading.policy import load_assignment
from job_engine.settings import SandboxSettings

EXAMPLES = Path(__file__).parents[3] / "examples" / "assignments"

GOOD = """\
name: sort
flavour: small
phases:
  build: make
  test:
    command: [python3, run.py]
    limits:
      memory_bytes: 128MiB
results: {format: gradescope}
"""


def parse(text: str, **policy: object) -> Assignment:
    return load_assignment(text.encode(), BUILT_IN, SandboxSettings().model_copy(update=policy))


def test_defaults_and_overrides() -> None:
    assignment = parse(GOOD)
    flavour = BUILT_IN["small"]
    test = assignment.phases.test
    assert assignment.phases.build is not None
    assert assignment.phases.build.argv() == ("sh", "-c", "make")
    assert test.argv() == ("python3", "run.py")
    limits = assignment.phase_limits(test, flavour)
    assert limits.memory_bytes == 128 * 2**20
    assert limits.cpu_time_s == flavour.limits.cpu_time_s
    assert assignment.mounts.tests == "/mnt/tests"
    assert assignment.phases.report is None


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_the_bundled_samples_are_valid(path: Path) -> None:
    assert parse((path / "assignment.yaml").read_text()).name == path.name


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ("flavour: small", "flavor: small", 2, "did you mean 'flavour'?"),
        ("memory_bytes:", "memory_byte:", 8, "did you mean 'memory_bytes'?"),
        ("    limits:", "    zzz:", 7, "known: command, env, image"),
        ("flavour: small", "flavour: huge", 2, "there are large, small, standard"),
        ("128MiB", "lots", 8, "phases.test.limits.memory_bytes"),
        ("128MiB", "-1", 8, "phases.test.limits.memory_bytes"),
        ("128MiB", "64GiB", 8, "the operator allows at most 2,147,483,648"),
        (
            "gradescope",
            "excel",
            9,
            "none of autolab, gradescope, junit, prairielearn, stdout, stream, tap",
        ),
        ("name: sort", "name: Sort It", 1, "name"),
        ("name: sort\n", "", 1, "name: field required"),
        ("  build: make", "  build: []", 4, "must not be empty"),
        ("  build: make", "  build: {reach: ['x']}", 4, "host:port"),
        ("  build: make", "  build: {limits: {cpus: 1}}", 4, "a command is needed"),
        ("  build: make", "  build: {command: x, kvm: true}", 4, "only the test phase"),
        ("command: [python3", "reach: ['h:1']\n    command: [python3", 5, "cannot have 'reach'"),
        ("name: sort", "name: sort\nname: sort", 2, "stands twice"),
        ("name: sort", "name: &a sort\ntitle: *a", 2, "aliases"),
        ("name: sort", "name: sort\nmounts: {tests: /usr/x}", 2, "would cover"),
        ("name: sort", "name: sort\nmounts: {tests: /mnt/submission/t}", 2, "inside another"),
        ("name: sort", "name: sort\nmounts: {tests: tests}", 2, "absolute path"),
        ("name: sort", "name: sort\nsubmission: {files: [../x]}", 2, "without '..'"),
        ("name: sort", "name: [sort", 2, "expected"),
    ],
)
def test_mistakes_name_their_line(old: str, new: str, line: int, why: str) -> None:
    assert old in GOOD
    with pytest.raises(AssignmentError) as caught:
        parse(GOOD.replace(old, new, 1))
    assert f"line {line}: " in caught.value.message
    assert why in caught.value.message


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(AssignmentError) as caught:
        parse(GOOD.replace("name:", "nam:").replace("format:", "fromat:"))
    assert len(caught.value.message.splitlines()) == 4


@pytest.mark.parametrize("text", ["", "just text", "- a\n- b", "\x00", "a: " + "[" * 5000, "é: ü"])
def test_invalid_assignments_are_refused(text: str) -> None:
    with pytest.raises(AssignmentError):
        parse(text)


def test_kvm_needs_the_operator() -> None:
    text = GOOD.replace("    limits:", "    kvm: true\n    limits:")
    assert parse(text, allow_kvm=True).phases.test.kvm
    with pytest.raises(AssignmentError, match=r"line 7: .*allow_kvm"):
        parse(text)


def test_a_flavour_over_the_maximum_names_its_line() -> None:
    with pytest.raises(AssignmentError, match=r"line 2: .*disk_bytes"):
        parse(GOOD, max_disk_bytes=2**20)
    with pytest.raises(AssignmentError, match=r"line 2: .*cpus"):
        parse(GOOD, max_cpus=0.5)


def test_an_operator_changes_and_adds_flavours() -> None:
    known = flavours({"small": {"cpus": 2}, "tiny": {"memory_bytes": "32MiB", "inodes": 100}})
    assert known["small"].limits.cpus == 2
    assert known["small"].disk_bytes == BUILT_IN["small"].disk_bytes
    assert known["tiny"].limits.memory_bytes == 32 * 2**20
    assert known["tiny"].inodes == 100
    assert BUILT_IN["small"].limits.cpus == 1
    with pytest.raises(ConfigurationError, match=r"tiny\.memory"):
        flavours({"tiny": {"memory": 1}})
