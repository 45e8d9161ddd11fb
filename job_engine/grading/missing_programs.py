"""Programs that an image lacks, which is a fault of the assignment, not of the submission.

Candidates are names in a phase's output. The output is hostile, so each name is looked up in the
image, in a sandbox without the submission, and only names that the assignment itself runs are
considered: programs of the phase's own command, and compilers, interpreters and the like in its
other commands and files. Otherwise a failing submission could print any missing name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import IO, Final

from job_engine.grading.assignment import Assignment
from job_engine.grading.plan import PROGRAM, Plan
from job_engine.grading.results import Outcome, Results
from job_engine.grading.split import SERVE_WORDS
from job_engine.model import FinalVerdict
from job_engine.sandbox.base import WORKSPACE, Inputs, Mount, PhaseResult, PhaseSpec, Sandbox, Tree

_NAMES: Final = """
R Rscript ant bats bazel c++ cabal cargo cc check50 clang clang++ cmake cobc csc dart dotnet
elixir erl expect fpc g++ gcc gdb gfortran ghc gnatmake go gradle iverilog java javac jq julia
kotlin kotlinc latex lua make mcs mono mvn mysql nasm node npm npx ocaml ocamlc octave perl php
pip pip3 prolog psql pypy3 pytest python python2 python3 racket ruby rustc sbcl scala scalac
sqlite3 stack swift swiftc swipl tsc valgrind yarn
"""
_TOOLS: Final = frozenset(_NAMES.split())
"""Tools whose absence may be the image's fault even if another program calls them."""
_C_TOOLS: Final = ("cc", "c++", "gcc", "g++")
_IMPLIED: Final = {"make": _C_TOOLS, "cmake": _C_TOOLS}
"""Tools that a command runs although they are not named."""
_NAME: Final = r"([A-Za-z0-9][A-Za-z0-9_.+-]{0,40})"
_NOT_FOUND: Final = re.compile(
    rf"(?:^|[^\w./+-]){_NAME}: (?:command )?not found|execvp {_NAME}: No such file", re.MULTILINE
)
_NO_SUCH_FILE: Final = re.compile(
    rf"(?:^|[^\w./+-]){_NAME}\W?: No such file or directory"
    rf"|No such file or directory: '{_NAME}'",
    re.MULTILINE,
)
"""Messages that are also printed for a missing file."""
_MAX_TEXT: Final = 65_536
_MAX_NAMES: Final = 8
_COMMAND_NOT_FOUND: Final = 127
_NOT_RUN: Final = (126, _COMMAND_NOT_FOUND)
_WORD: Final = re.compile(_NAME)
_COMMAND: Final = re.compile(
    rb"(?:^|[;&|(`\"'\[{!]|\b(?:do|else|env|exec|if|nohup|sudo|then|time|while|xargs)[ \t])[ \t]*"
    + _NAME.encode()
    + rb"(?=[\s\"'`\]);&|,]|$)",
    re.MULTILINE,
)
_CHUNK: Final = 1 << 20
_OVERLAP: Final = 64
"""Bytes of overlap between parts; longer than any name."""
_NOT_STARTED: Final = f"exit code {_COMMAND_NOT_FOUND}"
_PHASE: Final = "search"
_WORKDIR: Final = "/mnt/search"
_TREE: Final = Tree(name=WORKSPACE, size_bytes=2**20, inodes=64)
_Named = Callable[[Collection[str]], Sequence[str]]
"""Returns the names that the assignment runs."""
Search = Callable[[PhaseSpec, Sequence[str]], Sequence[str]]
"""Returns the names that are not programs in the image of a phase."""
_PROBE: Final = 'for name; do command -v "$name" >/dev/null 2>&1 || printf "%s\\n" "$name"; done'


def blame_image(
    results: Results,
    assignment: Assignment,
    plan: Plan,
    phases: Mapping[str, PhaseResult],
    search: Search,
    tests: IO[bytes] | None,
) -> Results:
    """Return the results, changed to a fault of the assignment if its image lacks a program.

    `tests` are the assignment's files, as an uncompressed tar; None: there are none.
    """
    found = next(
        (
            (spec, missing)
            for spec, names in _suspects(results, plan, phases, partial(_named, assignment, tests))
            if (missing := search(spec, names))
        ),
        None,
    )
    if found is None:
        return results
    spec, missing = found
    image = spec.image or plan.image
    where = f"the image {image}" if image else "the executors' default image"
    message = (
        f"The assignment cannot be graded: {where} has no {' and no '.join(missing)}, which the "
        f"phase {spec.name} needs. Install it there, or name another `image` in the assignment."
    )
    if _gave_results(results, assignment, spec):
        return results.model_copy(update={"notes": [*results.notes, message]})
    verdict = FinalVerdict.HARNESS_FAILED
    return results.model_copy(
        update={
            "outcome": Outcome.HARNESS_FAILED,
            "verdict": verdict,
            "fault": verdict.fault,
            "score": None,
            "message": message,
        }
    )


def _gave_results(results: Results, assignment: Assignment, spec: PhaseSpec) -> bool:
    """Return whether the tests gave points: then only a part of them needs the program."""
    return (
        results.outcome is Outcome.GRADED
        and spec.name != PROGRAM  # which never started
        and assignment.results.format != "stdout"
        and bool(results.score)
    )


def _suspects(
    results: Results, plan: Plan, phases: Mapping[str, PhaseResult], named: _Named
) -> Iterator[tuple[PhaseSpec, Sequence[str]]]:
    """Yield phases that may have failed because programs are missing, and the programs' names."""
    if results.lost_nothing or results.outcome is Outcome.LIMIT:
        return
    for spec in plan.specs:
        result = phases.get(spec.name)
        if result is None:
            continue
        names: Sequence[str] = ()
        if spec.name == PROGRAM:
            # Its output went to the harness, which reports how each run ended.
            ran = [test.output for test in results.tests]
            if ran and all(_NOT_STARTED in output for output in ran):
                names = sorted(_commands_of(spec))
        elif spec.name == "build" and not result.ok:
            own, tools = _printed(spec, result, [])
            names = [*own, *named(tools)]
        elif spec.name == "test":
            own, tools = _printed(spec, result, [test.output for test in results.tests])
            started = results.outcome is Outcome.GRADED and result.exit_code not in _NOT_RUN
            names = named(tools) if started else [*own, *named(tools)]
        if names:
            yield spec, names[:_MAX_NAMES]


def _printed(
    spec: PhaseSpec, result: PhaseResult, outputs: list[str]
) -> tuple[list[str], list[str]]:
    """Return the commands and the tools that a phase or its tests printed as not found."""
    streams = [
        data[-_MAX_TEXT:].decode("utf-8", "replace") for data in (result.stdout, result.stderr)
    ]
    lines = "\n".join([*streams, "\n".join(outputs)[-_MAX_TEXT:]])
    not_found = [name for match in _NOT_FOUND.findall(lines) for name in match]
    no_such_file = [name for match in _NO_SUCH_FILE.findall(lines) for name in match]
    commands = _commands_of(spec)
    own = dict.fromkeys(name for name in not_found if name in commands)
    tools = dict.fromkeys(name for name in [*not_found, *no_such_file] if name in _TOOLS)
    return [*own], [name for name in tools if name not in own]


def _named(
    assignment: Assignment, tests: IO[bytes] | None, names: Collection[str]
) -> Sequence[str]:
    """Return the names that are commands in the assignment or its files."""
    if not names:
        return []
    document = assignment.model_dump_json().replace("\\n", "\n").encode()
    found: set[str] = set()
    for text in (document, *_overlapping(tests)):
        found |= _commands_in(text)
    found |= {tool for command in found for tool in _IMPLIED.get(command, ())}
    return [name for name in names if name in found]


def _overlapping(tests: IO[bytes] | None) -> Iterator[bytes]:
    """Yield overlapping parts of a stream, so that each word is whole in one of them."""
    if tests is None:
        return
    tests.seek(0)
    before = b""
    while chunk := tests.read(_CHUNK):
        yield before + chunk
        before = chunk[-_OVERLAP:]
    tests.seek(0)


def _commands_of(spec: PhaseSpec) -> frozenset[str]:
    """Return the names that a phase's command may run."""
    command = spec.command[SERVE_WORDS:] if spec.name == PROGRAM else spec.command
    if command[:2] == ("sh", "-c"):
        return _commands_in(command[2].encode())
    return frozenset(command[:1]) if _WORD.fullmatch(command[0]) else frozenset()


def _commands_in(text: bytes) -> frozenset[str]:
    """Return the words at positions where a shell, a Makefile or a list of words has a program."""
    return frozenset(match.decode() for match in _COMMAND.findall(text))


def image_search(sandbox: Sandbox, plan: Plan, label: str) -> Search:
    """Return a search in the images of a plan's phases; `label` owns its slots."""

    def search(spec: PhaseSpec, names: Sequence[str]) -> Sequence[str]:
        probe = replace(
            spec,
            name=_PHASE,
            command=("sh", "-c", _PROBE, _PHASE, *names),
            mounts=(Mount(tree=WORKSPACE, target=_WORKDIR),),
            workdir=_WORKDIR,
            reach=(),
            kvm=False,
            handover=(),
            follow=None,
            companion=None,
            live=False,
        )
        slot = sandbox.prepare(label=label, phases=(probe,), trees=(_TREE,), image=plan.image)
        try:
            slot.go(Inputs())
            ended = [event for event in slot.collect() if isinstance(event, PhaseResult)]
        finally:
            slot.destroy()
        missing = {line for result in ended if result.ok for line in result.stdout.split()}
        return [name for name in names if name.encode() in missing]

    return search
