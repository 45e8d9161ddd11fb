"""Autolab: the settings of a lab's autograder, and reading them from its `.yml` or Makefile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from job_engine.grading.contracts.source import Read
from job_engine.grading.fields import RelativePath, StrictModel
from job_engine.grading.yaml_lines import load

TAR: Final = "autograde.tar"
_MAKEFILES: Final = ("autograde-Makefile", "Makefile")
_ARCHIVE: Final = re.compile(rb"(?<![\w./-])[\w.-]+\.(?:tar|tgz|tar\.gz|zip)(?![\w.])")


class Autolab(StrictModel):
    """`autolab:` of an assignment."""

    handin: RelativePath | None = None
    """Name of the hand-in in the grader's directory; None: the submission's files as they are."""
    problems: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Maximum score of each problem."""
    files: list[RelativePath] = []
    """Files of the lab that the grader gets besides its Makefile and `autograde.tar`
    (`autogradeInputFiles` of a lab's `.rb`)."""


def document(files: tuple[str, ...], read: Read) -> dict[str, Any]:
    """Return hand-in, problems, time-out and title, as keys of an assignment's document."""
    names = [file for file in files if "/" not in file and file.endswith((".yml", ".yaml"))]
    for name in sorted(names):
        data = read(name)
        if b"general:" not in data:
            # Perhaps another tool's file, in YAML that `load` refuses.
            continue
        lab, _ = load(data, name)
        general = lab.get("general") if isinstance(lab, Mapping) else None
        if isinstance(general, Mapping):
            return _from_yml(lab, general)
    handin = _handin_in_makefile(files, read)
    return {} if handin is None else {"autolab": {"handin": handin}}


def bundled(document: Mapping[str, Any]) -> set[str]:
    """Return the names at a lab's root that its autograder gets.

    The rest stays out, as in Autolab: the model answer would overwrite the hand-in.
    """
    lab = document.get("autolab")
    files = lab.get("files") if isinstance(lab, Mapping) else None
    return {TAR, *_MAKEFILES, *(str(name).partition("/")[0] for name in files or [])}


def _handin_in_makefile(files: tuple[str, ...], read: Read) -> str | None:
    """Return the hand-in, if the Makefile names exactly one archive besides the grader's."""
    makefile = next((name for name in _MAKEFILES if name in files), None)
    if makefile is None:
        return None
    archives = {match.decode() for match in _ARCHIVE.findall(read(makefile))} - {TAR}
    return archives.pop() if len(archives) == 1 else None


def _from_yml(lab: Mapping[str, Any], general: Mapping[str, Any]) -> dict[str, Any]:
    autolab: dict[str, Any] = {
        "problems": {
            str(problem.get("name")): problem.get("max_score") or 0
            for problem in lab.get("problems") or []
            if isinstance(problem, Mapping)
        }
    }
    if general.get("handin_filename"):
        autolab["handin"] = str(general["handin_filename"])
    document: dict[str, Any] = {"autolab": autolab}
    if title := general.get("display_name") or general.get("name"):
        document["title"] = str(title)
    grader = lab.get("autograder")
    timeout = grader.get("autograde_timeout") if isinstance(grader, Mapping) else None
    if isinstance(timeout, int):
        document["limits"] = {"wall_time_s": timeout, "cpu_time_s": timeout}
    return document
