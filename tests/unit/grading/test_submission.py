"""What the payload of `grade` may say, and what git is never told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from job_engine.errors import ConfigurationError, SubmissionError
from job_engine.grading.clone import clone_env, clone_phase, commit_of
from job_engine.grading.secrets import git_secret, stdin_of
from job_engine.grading.submission import GitSource, GradePayload
from job_engine.sandbox.base import Limits, Reach

HEX = "a" * 64


def payload(submission: dict[str, Any]) -> GradePayload:
    return GradePayload.model_validate({"assignment": "x", "submission": submission})


@pytest.mark.parametrize(
    "submission",
    [
        {"git": {"url": "https://example.org/a/b.git"}},
        {"git": {"url": "http://example.org:8080/a", "commit": "0" * 40}},
        {"git": {"url": "https://example.org/~me/a", "ref": "feature/one-2.0"}},
        {"archive": {"blob": f"sha256:{HEX}"}},
        {"archive": {"blob": f"blob/{HEX}"}},
        {"files": {"a.c": "int x;", "b": {"base64": "AAE="}}},
    ],
)
def test_good_submissions(submission: dict[str, Any]) -> None:
    made = payload(submission).submission
    assert made.archive is None or made.archive.blob == f"sha256:{HEX}"


URLS = [
    "ssh://git@example.org/a",
    "git@example.org:a/b",
    "file:///etc",
    "/etc/passwd",
    "ext::sh -c touch% /tmp/x",
    "-oProxyCommand=x",
    "--upload-pack=x",
    "https://user:password@example.org/a",
    "https://user@example.org/a",
    "https:///a",
    "https://-x/a",
    "https://example.org",
    "https://example.org/a?b",
    "https://example.org/a#b",
    "https://example.org/a b",
    "https://example.org/a\n",
    "https://example.org:0/a",
    "https://example.org:99999/a",
    "https://exa\\mple.org/a",
    "ftp://example.org/a",
]


@pytest.mark.parametrize("url", URLS)
def test_urls_that_git_must_not_see(url: str) -> None:
    with pytest.raises(ValidationError):
        payload({"git": {"url": url}})


@pytest.mark.parametrize(
    "what",
    [
        {"ref": "-x"},
        {"ref": "--upload-pack=x"},
        {"ref": "a..b"},
        {"ref": "a b"},
        {"ref": "main:refs/heads/x"},
        {"ref": "+main"},
        {"ref": "@{-1}"},
        {"ref": ""},
        {"ref": "x.lock"},
        {"commit": "main"},
        {"commit": "0" * 39},
        {"commit": "0" * 40, "ref": "main"},
        {"credential": "../x"},
        {"depth": 1},
    ],
)
def test_invalid_git_sources_are_refused(what: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        payload({"git": {"url": "https://example.org/a", **what}})


@pytest.mark.parametrize(
    "submission",
    [
        {},
        {"files": {}},
        {"files": {"a": 1}},
        {"files": {"a": "x"}, "archive": {"blob": f"sha256:{HEX}"}},
        {"archive": {"blob": "sha256:short"}},
        {"archive": {"blob": f"http://{HEX}"}},
        {"zip": "x"},
        {"files": {f"f{n}": "" for n in range(300)}},
    ],
)
def test_a_submission_is_exactly_one_thing(submission: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        payload(submission)


def test_the_clone_reaches_the_repository_and_nothing_else() -> None:
    def reach(url: str) -> tuple[Reach, ...]:
        return clone_phase(
            GitSource(url=url),
            target="/mnt/submission",
            limits=Limits(),
            image=None,
            expected=(),
        ).reach

    assert reach("https://example.org/a") == (Reach(host="example.org", port=443),)
    assert reach("http://example.org/a") == (Reach(host="example.org", port=80),)
    assert reach("http://10.0.0.1:8080/a") == (Reach(host="10.0.0.1", port=8080),)


def test_url_and_ref_are_never_text_of_the_script() -> None:
    source = GitSource(url="https://example.org/$(touch${IFS}x)", ref="main")
    spec = clone_phase(
        source,
        target="/mnt/submission",
        limits=Limits(),
        image=None,
        expected=("$(touch y)",),
    )
    assert "touch" not in spec.command[2]
    assert spec.command[3:] == ("clone", "$(touch y)")
    assert clone_env(source, keep_git=False)["SUBMISSION_URL"].endswith("$(touch${IFS}x)")
    # Nor of what is prepared before there is a submission.
    assert spec.env == {}


def test_the_commit_is_the_last_that_was_printed() -> None:
    assert commit_of(b"noise\n" + b"1" * 40 + b"\n") == "1" * 40
    assert commit_of(b"no commit") is None


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    file = tmp_path / "secrets.yaml"
    file.write_text("course: {host: 'example.org:443', username: robot, password: s3cret}\n")
    file.chmod(0o600)
    return file


def test_a_secret_goes_to_its_host_only(secrets: Path) -> None:
    source = GitSource(url="https://example.org/a", credential="course")
    assert stdin_of(git_secret(source, secrets)).startswith(b"username=robot\npassword=s3cret\n\n")
    assert stdin_of(git_secret(GitSource(url="https://example.org/a"), secrets)) == b""
    for url, why in (
        ("https://evil.example/a", "is not for"),
        ("https://example.org:444/a", "is not for"),
        ("http://example.org:443/a", "plain http"),
    ):
        with pytest.raises(SubmissionError, match=why):
            git_secret(GitSource(url=url, credential="course"), secrets)
    other = GitSource(url="https://example.org/a", credential="other")
    with pytest.raises(SubmissionError, match="no credential named 'other'"):
        git_secret(other, secrets)
    with pytest.raises(SubmissionError, match="no credential"):
        git_secret(source, None)


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("/course", True),
        ("/course/lab", True),
        ("/course/lab/", True),
        ("/courses/lab", False),
        ("/staff/course/lab", False),
        ("/course/../staff/tests", False),
        ("/course/%2e%2e/staff/tests", False),
        ("/course/./lab", False),
        ("//course/lab", False),
    ],
)
def test_a_secret_can_be_for_a_part_of_its_host(secrets: Path, path: str, below: bool) -> None:
    secrets.write_text(
        "course: {host: 'example.org:443', path: /course/, username: robot, password: s3cret}\n"
    )
    source = GitSource(url=f"https://example.org{path}", credential="course")
    if below:
        assert git_secret(source, secrets)
        return
    with pytest.raises(SubmissionError, match="not for that repository"):
        git_secret(source, secrets)


def test_a_secrets_file_must_be_private_and_is_never_quoted(secrets: Path) -> None:
    source = GitSource(url="https://example.org/a", credential="course")
    secrets.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        git_secret(source, secrets)
    secrets.chmod(0o600)
    secrets.write_text("course: {password: s3cret}\n")
    with pytest.raises(ConfigurationError) as caught:
        git_secret(source, secrets)
    assert "s3cret" not in caught.value.message
