"""What `doctor` says of the operator's policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_engine.cli.checks import Status, clock, machine, policy, settings, timestamps
from job_engine.settings import PolicySettings


def test_the_policy_is_told() -> None:
    default = policy(PolicySettings())
    assert default.status is Status.OK
    for words in ("2,048 MiB", "images: any;", "hosts: any public;", "granted: nothing"):
        assert words in default.detail
    narrow = PolicySettings(allow_images=["host"], allow_reach=[], max_cpus=0.5)
    result = policy(narrow).detail
    assert "at most 0.5 CPUs" in result
    assert "images: 1 listed; hosts: none;" in result


def test_grants_are_warned_of() -> None:
    granted = policy(PolicySettings(allow_kvm=True, allow_profiles=["own-root"]))
    assert granted.status is Status.WARN
    assert "granted: /dev/kvm, own-root" in granted.detail


def test_wrong_settings_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_ENGINE_LOG_LEVEL", "INFO")
    assert settings().status is Status.OK
    monkeypatch.setenv("JOB_ENGINE_OF_SOMEBODY", "x")
    assert settings().status is Status.WARN
    monkeypatch.setenv("JOB_ENGINE_THREDS", "5")
    monkeypatch.setenv("JOB_ENGINE_MAX_CPUS", "many")
    result = settings()
    assert result.status is Status.MISSING
    assert "did you mean JOB_ENGINE_THREADS?" in result.detail
    assert result.detail.count("JOB_ENGINE_MAX_CPUS") == 1
    names = [finding.name for finding in machine()]
    assert "settings" in names
    assert "policy" not in names


def test_copies_of_sent_data_are_a_warning(tmp_path: Path) -> None:
    setting = tmp_path / "tstamp_allow_data"
    assert timestamps(setting).status is Status.WARN
    assert "not in sight" in timestamps(setting).detail
    setting.write_text("1\n")
    result = timestamps(setting)
    assert (result.status, "is on" in result.detail) == (Status.WARN, True)
    assert "net.core.tstamp_allow_data=0" in result.remedy
    setting.write_text("0\n")
    assert timestamps(setting).status is Status.OK


@pytest.mark.parametrize(
    ("now_s", "status", "words"),
    [
        (1_000_000_001.9, Status.OK, "in step"),
        (1_000_003_600.0, Status.WARN, "3,600 s ahead of the API's"),
        (999_999_990.0, Status.WARN, "10 s behind the API's"),
    ],
)
def test_a_clock_that_is_not_the_apis_is_warned_of(
    now_s: float, status: Status, words: str
) -> None:
    finding = clock("Sun, 09 Sep 2001 01:46:40 GMT", now_s)
    assert finding is not None
    assert finding.status is status
    assert words in finding.detail


def test_an_answer_without_a_date_says_nothing_of_clocks() -> None:
    assert clock(None, 0.0) is None
    assert clock("yesterday", 0.0) is None
