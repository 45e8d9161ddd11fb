"""Reading the autograder's settings of an Autolab lab, from its `.yml` or its Makefile."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from job_engine.grading.yaml_lines import load

TAR: Final = "autograde.tar"
_MAKEFILES: Final = ("autograde-Makefile", "Makefile")
_ARCHIVE: Final = re.compile(rb"(?<![\w./-])[\w.-]+\.(?:tar|tgz|tar\.gz|zip)(?![\w.])")


def document(files: tuple[str, ...], read: Callable[[str], bytes]) -> dict[str, Any]:
    """Return hand-in, problems, time-out and title, as an assignment's document would."""
    names = [file for file in files if "/" not in file and file.endswith((".yml", ".yaml"))]
    for name in sorted(names):
        data = read(name)
        if b"general:" not in data:
            # Of something else, which may well be written as we do not take it.
            continue
        value, _ = load(data, name)
        general = value.get("general") if isinstance(value, Mapping) else None
        if isinstance(general, Mapping):
            return _told(value, general)
    handin = _unpacked(files, read)
    return {} if handin is None else {"autolab": {"handin": handin}}


def wanted(document: Mapping[str, Any]) -> set[str]:
    """Return what the autograder is given of a lab.

    All else stays out, as there: the model answer beside it would take the hand-in's place.
    """
    lab = document.get("autolab")
    named = lab.get("files") if isinstance(lab, Mapping) else None
    further = {str(name).partition("/")[0] for name in named or []}
    return {TAR, *_MAKEFILES, *further}


def _unpacked(files: tuple[str, ...], read: Callable[[str], bytes]) -> str | None:
    """Return the hand-in, if it is the one archive that the Makefile names beside the grader's."""
    makefile = next((name for name in _MAKEFILES if name in files), None)
    if makefile is None:
        return None
    named = {found.decode() for found in _ARCHIVE.findall(read(makefile))} - {TAR}
    return named.pop() if len(named) == 1 else None


def _told(value: Mapping[str, Any], general: Mapping[str, Any]) -> dict[str, Any]:
    grader = value.get("autograder")
    grader = grader if isinstance(grader, Mapping) else {}
    lab: dict[str, Any] = {
        "problems": {
            str(problem.get("name")): problem.get("max_score") or 0
            for problem in value.get("problems") or []
            if isinstance(problem, Mapping)
        }
    }
    if general.get("handin_filename"):
        lab["handin"] = str(general["handin_filename"])
    told: dict[str, Any] = {"autolab": lab}
    if general.get("display_name") or general.get("name"):
        told["title"] = str(general.get("display_name") or general["name"])
    if isinstance(grader.get("autograde_timeout"), int):
        seconds = grader["autograde_timeout"]
        told["limits"] = {"wall_time_s": seconds, "cpu_time_s": seconds}
    return told
