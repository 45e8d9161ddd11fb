"""The two scripts that join a split run, under the shells that images have."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from job_engine.grading.split import JOIN, TOOLS, contents, join_target
from tests.conftest import require

WORDS = ["", "a  b", "it's", "''", "\\", "$HOME `id` $(id)", "line\nbreak\n", "-n", "é*?"]


@pytest.mark.parametrize("shell", [["dash"], ["bash", "--posix"], ["bash"], ["busybox", "sh"]])
def test_words_input_output_and_codes_pass_through(shell: list[str], tmp_path: Path) -> None:
    require(shutil.which(shell[0]) is not None, f"no {shell[0]}")
    target = tmp_path / "program"
    places = {TOOLS: target, JOIN: Path(join_target(str(target)))}
    for name, stream in contents().items():
        with tarfile.open(fileobj=stream) as archive:
            archive.extractall(places[name], filter="fully_trusted")
    program = 'for word; do printf "%s|" "$word"; done; cat; echo oops >&2; exit 9'
    serve = [*shell, str(places[JOIN] / "serve"), "sh", "-c", program, "program"]
    with subprocess.Popen(serve, stderr=subprocess.DEVNULL) as serving:
        try:
            done = subprocess.run(
                [*shell, str(target / "run"), *WORDS],
                input=b"in",
                capture_output=True,
                timeout=20,
                check=False,
            )
            assert done.stdout.decode() == "".join(f"{word}|" for word in WORDS) + "in"
            assert (done.stderr, done.returncode) == (b"oops\n", 9)
        finally:
            serving.kill()
    gone = subprocess.run(
        [*shell, str(target / "run")], input=b"", capture_output=True, timeout=20, check=False
    )
    assert (gone.stdout, gone.stderr, gone.returncode) == (b"", b"", 137)
    assert list((places[JOIN] / "runs").iterdir()) == []
