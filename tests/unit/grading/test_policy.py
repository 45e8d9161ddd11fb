"""What an operator refuses is refused when an assignment is loaded, by line and setting."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from job_engine.errors import AssignmentError, ImageUnavailableError
from job_engine.grading.assignment import Assignment
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.policy import Identify, load_assignment
from job_engine.sandbox.policy import may_reach
from job_engine.settings import PolicySettings

ID = f"sha256:{'a' * 64}"
PINNED = f"python@sha256:{'b' * 64}"
TEXT = f"""\
name: sort
image: {PINNED}
flavour: small
phases:
  build:
    command: make
    reach: ['pypi.org:443', 'files.example.org:443']
    image: {ID}
  test:
    command: [python3, run.py]
    kvm: true
    limits:
      memory_bytes: 128MiB
    program:
      command: ./sort
      image: course:1
      limits: {{processes: 40}}
results: {{format: gradescope}}
"""
ALLOWED: dict[str, Any] = {
    "allow_kvm": True,
    "allow_images": [ID, PINNED, f"image:sha256:{'c' * 64}"],
    "allow_reach": ["*.example.org:443", "pypi.org:443"],
}


def load(identify: Identify | None = None, text: str = TEXT, **changes: Any) -> Assignment:
    policy = PolicySettings(**{**ALLOWED, **changes})
    return load_assignment(text.encode(), BUILT_IN, policy, identify)


def known(image: str | None) -> list[str]:
    """A host that has one image by a tag, and the default one."""
    if image in ("course:1", None):
        return [f"sha256:{'c' * 64}"]
    raise ImageUnavailableError(f"no {image}")


def test_an_allowed_assignment_is_loaded() -> None:
    assert load(known).phases.test.kvm
    assert load().phases.test.kvm


@pytest.mark.parametrize(
    ("changes", "line", "setting"),
    [
        ({"max_cpus": 0.5}, 3, "max_cpus"),
        ({"max_cpu_time_s": 1}, 3, "max_cpu_time_s"),
        ({"max_wall_time_s": 1}, 3, "max_wall_time_s"),
        ({"max_memory_bytes": 2**20}, 13, "max_memory_bytes"),
        ({"max_processes": 39}, 17, "max_processes"),
        ({"max_file_size_bytes": 1}, 3, "max_file_size_bytes"),
        ({"max_output_bytes": 1}, 3, "max_output_bytes"),
        ({"max_disk_bytes": 1}, 3, "max_disk_bytes"),
        ({"max_inodes": 1}, 3, "max_inodes"),
        ({"allow_kvm": False}, 11, "allow_kvm"),
        ({"allow_reach": ["pypi.org:443"]}, 7, "allow_reach"),
        ({"allow_reach": []}, 7, "allow_reach"),
        ({"allow_images": [ID, f"sha256:{'c' * 64}"]}, 2, "allow_images"),
        ({"allow_images": [PINNED, f"sha256:{'c' * 64}"]}, 8, "allow_images"),
        ({"allow_images": [PINNED, ID]}, 16, "allow_images"),
        ({"allow_images": []}, 2, "allow_images"),
    ],
)
def test_a_refusal_names_line_and_setting(changes: dict[str, Any], line: int, setting: str) -> None:
    with pytest.raises(AssignmentError) as refused:
        load(known, **changes)
    problems = refused.value.message.splitlines()
    found = [text for text in problems if text.startswith(f"assignment.yaml, line {line}: ")]
    assert any(setting in text for text in found), problems
    assert all(setting in text for text in problems)


def test_all_that_is_refused_is_told_at_once() -> None:
    with pytest.raises(AssignmentError) as refused:
        load(known, allow_kvm=False, allow_reach=[], max_processes=39)
    problems = refused.value.message
    assert all(name in problems for name in ("allow_kvm", "allow_reach", "max_processes"))


def test_a_profile_needs_a_grant() -> None:
    text = "name: a\nphases:\n  test: {command: x, profile: own-root}\nresults: {format: stdout}\n"
    with pytest.raises(AssignmentError, match=r"line 3: .*allow_profiles"):
        load(text=text, allow_images=None)
    load(text=text, allow_images=None, allow_profiles=["own-root"])


@pytest.mark.parametrize("asked", ["privileged: true", "profile: privileged"])
def test_nothing_is_privileged(asked: str) -> None:
    text = f"name: a\nphases:\n  test: {{command: x, {asked}}}\nresults: {{format: stdout}}\n"
    with pytest.raises(AssignmentError, match="line 3: phases"):
        load(text=text, allow_images=None)


def test_where_the_images_are_not_only_digests_can_be_judged() -> None:
    """A tag is judged where it is run; a digest that is not listed is refused anywhere."""
    with pytest.raises(AssignmentError) as refused:
        load(None, allow_images=[ID])
    assert [text for text in refused.value.message.splitlines() if "course:1" in text] == []
    assert f"line 2: image: the image {PINNED}" in refused.value.message


def test_the_default_image_is_judged_too() -> None:
    text = "name: a\nphases: {test: x}\nresults: {format: stdout}\n"
    load(known, text)
    with pytest.raises(AssignmentError, match=r"line 1: image: the default image"):
        load(known, text, allow_images=[ID])


@pytest.mark.parametrize(
    ("allowed", "host", "port", "may"),
    [
        (None, "anything.example", 1, True),
        ([], "a.example", 443, False),
        (["a.example:443"], "a.example", 443, True),
        (["a.example:443"], "A.Example.", 443, True),
        (["a.example:443"], "a.example", 80, False),
        (["a.example:443"], "b.a.example", 443, False),
        (["*.a.example:443"], "b.a.example", 443, True),
        (["*.a.example:443"], "c.b.a.example", 443, True),
        (["*.a.example:443"], "a.example", 443, False),
        (["*.a.example:443"], "ba.example", 443, False),
        (["*.a.example:443"], "b.a.example.evil", 443, False),
    ],
)
def test_hosts(allowed: list[str] | None, host: str, port: int, may: bool) -> None:
    assert may_reach(allowed, host, port) is may


@pytest.mark.parametrize(
    "settings",
    [
        {"allow_images": ["python:3.12"]},
        {"allow_images": ["sha256:abc"]},
        {"allow_reach": ["pypi.org"]},
        {"allow_reach": ["*:443"]},
        {"allow_profiles": ["privileged"]},
    ],
)
def test_a_policy_that_cannot_be_meant_stops_the_executor(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PolicySettings(**settings)
