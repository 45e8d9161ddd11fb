"""Private environments with one release of a peer's package each, made once and kept.

The project itself depends on `nuvla-api` 4.x, so 3.0.9 cannot live in its environment; and a
release that is tested by its number is pinned, whatever the project's own environment has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.conftest import require

VERSIONS: Final = ("4.2.3", "3.0.9")
_KEPT: Final = Path(__file__).parents[3] / "var" / "test"
_INSTALL_S: Final = 100
_WHICH: Final = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"


def released(package: str, version: str, *beside: str) -> Path:
    """Return the interpreter of an environment that has this release, and nothing of ours.

    `beside` are packages that the release needs and does not require. Skips the test where
    it cannot be installed; in CI that is a failure.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    home = _KEPT / f"{package}-{version}-py{python}"
    interpreter = home / "bin" / "python"
    if _has(interpreter, package, version):
        return interpreter
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    problem = ""
    for command in (
        [sys.executable, "-m", "venv", str(home)],
        [str(interpreter), "-m", "pip", "install", "--quiet", f"{package}=={version}", *beside],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S)
        if done.returncode:
            problem = done.stderr.strip().splitlines()[-1] if done.stderr else "no reason given"
            break
    installed = _has(interpreter, package, version)
    require(installed, f"{package} {version} cannot be installed: {problem}")
    return interpreter


def _has(interpreter: Path, package: str, version: str) -> bool:
    if not interpreter.exists():
        return False
    command = [str(interpreter), "-I", "-c", _WHICH, package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout.strip() == version


def clean_environment(home: Path) -> dict[str, str]:
    """Return an environment in which a client finds neither our code nor anyone's cookies."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "HOME": str(home), "NO_PROXY": "*"}
