"""Images for tests, made without a registry, and kept for the next run."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from tests.conftest import require

ROOT: Final = Path(__file__).resolve().parents[2]


def docker(*words: str | Path, stdin: str | None = None, timeout_s: float = 120.0) -> str:
    """Run the Docker client and return what it prints; fails with what it complains of."""
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, input=stdin, timeout=timeout_s
    )
    assert done.returncode == 0, f"docker {words[0]}: {done.stderr[-3000:]}"
    return done.stdout.strip()


def require_docker() -> None:
    """Skip the test where no Docker daemon answers; in CI, fail it."""
    require(shutil.which("docker") is not None, "needs the docker client")
    answer = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=60)
    require(answer.returncode == 0, f"needs a Docker daemon: {answer.stderr.strip()}")


@cache
def base_image() -> str:
    """Return an image with sh, gcc, git and python3, built from the host's mirror if need be."""
    given = os.environ.get("TEST_SANDBOX_IMAGE")
    if given:
        return given
    require_docker()
    script = ROOT / "scripts" / "build-base-image"
    built = subprocess.run([script], capture_output=True, text=True, timeout=600)
    require(built.returncode == 0, f"needs a base image: {built.stderr.strip()}")
    # Its last line is "<time> <tag> is …".
    return built.stdout.splitlines()[-1].split()[1]
