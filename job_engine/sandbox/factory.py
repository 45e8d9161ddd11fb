"""Picks the sandbox backend that the settings name, and imports only that one."""

from __future__ import annotations

from job_engine.errors import ConfigurationError
from job_engine.sandbox.base import Sandbox
from job_engine.settings import SandboxSettings


def make_sandbox(settings: SandboxSettings) -> Sandbox:
    """Return the backend that `settings.sandbox` names; nothing is started yet.

    Raises `ConfigurationError` when none is named: a backend is chosen when an engine
    is set up, never guessed at run time.
    """
    match settings.sandbox:
        case "docker":
            from job_engine.sandbox.docker import DockerSandbox

            return DockerSandbox(settings)
        case "bubblewrap":
            from job_engine.sandbox.bubblewrap.backend import BubblewrapSandbox

            return BubblewrapSandbox(settings)
        case None:
            raise ConfigurationError(
                "no sandbox is configured: set `sandbox` to docker or bubblewrap"
            )
