"""How the contract suite configures the Docker backend, and sees what it left behind."""

from __future__ import annotations

import subprocess

from job_engine.settings import SandboxSettings
from tests.support.images import base_image


def settings() -> SandboxSettings:
    """Return settings for a backend under test."""
    return SandboxSettings(sandbox="docker", default_image=base_image())


def leftovers(label: str) -> list[str]:
    """Return the containers, volumes and networks that carry the label."""
    found = []
    for command in (
        ["docker", "ps", "--all", "--format", "container {{.Names}} {{.Labels}}"],
        ["docker", "volume", "ls", "--format", "volume {{.Name}} {{.Labels}}"],
        ["docker", "network", "ls", "--format", "network {{.Name}} {{.Labels}}"],
    ):
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found += [line for line in listed.splitlines() if label in line]
    return found
