"""One contract suite over every sandbox backend, through the `backend` fixture.

A backend joins with an entry in `BACKENDS`: how it is configured, what the suite needs
to be there, and how to see from the host what a label has left behind.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from job_engine.errors import JobEngineError
from job_engine.sandbox.base import Sandbox
from job_engine.sandbox.factory import make_sandbox
from job_engine.settings import SandboxSettings
from tests.conftest import require
from tests.contract.sandbox import bubblewrap_host, docker_host


@dataclass(frozen=True)
class Backend:
    """A backend under test, with an image that has sh, python3 and gcc."""

    name: str
    sandbox: Sandbox
    settings: SandboxSettings
    image: str | None
    leftovers: Callable[[str], list[str]]
    """What the host still has of a label: processes, mounts, cgroups, containers, …"""

    def make(self, **changes: Any) -> Sandbox:
        """Return another sandbox of this backend, with other settings."""
        return make_sandbox(self.settings.model_copy(update=changes))


BACKENDS = {
    "bubblewrap": (bubblewrap_host.settings, bubblewrap_host.leftovers),
    "docker": (docker_host.settings, docker_host.leftovers),
}


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
        pytest.param("docker", marks=pytest.mark.docker),
    ],
)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each backend in turn; skipped with the reason where it cannot be used."""
    name: str = request.param
    make_settings, leftovers = BACKENDS[name]
    settings = make_settings()
    try:
        sandbox = make_sandbox(settings)
        sandbox.check()
    except (JobEngineError, ImportError) as error:
        require(False, f"{name}: {error}")
    try:
        yield Backend(name, sandbox, settings, settings.default_image, leftovers)
    finally:
        sandbox.close()


@pytest.fixture
def label(backend: Backend) -> Iterator[str]:
    """A label of the test's own; what it leaves behind fails the test."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    backend.sandbox.sweep(name)
    assert backend.leftovers(name) == []


@pytest.fixture
def root() -> None:
    """The test changes the host's network, in namespaces of its own."""
    require(os.geteuid() == 0 and shutil.which("ip") is not None, "needs root and iproute2")
