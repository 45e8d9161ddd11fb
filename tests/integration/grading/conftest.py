"""Graders on the real sandboxes, with blobs in a directory instead of behind the API."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from job_engine.errors import ApiError, JobEngineError
from job_engine.grading.archive import pack_directory, pack_submission
from job_engine.grading.bundles import BundleCache
from job_engine.grading.pipeline import Grader
from job_engine.grading.receipt import JobFacts
from job_engine.grading.results import Results
from job_engine.grading.submission import GradePayload
from job_engine.sandbox.base import KEPT_PREFIX, Sandbox
from job_engine.sandbox.factory import make_sandbox
from job_engine.settings import GradingSettings, SandboxSettings
from job_engine.testing.git_server import GitServer
from tests.conftest import require
from tests.contract.sandbox import bubblewrap_host, docker_host

EXAMPLES = Path(__file__).parents[3] / "examples"
SETTINGS = {"bubblewrap": bubblewrap_host.settings, "docker": docker_host.settings}


class Blobs:
    """A content-addressed directory: a blob source, and a catalogue of assignments."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.names: dict[str, str] = {}
        self.downloads: list[str] = []

    def add(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        # Whole at once: another thread may be reading what has the same content.
        made = self.directory / f"new-{uuid.uuid4().hex}"
        made.write_bytes(data)
        made.rename(self.directory / digest)
        return f"sha256:{digest}"

    def add_assignment(self, directory: Path) -> str:
        with pack_directory(directory) as packed:
            digest = self.add(packed.stream.read())
            assert digest == packed.digest
        self.names[directory.name] = digest
        return digest

    def add_submission(self, directory: Path) -> str:
        file = self.directory / f"packed-{uuid.uuid4().hex}"
        with file.open("wb") as out:
            pack_submission(directory, out)
        return self.add(file.read_bytes())

    def download_blob(self, digest: str, target: Path) -> None:
        self.downloads.append(digest)
        try:
            shutil.copyfile(self.directory / digest.removeprefix("sha256:"), target)
        except FileNotFoundError:
            raise ApiError("The API refused (404): no such blob") from None

    def publishes(self, digest: str) -> bool:
        return digest in self.names.values()

    def digest_of(self, name: str) -> str | None:
        return self.names.get(name)


@dataclass
class Follower:
    """Follows a run as a context does, and can interrupt it."""

    scratch: Path
    messages: list[str] = field(default_factory=list)
    percents: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any], bool]] = field(default_factory=list)
    stop_at: str | None = None
    """Interrupt (by `stop`) once this message has come."""
    stop: Callable[[Callable[[], None]], None] | None = None
    interruption: BaseException | None = None
    close: Callable[[], None] | None = None
    """What an interruption closes."""

    def progress(self, percent: int, message: str | None = None) -> None:
        self._check()
        self.percents.append(percent)
        self.messages.append(message or "")
        if message == self.stop_at and self.close is not None and self.stop is not None:
            self.stop(self.close)

    def log(self, text: str) -> None:
        self._check()
        self.lines.append(text)

    def event(self, kind: str, data: Mapping[str, Any], *, staff: bool = False) -> None:
        self._check()
        self.events.append((kind, dict(data), staff))

    def sleep(self, seconds: float) -> None:
        self._check()

    def lend(self, close: Callable[[], None]) -> AbstractContextManager[None]:
        @contextmanager
        def lent() -> Iterator[None]:
            self.close = close
            try:
                yield
            finally:
                self.close = None

        return lent()

    def _check(self) -> None:
        if self.interruption is not None:
            raise self.interruption


@dataclass
class Desk:
    """A grader on one backend, and what tests need around it."""

    name: str
    sandbox: Sandbox
    policy: SandboxSettings
    blobs: Blobs
    directory: Path
    settings: GradingSettings
    label: str
    leftovers: Callable[[str], list[str]]

    def follower(self) -> Follower:
        scratch = self.directory / f"scratch-{uuid.uuid4().hex[:8]}"
        scratch.mkdir()
        return Follower(scratch)

    def grade(
        self,
        assignment: str,
        submission: dict[str, Any],
        follower: Follower | None = None,
    ) -> Results:
        payload = {"assignment": assignment, "submission": submission}
        return self.grade_payload(payload, follower)

    def grade_payload(self, payload: dict[str, Any], follower: Follower | None = None) -> Results:
        grader = Grader(
            sandbox=self.sandbox,
            blobs=self.blobs,
            catalogue=self.blobs,
            bundles=BundleCache.from_settings(self.settings),
            settings=self.settings,
            policy=self.policy,
            label=self.label,
            job_facts=JobFacts(executor=self.label),
        )
        return grader.grade(GradePayload.model_validate(payload), follower or self.follower())


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the git server looks for bare repositories."""
    return tmp_path_factory.mktemp("repositories")


@pytest.fixture(scope="module")
def git_server(repositories: Path) -> Iterator[GitServer]:
    """A real git server on loopback."""
    require(shutil.which("git") is not None, "git is not installed")
    with GitServer(repositories) as server:
        yield server


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
        pytest.param("docker", marks=pytest.mark.docker),
    ],
)
def sandbox(
    request: pytest.FixtureRequest, git_server: GitServer
) -> Iterator[tuple[str, Sandbox, SandboxSettings]]:
    """Each backend in turn, allowed to reach the git server."""
    name: str = request.param
    settings = SETTINGS[name]().model_copy(update={"allow_private_hosts": [git_server.address]})
    try:
        made = make_sandbox(settings)
        made.check()
    except (JobEngineError, ImportError) as error:
        require(False, f"{name}: {error}")
    try:
        yield name, made, settings
    finally:
        made.close()


@pytest.fixture(scope="module")
def granting(
    sandbox: tuple[str, Sandbox, SandboxSettings], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Sandbox, SandboxSettings]]:
    """A sandbox whose operator grants what bundles need; each setup runs once for all tests."""
    name, _, settings = sandbox
    roots = tmp_path_factory.mktemp("roots")
    granted = settings.model_copy(
        update={
            "allow_profiles": ["own-root"],
            "kept_roots_dir": roots,
            "image_map": {"prairielearn/grader-python": None},
        }
    )
    made = make_sandbox(granted)
    yield made, granted
    for kept in (roots / f"setups-{name}").glob("*[0-9a-f]"):
        made.drop_kept(f"{KEPT_PREFIX}{kept.name}")
    made.close()


@pytest.fixture
def desk(sandbox: tuple[str, Sandbox, SandboxSettings], tmp_path: Path) -> Iterator[Desk]:
    """A desk of the test's own; what its slots leave behind fails the test."""
    name, made, policy = sandbox
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    hosts = {"bubblewrap": bubblewrap_host, "docker": docker_host}
    desk = Desk(
        name=name,
        sandbox=made,
        policy=policy,
        blobs=Blobs(blobs),
        directory=tmp_path,
        settings=GradingSettings(bundle_cache_dir=tmp_path / "bundles"),
        label=f"grading-{uuid.uuid4().hex[:12]}",
        leftovers=hosts[name].leftovers,
    )
    for assignment in (EXAMPLES / "assignments").iterdir():
        desk.blobs.add_assignment(assignment)
    yield desk
    left = desk.leftovers(desk.label)
    made.sweep(desk.label)
    assert left == []
