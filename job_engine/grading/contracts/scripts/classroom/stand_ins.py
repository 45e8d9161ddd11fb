"""Stand-ins for commands of GitHub's runners, in a sandbox without root and without a network."""

from __future__ import annotations

import os
import shlex

INSTALLERS = (
    "apt", "apt-get", "brew", "bundle", "conda", "gem", "npm", "pip", "pip3", "pipenv", "pnpm",
    "poetry", "uv", "yarn",
)  # fmt: skip
"""Commands that fetch packages. Where that fails, what they fetch has to be in the image."""
_SUDO = """\
while :; do
    case $1 in
    -u | -g | -C | -p) shift 2 ;;
    *=*) export "$1" && shift ;;
    -*) shift ;;
    *) break ;;
    esac
done
exec "$@"
"""
_INSTALLER = """\
# Set by python -m pip.
_je_real=${JOB_ENGINE_PYTHON:+$JOB_ENGINE_PYTHON -m pip}
[ -n "$_je_real" ] || _je_real=$(PATH=$_je_original command -v "$_je_name") || case $_je_name in
pip*) _je_real="$(PATH=$_je_original command -v python3) -m pip" ;;
esac
_je_installs=
for _je_word; do
    case $_je_word in
    run | run-script | exec | test | t | start) break ;;
    install | i | ci | add | update | upgrade | sync) _je_installs=1 && break ;;
    esac
done
# Two that install when nothing else is said.
case "$_je_name $#" in "yarn 0" | "bundle 0") _je_installs=1 ;; esac
if [ -z "$_je_installs" ]; then
    [ -n "$_je_real" ] || { echo "$_je_name: command not found" >&2; exit 127; }
    # shellcheck disable=SC2086 # it may be several words
    exec $_je_real "$@"
fi
# It would remove what is there before it finds that it cannot fetch it.
[ "$_je_name $1" != "npm ci" ] || [ ! -d node_modules ] || exit 0
_je_limit="timeout 60"
command -v timeout >/dev/null || _je_limit=
# shellcheck disable=SC2086
if [ -n "$_je_real" ] && $_je_limit $_je_real "$@"; then exit 0; fi
echo "$_je_name $*" >>"$_je_failed"
"""
_PYTHON = """\
_je_real=$(PATH=$_je_original command -v "$_je_name" || PATH=$_je_original command -v python3)
if [ "$1 $2" = "-m pip" ]; then
    shift 2
    JOB_ENGINE_PYTHON=$_je_real exec pip "$@"
fi
exec "$_je_real" "$@"
"""
_PYTEST = """\
exec python3 -m pytest "$@"
"""


def write(directory: str, path: str) -> tuple[str, str]:
    """Write the stand-ins below a directory, for a search path.

    Returns the search path that has them, and the file to which those of `INSTALLERS` add the
    commands that failed.
    """
    first, last = os.path.join(directory, "first"), os.path.join(directory, "last")
    failed = os.path.join(directory, "failed")
    os.mkdir(first)
    os.mkdir(last)
    # Where the image has it, it would ask for root all the same; most that call it need none.
    _put(first, "sudo", _SUDO)
    for name in INSTALLERS:
        _put(first, name, _INSTALLER, original=path, failed=failed)
    for name in ("python", "python3"):
        _put(first, name, _PYTHON, original=path)
    # Stands in for what is missing only.
    _put(last, "pytest", _PYTEST)
    return os.pathsep.join([first, path, last]), failed


def failures(failed: str) -> list[str]:
    """Return the commands that failed since the last call."""
    try:
        with open(failed, encoding="utf-8", errors="replace") as file:
            commands = [line.strip() for line in file]
        os.unlink(failed)
    except OSError:
        return []
    return commands


def _put(directory: str, name: str, script: str, **variables: str) -> None:
    # What is the environment's keeps its value for the command that the script ends in.
    lines = [
        f"_je_{key}={shlex.quote(value)}" for key, value in {"name": name, **variables}.items()
    ]
    with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
        file.write("\n".join(["#!/bin/sh", *lines, script]))
    os.chmod(file.name, 0o755)
