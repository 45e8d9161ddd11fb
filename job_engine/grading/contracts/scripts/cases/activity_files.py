"""Puts the files of a Moodle VPL activity over those of a submission.

What is run by a name of VPL's is the activity's then, or made by its scripts.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shlex
import shutil
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from .files import clear, put_all

Settings = dict[str, Any]
_OWN = ("vpl-cases",)
"""What the engine has put beside the activity's files."""
EVALUATE, RUN, EXECUTION = "vpl_evaluate.sh", "vpl_run.sh", "vpl_execution"
PROGRAM, BUILT = "vpl_test", ".job-engine-run"
_COMMON, _ENVIRONMENT = "common_script.sh", "vpl_environment.sh"
_BEFORE = "pre_vpl_run.sh"
_DEFAULTS = (
    *("vpl_evaluate.cases", "vpl_evaluate.cpp", "evaluate.cases", ".vpl_tester"),
    *("vpl_compilation_error.txt", "vpl_debug.sh", "vpl_wexecution", "vpl_webexecution"),
)
"""What VPL's default scripts read, and make."""
_RESERVED = frozenset(
    (EVALUATE, RUN, EXECUTION, PROGRAM, BUILT, _COMMON, _ENVIRONMENT, _BEFORE, *_DEFAULTS)
)
"""Names that no file of a submission has: what is found there counts as the activity's."""
_ENCODED = ".b64"
"""How names of files end that are kept as base64: VPL keeps none but text."""
_MAX_ENCODED = 32 << 20
"""Size up to which a file of a submission is decoded, in memory."""
_UNTOLD = frozenset((".git", "node_modules"))
"""Directories whose files are not the student's."""
_MAX_NAMES = 100_000
"""Bytes of the names of files that scripts are told: Linux takes 128 KiB in one variable."""


def lay_out(settings: Settings) -> None:
    """Put the activity's files over the submission's, and what its scripts expect beside them."""
    bundle = settings["bundle"]
    decode_handed_in()
    # After that: what was decoded may have a name of these.
    drop_reserved()
    drop_links(bundle)
    students = files_below(".")
    put_all(bundle, ".", leave_out=_OWN)
    decode_own(bundle)
    write_environment(settings, students)
    for name in os.listdir("."):
        # What a link points to may be nobody's to change.
        if name.endswith(".sh") and os.path.isfile(name) and not os.path.islink(name):
            os.chmod(name, 0o755)
            if os.path.isfile(os.path.join(bundle, name)):
                name_shell(name)


def decode_handed_in() -> None:
    """Decode what was handed in as base64, but where there is something already, as VPL does."""
    for path in encoded_below("."):
        # A submission may be too deep, or take all the space; it goes without the file then.
        with contextlib.suppress(OSError, ValueError):
            if os.path.getsize(path) <= _MAX_ENCODED:
                decode(path, path.removesuffix(_ENCODED))


def decode_own(bundle: str) -> None:
    """Decode what the activity keeps as base64, over what the submission has in its place."""
    for path in encoded_below(bundle):
        target = path.removesuffix(_ENCODED)
        if not os.path.lexists(os.path.join(bundle, target)):
            clear(target)
            with contextlib.suppress(ValueError):
                decode(os.path.join(bundle, path), target)


def encoded_below(place: str) -> list[str]:
    """Return the paths of a directory's files that are base64, by their names."""
    return [
        os.path.relpath(entry.path, place)
        for entry in below(place)
        # A name that is nothing but the ending is not one that ends so.
        if os.path.splitext(entry.name)[1] == _ENCODED and entry.is_file(follow_symlinks=False)
    ]


def decode(source: str, target: str) -> None:
    """Decode base64 to a file that is not there yet; raises `ValueError` where it is none."""
    with open(source, "rb") as file:
        data = base64.b64decode(file.read())
    # Writes through no link.
    with open(target, "xb") as file:
        file.write(data)


def drop_reserved() -> None:
    """Remove what a submission has by a reserved name, and what would be one once decoded.

    A common script of the activity's own may decode, as VPL's does.
    """
    for name in os.listdir("."):
        plain = name
        while plain.endswith(_ENCODED):
            plain = plain.removesuffix(_ENCODED)
        if plain in _RESERVED:
            clear(name)


def drop_links(bundle: str) -> None:
    """Remove the links of a submission but for those to files of its own.

    No submission to VPL has any, and what a script prints to a file would be written through one:
    to a file of the activity's, or to one that it runs.
    """
    for entry in below("."):
        if entry.is_symlink() and not is_own(entry.path, bundle):
            with contextlib.suppress(OSError):
                os.unlink(entry.path)


def is_own(link: str, bundle: str) -> bool:
    """Whether a link leads to what the submission has, and the activity does not replace."""
    target = os.path.relpath(os.path.realpath(link))
    there = os.path.exists(link) and target.split(os.sep)[0] != os.pardir
    replaced = os.path.join(bundle, target)
    return there and not os.path.lexists(replaced) and not os.path.lexists(replaced + _ENCODED)


def below(place: str) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a directory and in those below it, links not followed; no directories.

    `os.walk` calls itself for each level before Python 3.12, and submissions may have thousands.
    """
    waiting = [place]
    while waiting:
        # What cannot be read is deeper than a path can say.
        entries: list[os.DirEntry[str]] = []
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as found:
            entries.extend(found)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            else:
                yield entry


def files_below(place: str) -> list[str]:
    """Return the paths of the files in a directory that scripts are told.

    Those of a directory come after its own; where there are too many, the last are left out.
    """
    files = (entry.path for entry in below(place) if not os.path.isdir(entry.path))
    found = [os.path.relpath(path, place) for path in files]
    told = [path for path in found if _UNTOLD.isdisjoint(path.split(os.sep)[:-1])]
    told.sort(key=lambda path: (path.count(os.sep), path))
    sizes = accumulate(len(os.fsencode(path)) + 1 for path in told)
    return told[: sum(size <= _MAX_NAMES for size in sizes)]


def name_shell(script: str) -> None:
    """Have a script of the activity that does not say its shell be bash's, as VPL does."""
    with open(script, "rb") as file:
        text = file.read()
    if not text.startswith(b"#!"):
        with open(script, "wb") as file:
            file.write(b"#!/bin/bash\n" + text)


def is_text(path: str) -> bool:
    """Whether a program is no binary: a script, which may not say its shell."""
    with open(path, "rb") as file:
        return b"\0" not in file.read(4096)


def write_environment(settings: Settings, students: list[str]) -> None:
    """Write the files that scripts of activities expect: variables, and common functions."""
    values = {
        "VPL_LANG": "C.UTF-8",
        "VPL_MAXTIME": f"{settings['max_time_s']:g}",
        "VPL_GRADEMIN": f"{settings['grade_min']:g}",
        "VPL_GRADEMAX": f"{settings['grade_max']:g}",
        "VPL_COMPILATIONFAILED": "The compilation or preparation of execution has failed",
        "VPL_VARIATION": "",
        "VPL_SUBFILES": "\n".join(students),
        **{f"VPL_SUBFILE{number}": name for number, name in enumerate(students)},
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    # Names of files need not be UTF-8.
    with open(_ENVIRONMENT, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\n".join(["#!/bin/bash", *lines]) + "\n")
    if not os.path.exists(_COMMON):
        shutil.copy(os.path.join(os.path.dirname(__file__), "vpl_common.sh"), _COMMON)
