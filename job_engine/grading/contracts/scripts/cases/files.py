"""Puts files into a directory that a submission has filled, or a program has."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable


def clear(path: str) -> None:
    """Remove what is at a path, whatever it is; nothing need be there."""
    if os.path.isdir(path) and not os.path.islink(path):
        # `shutil.rmtree` calls itself for each level, and programs make thousands.
        subprocess.run(["rm", "-rf", os.path.abspath(path)], check=False)
    elif os.path.lexists(path):
        os.unlink(path)


def put(source: str, root: str, path: str) -> None:
    """Copy a file to a path below a directory; it replaces what is in its way, links too.

    A link is copied as a link.
    """
    place = root
    for name in os.path.dirname(path).split(os.sep):
        place = os.path.join(place, name)
        make_directory(place)
    target = os.path.join(root, path)
    clear(target)
    shutil.copy2(source, target, follow_symlinks=False)


def put_all(source: str, target: str, leave_out: Iterable[str] = ()) -> None:
    """Copy what is in a directory, if there is one, into another; it replaces what is in its way.

    Links are copied as links; `leave_out` names directories in it that are not.
    """
    for directory, folders, files in os.walk(source):
        if directory == source:
            folders[:] = [name for name in folders if name not in leave_out]
        below = os.path.relpath(directory, source)
        make_directory(os.path.join(target, below))
        links = [name for name in folders if os.path.islink(os.path.join(directory, name))]
        for name in (*files, *links):
            put(os.path.join(directory, name), target, os.path.join(below, name))


def copy_tree(source: str, target: str) -> None:
    """Copy a directory, but for what cannot be: pipes, and what lies a thousand levels deep."""
    with contextlib.suppress(shutil.Error, RecursionError):
        shutil.copytree(source, target, symlinks=True)


def make_directory(place: str) -> None:
    """Have a directory at a place, and no link to one."""
    if os.path.islink(place) or not os.path.isdir(place):
        clear(place)
        os.mkdir(place)
