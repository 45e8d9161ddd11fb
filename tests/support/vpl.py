"""Activities of Moodle VPL, for tests."""

from __future__ import annotations

import base64
import tarfile
from pathlib import Path

from job_engine.grading.assignment import Assignment
from job_engine.grading.contracts.recognise import bundle_of
from job_engine.grading.flavours import BUILT_IN
from job_engine.grading.policy import load_assignment
from job_engine.settings import SandboxSettings

ADDS = """\
case = adds
Grade reduction = 30%
input = 1
2
output = 3
output = "three"

Case = is told
Fail message = think again
Grade reduction = 70%
input =5
6
output = /^1[0-9]$/
"""


def bundled(directory: Path, files: dict[str, str]) -> tuple[Assignment, dict[str, str]]:
    """Return the assignment of an activity, and the files of its bundle."""
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    members: dict[str, str] = {}
    with bundle_of(directory) as bundle, tarfile.open(fileobj=bundle.stream) as tar:
        for info in tar:
            if (file := tar.extractfile(info)) is not None:
                members[info.name] = file.read().decode()
    document = members.pop("assignment.yaml").encode()
    return load_assignment(document, BUILT_IN, SandboxSettings()), members


def encoded(text: str) -> str:
    """Return a text in base64, as files of a name in `.b64` have it."""
    return base64.b64encode(text.encode()).decode()
