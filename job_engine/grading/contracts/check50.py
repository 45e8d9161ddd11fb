"""check50: problems whose checks are in the directory of their `.cs50.yaml`."""

from __future__ import annotations

import re
from typing import Any, Final

from job_engine.errors import AssignmentError
from job_engine.grading.contracts.source import Read

FILES: Final = (".cs50.yml", ".cs50.yaml")
"""Files that name the checks; the first one that exists is used."""
_SECTION: Final = re.compile(rb"^check50\s*:(?!\s*false\b)", re.MULTILINE)


def document(files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return no keys: a problem's own files contain everything.

    Raises `AssignmentError` for a problem without checks, which is for other tools of CS50.
    """
    # Not read as YAML: its lists of files have tags of their own.
    name = next(name for name in FILES if name in files)
    if not _SECTION.search(read(name)):
        raise AssignmentError(f"{name} has no section check50: there is nothing to grade by.")
    return {}
