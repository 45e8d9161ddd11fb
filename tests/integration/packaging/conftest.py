"""The image of `Dockerfile`, built from a local base and local wheels."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import require
from tests.support.images import ROOT, base_image, docker, require_docker

TAG = "job-engine-test:latest"
PACKAGES = ("job_engine", "actions", "distributor", "executor")


def download_wheels(directory: Path) -> None:
    """Put the wheels that the image installs where the Dockerfile looks for them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--dest", directory, *wanted], capture_output=True, text=True, timeout=600
    )
    require(done.returncode == 0, f"needs the wheels of the dependencies: {done.stderr[-500:]}")


@pytest.fixture(scope="session")
def engine_image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image under test; layers that did not change come from Docker's cache."""
    require_docker()
    base = base_image()
    version = docker("run", "--rm", "--network=none", base, "python3", "-V").split()[1]
    here = ".".join(map(str, sys.version_info[:2]))
    require(version.startswith(f"{here}."), f"needs a base with Python {here}, this has {version}")
    context = tmp_path_factory.mktemp("context")
    download_wheels(context / "wheels")
    for name in ("Dockerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, context)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, context / package)
    # What must not get in.
    (context / "secret.env").write_text("JOB_ENGINE_API_SECRET=x")
    docker(
        "build", "--quiet", f"--tag={TAG}", f"--build-arg=BASE_IMAGE={base}", context,
        timeout_s=600,
    )  # fmt: skip
    return TAG
